"""Which items of a batch belong together and which are held apart: index pairs, never a B x B mask.

An item is one recording of one word. A word is a base and a tone; two words of one base differ by tone alone.

    cross_gender_pairs   positives: the same word by the other gender     no negatives: the same base, whoever speaks
    tone_pairs           positives: the same word                         no negatives: the same word

Everything else is a negative: for tones those are hard (same base, other tone) and soft (other base). The base alone as
the positive of L_spk would reward a model that hears no tone. Its items of another tone are left to L_tone;
`other_tones_repel` makes them negatives of L_spk too.

Where items from an earlier batch stand after those of this one, `anchors` says how many are of this one: the others
attract and repel, but ask for nothing themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

UNKNOWN = -1  # a gender that the corpus does not give


@dataclass(frozen=True)
class Items:
    """What each recording is, as numbers; all arrays (B,)."""

    base: np.ndarray
    tone: np.ndarray
    gender: np.ndarray
    speaker: np.ndarray

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, chosen: np.ndarray) -> Items:
        return Items(self.base[chosen], self.tone[chosen], self.gender[chosen], self.speaker[chosen])

    def followed_by(self, others: Items) -> Items:
        return Items(*(np.concatenate(both) for both in zip(self.columns, others.columns)))

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.base, self.tone, self.gender, self.speaker

    @property
    def word(self) -> np.ndarray:
        """A number for each base and tone."""
        return self.base.astype(np.int64) * (int(self.tone.max(initial=0)) + 1) + self.tone


@dataclass(frozen=True)
class Pairs:
    """Of a batch of `size` items. An anchor with nothing to be told from counts for nothing, so it has no pair here."""

    anchor: np.ndarray  # (P,)
    positive: np.ndarray  # (P,)
    excepted: tuple[np.ndarray, np.ndarray]  # row, column of similarities that are no negatives; the diagonal too
    size: int
    rows: int  # the first so many items may be anchors

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def valid_anchors(self) -> int:
        """Items that the loss says something about."""
        return len(np.unique(self.anchor))

    def at_most(self, positives: int, random: np.random.Generator) -> Pairs:
        """So many positives of each anchor, drawn anew: or the words that come most often are most of the mean."""
        order = np.lexsort((random.random(len(self)), self.anchor))
        _, start, count = np.unique(self.anchor[order], return_index=True, return_counts=True)
        kept = np.sort(order[np.arange(len(order)) - np.repeat(start, count) < positives])
        return replace(self, anchor=self.anchor[kept], positive=self.positive[kept])


def cross_gender_pairs(items: Items, other_tones_repel: bool = False, anchors: int | None = None) -> Pairs:
    anchor, positive = pairs_within(items.word)
    gender = items.gender
    crossed = (gender[anchor] != gender[positive]) & (gender[anchor] != UNKNOWN) & (gender[positive] != UNKNOWN)
    return _pairs(anchor[crossed], positive[crossed], items.word if other_tones_repel else items.base, anchors)


def tone_pairs(items: Items, anchors: int | None = None) -> Pairs:
    return _pairs(*pairs_within(items.word), items.word, anchors)


def pairs_within(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with i != j in one group; as many as the squares of the groups' sizes make, not B x B."""
    order = np.argsort(group, kind="stable")
    _, start, count = np.unique(group[order], return_index=True, return_counts=True)
    start, count = np.repeat(start, count), np.repeat(count, count)  # of the group of each position
    first = np.repeat(np.arange(len(order)), count)
    begins = np.cumsum(count) - count
    second = np.arange(len(first)) - np.repeat(begins - start, count)
    apart = first != second
    return order[first[apart]], order[second[apart]]


def _pairs(anchor: np.ndarray, positive: np.ndarray, group: np.ndarray, anchors: int | None) -> Pairs:
    """`group` is what has no negatives within."""
    rows = len(group) if anchors is None else anchors
    _, of_item, count = np.unique(group, return_inverse=True, return_counts=True)
    has_negatives = (count < len(group))[of_item.reshape(-1)]
    kept = has_negatives[anchor] & (anchor < rows)
    itself = np.arange(rows)
    row, column = pairs_within(group)
    excepted = np.concatenate([itself, row[row < rows]]), np.concatenate([itself, column[row < rows]])
    return Pairs(anchor[kept], positive[kept], excepted, len(group), rows)
