"""The rates, each by name, and a test set scored by them.

>>> scored = score([Utterance("a", "我beh去", "我 BE 去")], script("hanlo"))
>>> {key: f"{rate.percent:.1f}" for key, rate in scored.items()}
{'cer': '20.0', 'mixed': '33.3'}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from icefall_ext.errors import UserError
from icefall_ext.score.alignment import Alignment, Counts, align, count
from icefall_ext.score.units import HanloPair, TailoPair

SCRIPTS = ("hanlo", "tailo")
WRITTEN_TONES = ("citation", "surface")
TONE5 = ("south", "north")


class Utterance(NamedTuple):
    id: str
    ref: str
    hyp: str


@dataclass(frozen=True)
class Rate:
    key: str  # in file names
    name: str
    align: Callable[[Any], Alignment]  # takes a pair as `Script.read` makes it


@dataclass(frozen=True)
class Script:
    name: str
    read: Callable[[str, str], Any]
    rates: tuple[Rate, ...]  # the main figure first
    icefall_rate: str  # key of the rate that icefall would report, over the tokens of a recogs file; may be none
    tokens: Callable[[Any], tuple[list[str], list[str]]]  # these tokens, of a pair


_HANLO = Script(
    "hanlo",
    HanloPair,
    (
        Rate("cer", "strict CER", lambda pair: align(*pair.characters())),
        Rate("mixed", "mixed rate", lambda pair: align(*pair.tokens())),
    ),
    "mixed",
    HanloPair.tokens,
)


def script(name: str, *, tone5: str = "south", written: str = "citation") -> Script:
    """How texts of this script are read and scored.

    `tone5` is what sandhi makes of tone 5; `written` says whether the tones in Tai-lo text are citation tones, and
    then surface tones are worked out on both sides, or surface tones already.
    """
    if name not in SCRIPTS or written not in WRITTEN_TONES:
        raise ValueError(f"script {name!r}, written {written!r}: {SCRIPTS}, {WRITTEN_TONES}")
    if name == "hanlo":
        return _HANLO
    citation = Rate("tone", "tone error rate", TailoPair.aligned_tones)
    surface = Rate("surface-tone", "surface tone error rate", lambda pair: pair.aligned_surface_tones(tone5))
    as_spelt = Rate("surface-tone", "surface tone error rate", TailoPair.aligned_tones)
    return Script(
        "tailo",
        TailoPair,
        (
            Rate("syllable", "syllable error rate", lambda pair: align(*pair.syllables())),
            Rate("base", "syllable error rate, tones ignored", lambda pair: align(*pair.bases())),
            *((citation, surface) if written == "citation" else (as_spelt,)),
            Rate("word", "word error rate", lambda pair: align(*pair.words())),
        ),
        "word",
        TailoPair.words,
    )


def tones_only(tone5: str = "south") -> Script:
    """For text that was turned into Tai-lo: its words are nobody's spelling."""
    whole = script("tailo", tone5=tone5)
    return replace(whole, rates=tuple(rate for rate in whole.rates if rate.key != whole.icefall_rate), icefall_rate="")


@dataclass(frozen=True)
class Scored:
    """One rate over a test set."""

    rate: Rate
    alignments: dict[str, Alignment]  # by id, in the order of ids

    @cached_property
    def counts(self) -> np.ndarray:
        """[utterances, 4]: insertions, deletions, substitutions, correct."""
        return np.array([count(alignment) for alignment in self.alignments.values()], dtype=np.int64).reshape(-1, 4)

    @property
    def errors(self) -> np.ndarray:
        """[utterances]"""
        return self.counts[:, :3].sum(axis=1)

    @property
    def units(self) -> np.ndarray:
        """[utterances], of the reference."""
        return self.counts[:, 1:].sum(axis=1)

    @property
    def total(self) -> Counts:
        return Counts(*self.counts.sum(axis=0).tolist())

    @property
    def percent(self) -> float:
        return 100 * self.total.errors / self.total.units


def _stop_if_not_text(id: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{id}: its text holds half a surrogate pair: bytes that were decoded wrongly") from None


def score(utterances: Iterable[Utterance], script: Script) -> dict[str, Scored]:
    """Every rate of the script, by key; utterances in any order. A test set without anything to score is an error."""
    in_order = sorted(utterances)
    alignments: dict[str, dict[str, Alignment]] = {rate.key: {} for rate in script.rates}
    for id, ref, hyp in in_order:
        _stop_if_not_text(id, ref + hyp)
        pair = script.read(ref, hyp)
        for rate in script.rates:
            if id in alignments[rate.key]:
                raise UserError(f"{id}: two utterances have this id; each counts once")
            alignments[rate.key][id] = rate.align(pair)
    if not in_order:
        raise UserError("the test set is empty: no utterance to score")
    scored = {rate.key: Scored(rate, alignments[rate.key]) for rate in script.rates}
    for rate in scored.values():
        if not rate.total.units:
            raise UserError(
                f"{rate.rate.name}: nothing to count in the {len(in_order):,} references, the first is"
                f" {in_order[0].ref!r} ({in_order[0].id}); is the script {script.name}?"
            )
    return scored
