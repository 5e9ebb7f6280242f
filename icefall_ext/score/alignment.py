"""Which unit of the hypothesis answers which unit of the reference, and what that counts as.

`align` is the usual edit distance (kaldialign, the code behind icefall's figures). It has no opinion about which of
several alignments with equally few errors is meant; for tones that matters, so `align_syllables` looks into the
syllables to choose among them:

    reference         gua2 beh4 khi3
    hypothesis        gua2      khi7      khi3 recognised as khi7, not beh4 as khi7 and khi3 lost

It takes the alignment with the fewest errors first, so tone errors are never more than syllable errors, and among these
the one that costs least:

| pair | cost |
|---|---|
| deleted, inserted | 4 |
| other initial, other final, other tone | 2, 3 and 1, added up |

A tone weighs least: where bases differ, an alignment that prefers equal tones would flatter the tones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import kaldialign
import numpy as np

from icefall_ext.text.tailo import Syllable

Pair = tuple[str | None, str | None]  # None: inserted (no reference) or deleted (no hypothesis)
Alignment = list[Pair]
Places = tuple[int | None, int | None]  # the same by position

_ERROR = 1 << 20  # outweighs whatever the costs of a text may add up to
_GAP, _INITIAL, _FINAL, _TONE = _ERROR + 4, 2, 3, 1


class Counts(NamedTuple):
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    correct: int = 0

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    @property
    def units(self) -> int:
        """In the reference."""
        return self.deletions + self.substitutions + self.correct


def count(alignment: Iterable[Pair]) -> Counts:
    insertions = deletions = substitutions = correct = 0
    for ref, hyp in alignment:
        if ref == hyp:
            correct += 1
        elif ref is None:
            insertions += 1
        elif hyp is None:
            deletions += 1
        else:
            substitutions += 1
    return Counts(insertions, deletions, substitutions, correct)


def align(ref: Sequence[str], hyp: Sequence[str]) -> Alignment:
    """With the fewest insertions, deletions and substitutions."""
    number_of: dict[str, int] = {}
    refs, hyps = ([number_of.setdefault(unit, len(number_of)) for unit in units] for units in (ref, hyp))
    if refs == hyps:
        return list(zip(ref, hyp))
    # Numbers, because a text may hold any string that would stand for a gap, `*` too. Number -1 is the last: None.
    units = [*number_of, None]
    return [(units[i], units[j]) for i, j in kaldialign.align(refs, hyps, -1)]


def align_places(ref: Sequence[str], hyp: Sequence[str]) -> list[Places]:
    """The same as places in `ref` and `hyp`."""
    refs, hyps = iter(range(len(ref))), iter(range(len(hyp)))
    return [(None if r is None else next(refs), None if h is None else next(hyps)) for r, h in align(ref, hyp)]


def align_syllables(ref: Sequence[Syllable | str], hyp: Sequence[Syllable | str]) -> list[Places]:
    """Places in `ref` and `hyp`. A string is something that is no syllable; it equals itself alone."""
    if list(ref) == list(hyp):
        return [(i, i) for i in range(len(ref))]
    cost = _substitution_costs(ref, hyp)
    total = np.empty((len(ref) + 1, len(hyp) + 1), dtype=np.int64)
    gaps = _GAP * np.arange(len(hyp) + 1)
    total[0] = gaps
    for i in range(len(ref)):
        row = total[i] + _GAP
        np.minimum(row[1:], total[i, :-1] + cost[i], out=row[1:])
        total[i + 1] = np.minimum.accumulate(row - gaps) + gaps  # any number of insertions after the best of these
    return _trace_back(total, cost)


def _substitution_costs(ref: Sequence[Syllable | str], hyp: Sequence[Syllable | str]) -> np.ndarray:
    """[len(ref), len(hyp)]"""
    cost = np.zeros((len(ref), len(hyp)), dtype=np.int64)
    for part, weight in (("initial", _INITIAL), ("final", _FINAL), ("tone", _TONE)):
        number_of: dict[object, int] = {}
        refs, hyps = (
            [number_of.setdefault(_part(unit, part), len(number_of)) for unit in units] for units in (ref, hyp)
        )
        cost += weight * (np.asarray(refs)[:, None] != np.asarray(hyps)[None, :])
    return cost + _ERROR * (cost > 0)


def _part(unit: Syllable | str, part: str) -> object:
    return ("not a syllable", unit) if isinstance(unit, str) else getattr(unit, part)


def _trace_back(total: np.ndarray, cost: np.ndarray) -> list[Places]:
    i, j = cost.shape
    pairs: list[Places] = []
    while i or j:
        if i and j and total[i, j] == total[i - 1, j - 1] + cost[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and total[i, j] == total[i - 1, j] + _GAP:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]
