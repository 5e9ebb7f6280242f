"""The utterances of a system for the browser, and its most frequent errors, by the alignment of its main rate.

A row is [id, reference, hypothesis, alignment, errors, units]. To keep a page of many utterances small, a hypothesis
without errors is 0, as is its alignment; a pair of equal units is that unit, and 0 stands for nothing in a pair.

Tai-lo syllables are aligned as for the tone rates, and not as for errs files: with as few errors, but so that equal
bases are paired and a wrong tone looks like one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from icefall_ext.errors import UserError
from icefall_ext.score.alignment import Alignment, Pair, align_syllables
from icefall_ext.score.error_rates import Scored, Utterance, score, script
from icefall_ext.score.inputs import utterances_of_recogs
from icefall_ext.score.report.experiment import Experiment, Result
from icefall_ext.score.units import TailoPair
from icefall_ext.text import hanlo


@dataclass(frozen=True)
class Listed:
    """What one system recognised, utterance by utterance."""

    result: Result
    rows: list[list[Any]]
    errors: Errors

    @property
    def worst_first(self) -> list[str]:
        rate = {row[0]: (row[4] / max(row[5], 1), row[4]) for row in self.rows}
        return sorted(rate, key=lambda id: (-rate[id][0], -rate[id][1], id))


@dataclass(frozen=True)
class Errors:
    pairs: Counter[Pair]

    def substitutions(self, most: int) -> list[tuple[Pair, int]]:
        return self._frequent(lambda ref, hyp: ref is not None and hyp is not None and ref != hyp, most)

    def deletions(self, most: int) -> list[tuple[Pair, int]]:
        return self._frequent(lambda ref, hyp: hyp is None, most)

    def insertions(self, most: int) -> list[tuple[Pair, int]]:
        return self._frequent(lambda ref, hyp: ref is None, most)

    @cached_property
    def in_reference(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (ref, _), count in self.pairs.items():
            if ref is not None:
                found[ref] += count
        return found

    def _frequent(self, wanted, most: int) -> list[tuple[Pair, int]]:
        """Of equally frequent ones the first by name."""
        found = [(pair, count) for pair, count in self.pairs.items() if wanted(*pair)]
        return sorted(found, key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))[:most]


def list_utterances(experiment: Experiment) -> list[Listed]:
    """Of every system whose recogs file is here and agrees with its scores."""
    listed = []
    for result in experiment.results:
        if result.recogs is None or result.is_as_tailo:
            continue
        try:
            utterances = utterances_of_recogs(result.recogs)
            scored = _main_rate(result, utterances)
        except UserError as error:
            experiment.gaps.append(f"{error}; its utterances are not shown")
            continue
        if scored.total.errors != _errors(result.main) or scored.total.units != result.main["units"]:
            experiment.gaps.append(
                f"{result.recogs} is not what its scores are of; score it again to see its utterances"
            )
            continue
        texts = {u.id: (u.ref, u.hyp) for u in utterances}
        rows = [_row(result.script, id, *texts[id], alignment) for id, alignment in scored.alignments.items()]
        pairs = Counter(pair for alignment in scored.alignments.values() for pair in alignment)
        listed.append(Listed(result, rows, Errors(pairs)))
    return listed


def tone_errors(tones: dict[str, Any]) -> Errors:
    """From a matrix as `System.as_object` gives it: lost tones in the last column, inserted ones in the last row."""
    names = [*map(str, tones["tones"]), None]
    return Errors(
        Counter(
            {
                (ref, hyp): count
                for ref, counts in zip(names, tones["counts"])
                for hyp, count in zip(names, counts)
                if count
            }
        )
    )


def _main_rate(result: Result, utterances: list[Utterance]) -> Scored:
    whole = script(result.script)
    rate = whole.rates[0]
    if result.script == "tailo":
        rate = replace(rate, align=_pairs_of_syllables)
    (scored,) = score(utterances, replace(whole, rates=(rate,))).values()
    return scored


def _pairs_of_syllables(pair: TailoPair) -> Alignment:
    ref, hyp = pair.syllables()
    places = align_syllables(*(text.syllables for text in pair.texts))
    return [(None if i is None else ref[i], None if j is None else hyp[j]) for i, j in places]


def _errors(rate: dict[str, Any]) -> int:
    return rate["insertions"] + rate["deletions"] + rate["substitutions"]


def _row(script: str, id: str, ref: str, hyp: str, alignment: list[Pair]) -> list[Any]:
    if script == "hanlo":
        ref, hyp = hanlo.normalize(ref), hanlo.normalize(hyp)
    wrong = sum(one != other for one, other in alignment)
    units = sum(one is not None for one, _ in alignment)
    if not wrong:
        return [id, ref, 0, 0, 0, units]
    return [id, ref, hyp, [one if one == other else [one or 0, other or 0] for one, other in alignment], wrong, units]
