"""Which items of a batch belong together and which are held apart: index pairs, never a B x B mask.

An item is one recording of one word. A word is a base and a tone; two words of one base differ by tone alone.

    cross_gender_pairs   positives: the same word by the other gender     no negatives: the same base, whoever speaks
    tone_pairs           positives: the same word                         no negatives: the same word

Everything else is a negative: for tones those are hard (same base, other tone) and soft (other base). The base alone as
the positive of L_spk would reward a model that hears no tone. Its items of another tone are left to L_tone;
`other_tones_repel` makes them negatives of L_spk too.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def valid_anchors(self) -> int:
        """Items that the loss says something about."""
        return len(np.unique(self.anchor))


def cross_gender_pairs(items: Items, other_tones_repel: bool = False) -> Pairs:
    anchor, positive = pairs_within(items.word)
    gender = items.gender
    crossed = (gender[anchor] != gender[positive]) & (gender[anchor] != UNKNOWN) & (gender[positive] != UNKNOWN)
    return _pairs(anchor[crossed], positive[crossed], items.word if other_tones_repel else items.base)


def tone_pairs(items: Items) -> Pairs:
    return _pairs(*pairs_within(items.word), items.word)


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


def _pairs(anchor: np.ndarray, positive: np.ndarray, group: np.ndarray) -> Pairs:
    """`group` is what has no negatives within."""
    _, of_item, count = np.unique(group, return_inverse=True, return_counts=True)
    has_negatives = (count < len(group))[of_item.reshape(-1)]
    kept = has_negatives[anchor]
    itself = np.arange(len(group))
    row, column = pairs_within(group)
    excepted = np.concatenate([itself, row]), np.concatenate([itself, column])
    return Pairs(anchor[kept], positive[kept], excepted, len(group))
