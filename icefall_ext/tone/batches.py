"""Batches of words that contrastive losses can learn from: bases x tones x genders, known beforehand.

In a batch drawn at random, few words find themselves spoken by the other gender. So a base comes as a block: so many of
its tones, and of each so many recordings by women and by men.

An epoch takes every recording at least once. A base makes as many blocks as its most recorded word and gender needs;
where there are fewer recordings they come round again, so a rare one is heard more often. In each round the
bases that still have blocks stand in a random order, and a batch is `bases` of them (up to twice as many where a round
does not divide); a round with fewer is filled up with blocks of the others. What an epoch holds is a function of the
labels, the shape, the seed and the epoch. With several processes the number of batches is made to divide by repeating
the first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icefall_ext.cli import option
from icefall_ext.errors import UsageError
from icefall_ext.tone.pairs import UNKNOWN, Items, Pairs


@dataclass
class BatchShape:
    bases: int = option(8, "bases in a batch, or somewhat more")
    tones: int = option(0, "tones of each base in a batch; 0: all that it has")
    takes: int = option(1, "recordings of each word by each gender")

    def check(self) -> None:
        if self.bases < 2 or self.tones < 0 or self.takes < 1:
            raise UsageError(f"--shape.bases {self.bases}: at least 2, to be told apart; --shape.tones {self.tones}: "
                             f"not below 0; --shape.takes {self.takes}: at least 1")
        if self.tones == 1:
            raise UsageError("--shape.tones 1: a base in one tone has none to be told from; take 2, or 0 for all")


def word_batches(items: Items, shape: BatchShape, seed: int, epoch: int, world_size: int = 1) -> list[np.ndarray]:
    """The batches of one epoch, in order, for all processes: numbers of items."""
    random = np.random.default_rng((seed, epoch))
    blocks = {base: _blocks(cells, shape, random) for base, cells in _by_base(items).items()}
    bases = np.array(sorted(blocks))
    batches = []
    for number in range(max(map(len, blocks.values()), default=0)):
        due = random.permutation([base for base in bases if number < len(blocks[base])])
        others = random.permutation([base for base in bases if number >= len(blocks[base])])
        due = np.concatenate([due, others[: max(0, shape.bases - len(due))]]).astype(int)
        for chosen in np.array_split(due, max(1, len(due) // shape.bases)):
            batches.append(np.concatenate([blocks[base][number % len(blocks[base])] for base in chosen]))
    batches = [batches[i] for i in random.permutation(len(batches))]
    return batches + [batches[i % len(batches)] for i in range(-len(batches) % world_size if batches else 0)]


def _by_base(items: Items) -> dict[int, dict[int, dict[int, np.ndarray]]]:
    """base -> tone -> gender -> numbers of items."""
    found: dict[int, dict[int, dict[int, list[int]]]] = {}
    for number, (base, tone, gender) in enumerate(zip(items.base.tolist(), items.tone.tolist(), items.gender.tolist())):
        found.setdefault(base, {}).setdefault(tone, {}).setdefault(gender, []).append(number)
    return {
        base: {tone: {g: np.array(numbers) for g, numbers in sorted(of.items())} for tone, of in sorted(tones.items())}
        for base, tones in found.items()
    }


def _blocks(
    tones: Mapping[int, Mapping[int, np.ndarray]], shape: BatchShape, random: np.random.Generator
) -> list[np.ndarray]:
    """A base's share of an epoch. With fewer tones to a block than there are, they are dealt out anew each epoch."""
    blocks = []
    parts = -(-len(tones) // shape.tones) if shape.tones else 1
    for chosen in np.array_split(random.permutation(sorted(tones)), parts):
        cells = [numbers for tone in chosen.tolist() for numbers in tones[tone].values()]
        rounds = -(-max(map(len, cells)) // shape.takes)
        dealt = [_handfuls(cell, rounds, shape.takes, random) for cell in cells]
        blocks += [np.concatenate([of_cell[number] for of_cell in dealt]) for number in range(rounds)]
    return blocks


def _handfuls(cell: np.ndarray, rounds: int, takes: int, random: np.random.Generator) -> list[np.ndarray]:
    """`takes` different recordings each, or all that there are; round and round in one random order."""
    order, takes = random.permutation(cell), min(takes, len(cell))
    return [order[np.arange(number * takes, (number + 1) * takes) % len(order)] for number in range(rounds)]


def spoken_by_one_gender(items: Items) -> list[tuple[int, int]]:
    """(base, tone) of words that the cross-gender loss has no pair for."""
    genders: dict[tuple[int, int], set[int]] = {}
    for base, tone, gender in zip(items.base.tolist(), items.tone.tolist(), items.gender.tolist()):
        genders.setdefault((base, tone), set()).add(gender)
    return sorted(word for word, known in genders.items() if len(known - {UNKNOWN}) < 2)


def valid_anchor_rate(items: Items, batches: Sequence[np.ndarray], pairs_of: Callable[[Items], Pairs]) -> float:
    """Of the items in these batches, the share that has a pair; `pairs_of` is a function of tone/pairs.py."""
    valid = sum(pairs_of(items[batch]).valid_anchors for batch in batches)
    return valid / max(sum(map(len, batches)), 1)
