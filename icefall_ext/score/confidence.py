"""How far a rate would move with other speakers: 95 % intervals by bootstrap (Bisani and Ney, ICASSP 2004).

The errors of one speaker go together, so whole speakers are drawn with replacement, not utterances: intervals over
utterances are too narrow by a factor that grows with the number of utterances per speaker. With n clusters (speakers)
drawn n times, a resampled rate is sum(errors) / sum(units) of those drawn; the interval is from its 2.5th to its
97.5th percentile. The same seed draws the same clusters for every rate and every system of a test set, so systems are
compared pair by pair. With fewer than about ten speakers any such interval is too narrow: read it as a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_DRAWS_AT_A_TIME = 2_000_000


class Interval(NamedTuple):
    """In percent."""

    low: float
    high: float


class Comparison(NamedTuple):
    """The second system against the first; a negative difference is an improvement."""

    difference: float  # in percent points
    interval: Interval | None
    better: float | None  # in which share of the resamples the second one is better; a tie is half


@dataclass(frozen=True)
class Bootstrap:
    cluster_of: np.ndarray  # [utterances], numbers from 0
    what: str  # that is drawn, in words: "8 speakers"
    resamples: int
    seed: int

    @property
    def clusters(self) -> int:
        return int(self.cluster_of.max()) + 1

    def intervals(self, errors: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[Interval | None]:
        """Of sum(errors) / sum(units) for several rates at once, [utterances] each.

        None if there is but one cluster. Resamples in which there is nothing to divide by are left out.
        """
        if self.clusters < 2:
            return [None] * len(errors)
        wrong, of = np.split(self._sums(np.stack([*errors, *units], axis=1)).T, 2)
        return [_percentiles(w[u > 0] / u[u > 0]) for w, u in zip(wrong, of)]

    def compare(self, first: np.ndarray, second: np.ndarray, units: np.ndarray) -> Comparison:
        """The errors of two systems on the same utterances, [utterances] each."""
        difference = 100 * float(second.sum() - first.sum()) / float(units.sum())
        if self.clusters < 2:
            return Comparison(difference, None, None)
        gained, of = self._sums(np.stack([second - first, units], axis=1)).T
        gained, of = gained[of > 0], of[of > 0]
        better = float(np.mean(gained < 0) + np.mean(gained == 0) / 2)
        return Comparison(difference, _percentiles(gained / of), better)

    def _sums(self, columns: np.ndarray) -> np.ndarray:
        """[utterances, C] -> [resamples, C]: sums over the clusters drawn. Exact: whole numbers below 2^53."""
        of_cluster = np.zeros((self.clusters, columns.shape[1]))
        np.add.at(of_cluster, self.cluster_of, columns)
        return np.concatenate([times @ of_cluster for times in self._times_drawn()])

    def _times_drawn(self) -> Iterator[np.ndarray]:
        """[part of the resamples, clusters]: how often each cluster was drawn."""
        generator, clusters = np.random.default_rng(self.seed), self.clusters
        at_a_time = max(1, _DRAWS_AT_A_TIME // clusters)
        for start in range(0, self.resamples, at_a_time):
            rows = min(at_a_time, self.resamples - start)
            drawn = generator.integers(clusters, size=(rows, clusters))
            drawn += clusters * np.arange(rows)[:, None]
            yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(float)


def _percentiles(rates: np.ndarray) -> Interval | None:
    if not len(rates):
        return None
    low, high = np.percentile(100 * rates, [2.5, 97.5])
    return Interval(float(low), float(high))


def bootstrap(
    ids: Sequence[str], speaker_of: Mapping[str, str | None], *, resamples: int = 10_000, seed: int = 0
) -> Bootstrap:
    """Over speakers; over utterances, and `what` says why, when a speaker is unknown or there is only one."""
    if resamples < 1000:
        raise ValueError(f"{resamples} resamples: the percentiles need 1,000 or more")
    speakers = [speaker_of.get(id) for id in ids]
    unknown, known = sum(not speaker for speaker in speakers), {speaker for speaker in speakers if speaker}
    if not unknown and len(known) > 1:
        names, what = speakers, f"{len(known):,} speakers"
    else:
        names, what = list(ids), f"{len(ids):,} utterances"
        if not known:
            what += ", as no speaker is known"
        elif unknown:
            what += f", as {unknown:,} of them have no speaker"
        else:
            what += ", as there is only one speaker"
    in_order = sorted(set(names))  # so that the order of utterances plays no part
    number_of = {name: number for number, name in enumerate(in_order)}
    return Bootstrap(np.array([number_of[name] for name in names]), what, resamples, seed)
