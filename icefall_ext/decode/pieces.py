"""Long audio in pieces that a model can take, cut where it is quietest. Nothing is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from icefall_ext.encoders.spec import SAMPLE_RATE

_STEP = SAMPLE_RATE // 100
_PAUSE = 30  # steps over which quietness is measured: shorter silences are the closures of plosives
_FROM = 0.4  # of the longest piece: where the search for a pause begins


def in_pieces(blocks: Iterable[np.ndarray], longest: float) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples), one after another, each of at most `longest` seconds; audio no longer stays whole."""
    limit = int(longest * SAMPLE_RATE)
    waiting: list[np.ndarray] = []
    count = start = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        while count > limit:
            whole = np.concatenate(waiting)
            cut = quietest(whole[:limit])
            yield start, whole[:cut]
            waiting, count, start = [whole[cut:]], count - cut, start + cut
    if count:
        yield start, np.concatenate(waiting)


def quietest(samples: np.ndarray) -> int:
    """The middle of the quietest 0.3 s, the first two fifths aside; in a longer silence its middle."""
    steps = len(samples) // _STEP
    if steps <= _PAUSE:
        return len(samples)
    energy = np.square(samples[: steps * _STEP].reshape(steps, _STEP), dtype=np.float64).sum(axis=1)
    sums = np.concatenate(([0.0], energy.cumsum()))
    around = sums[_PAUSE:] - sums[:-_PAUSE]
    first = min(int(_FROM * steps), len(around) - 1)
    lowest = around[first:].min()
    equal = first + np.flatnonzero(around[first:] <= lowest + 1e-9)
    return (int(equal[len(equal) // 2]) + _PAUSE // 2) * _STEP
