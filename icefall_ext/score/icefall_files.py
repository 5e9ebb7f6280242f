"""icefall's result files, written and read: recogs-*.txt, errs-*.txt, wer-summary-*.txt.

    recogs-{set}-{key}-{suffix}.txt     id:<tab>ref=['list', 'of', 'tokens']
                                        id:<tab>hyp=['list', 'of', 'tokens']
    errs-{set}-{key}-{suffix}.txt       totals, then the sections that its third line names
    wer-summary-{set}-{key}-{suffix}.txt    settings<tab>WER, the best first

The lists are Python literals, so quotes, brackets and line ends within a token survive. In errs files `*` stands for
nothing, in `(token->*)` and `(*->token)`; the counts below are taken from the alignment, where a token `*` is a token.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from icefall_ext.errors import UserError
from icefall_ext.files import open_text_for_writing, read_lines
from icefall_ext.score.alignment import Alignment, Counts, Pair, count

_NOTHING = "*"
_DETAILS = "PER-UTT DETAILS: corr or (ref->hyp)  "
_SUBSTITUTIONS = "SUBSTITUTIONS: count ref -> hyp"
_DELETIONS = "DELETIONS: count ref"
_INSERTIONS = "INSERTIONS: count hyp"
_WORDS = "PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp"
_SUMMARY = "settings\tWER"
_RECOGS_LINE = re.compile(r"(\S+):\t(ref|hyp|timestamp_ref|timestamp_hyp)=(.*)")
_ERRORS = re.compile(
    r"Errors: (\d+) insertions, (\d+) deletions, (\d+) substitutions, over (\d+) reference words \((\d+) correct\)"
)


class Recog(NamedTuple):
    id: str
    ref: list[str]
    hyp: list[str]


class WordStats(NamedTuple):
    correct: int
    errors: int
    in_ref: int
    in_hyp: int


class ErrorFile(NamedTuple):
    """What an errs file says. `details` are lines for people, as they stand."""

    percent: float
    counts: Counts
    details: dict[str, str]
    substitutions: Counter[tuple[str, str]]
    deletions: Counter[str]
    insertions: Counter[str]
    words: dict[str, WordStats]


def write_recogs(path: str | Path, recogs: Iterable[Recog]) -> int:
    """Written as they come; returns how many."""
    written = 0
    with open_text_for_writing(path) as stream:
        for id, ref, hyp in recogs:
            if len(id.split()) != 1 or id.strip() != id:
                raise ValueError(f"{id!r}: an id is one word without white space")
            stream.write(f"{id}:\tref={list(ref)!r}\n{id}:\thyp={list(hyp)!r}\n")
            written += 1
    return written


def read_recogs(path: str | Path) -> Iterator[Recog]:
    """In the order of the file. Time stamps, which some of icefall's recipes write, are passed over."""
    seen: set[str] = set()
    waiting: tuple[str, list[str]] | None = None  # id and reference whose hypothesis comes next
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        match = _RECOGS_LINE.fullmatch(line)
        if not match:
            raise UserError(f"{path}: line {number}: not `id:<tab>ref=[...]` or `id:<tab>hyp=[...]`: {_shown(line)}")
        id, field, literal = match.groups()
        if field.startswith("timestamp"):
            continue
        tokens = _list_of_strings(path, number, literal)
        if field == "ref":
            if waiting:
                raise UserError(f"{path}: line {number}: {waiting[0]} has a reference and no hypothesis")
            if id in seen:
                raise UserError(f"{path}: line {number}: {id} occurs a second time")
            seen.add(id)
            waiting = id, tokens
        elif not waiting or waiting[0] != id:
            raise UserError(f"{path}: line {number}: the hypothesis of {id} does not follow its reference")
        else:
            yield Recog(id, waiting[1], tokens)
            waiting = None
    if waiting:
        raise UserError(f"{path}: ends after the reference of {waiting[0]}; was the decoding interrupted?")


def _list_of_strings(path: str | Path, number: int, literal: str) -> list[str]:
    try:
        tokens = ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        tokens = None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"{path}: line {number}: not a Python list of strings: {_shown(literal)}")
    return tokens


def write_errs(path: str | Path, alignments: Iterable[tuple[str, Alignment]]) -> Counts:
    """The whole errs file of one rate from (id, alignment); returns the totals."""
    pairs: Counter[Pair] = Counter()
    details = []
    for id, alignment in alignments:
        pairs.update(alignment)
        details.append(f"{id}:\t{_detail(alignment)}")
    counts = count(pairs.elements())
    with open_text_for_writing(path) as stream:
        percent = 100 * counts.errors / counts.units if counts.units else 0.0
        stream.write(f"%WER = {percent:.2f}\n")
        stream.write(
            f"Errors: {counts.insertions} insertions, {counts.deletions} deletions, "
            f"{counts.substitutions} substitutions, over {counts.units} reference words ({counts.correct} correct)\n"
        )
        stream.write(
            "Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, INSERTIONS:,"
            " PER-WORD STATS:\n"
        )
        for heading, lines in (
            (_DETAILS, details),
            (_SUBSTITUTIONS, _counted(pairs, lambda ref, hyp: ref is not None and hyp is not None and ref != hyp)),
            (_DELETIONS, _counted(pairs, lambda ref, hyp: hyp is None)),
            (_INSERTIONS, _counted(pairs, lambda ref, hyp: ref is None)),
            (_WORDS, _word_lines(pairs)),
        ):
            stream.write("\n".join(["", heading, *lines]) + "\n")
    return counts


def _detail(alignment: Alignment) -> str:
    """Neighbouring errors share one pair of parentheses: `(one two->too)`."""
    shown = []
    for correct, pairs in groupby(alignment, key=lambda pair: pair[0] == pair[1]):
        refs, hyps = zip(*pairs)
        if correct:
            shown += refs
        else:
            sides = (" ".join(unit for unit in side if unit is not None) or _NOTHING for side in (refs, hyps))
            shown.append(f"({'->'.join(sides)})")
    return " ".join(shown)


def _counted(pairs: Counter[Pair], wanted) -> list[str]:
    chosen = [(n, [unit for unit in pair if unit is not None]) for pair, n in pairs.items() if wanted(*pair)]
    return [f"{n}   {' -> '.join(units)}" for n, units in sorted(chosen, reverse=True)]


def _word_lines(pairs: Counter[Pair]) -> list[str]:
    """A substitution is an error of both of its words."""
    correct, in_ref, in_hyp = Counter(), Counter(), Counter()
    for (ref, hyp), n in pairs.items():
        if ref is not None:
            in_ref[ref] += n
        if hyp is not None:
            in_hyp[hyp] += n
        if ref == hyp:
            correct[ref] += n
    errors = {word: in_ref[word] + in_hyp[word] - 2 * correct[word] for word in in_ref | in_hyp}
    ordered = sorted(errors, key=lambda word: (errors[word], word), reverse=True)
    return [f"{word}   {correct[word]} {errors[word]} {in_ref[word]} {in_hyp[word]}" for word in ordered]


def read_errs(path: str | Path) -> ErrorFile:
    lines = list(read_lines(path))
    try:
        percent = float(lines[0].removeprefix("%WER = "))
        insertions, deletions, substitutions, _, correct = map(int, _ERRORS.fullmatch(lines[1]).groups())
        starts = [lines.index(heading, 3) for heading in (_DETAILS, _SUBSTITUTIONS, _DELETIONS, _INSERTIONS, _WORDS)]
        sections = [lines[start + 1 : stop] for start, stop in zip(starts, [*(s - 1 for s in starts[1:]), None])]
        details, replaced, lost, added, words = sections
        return ErrorFile(
            percent,
            Counts(insertions, deletions, substitutions, correct),
            dict(line.split(":\t", 1) for line in details),
            Counter({tuple(units.split(" -> ")): int(n) for n, units in (line.split(None, 1) for line in replaced)}),
            Counter({unit: int(n) for n, unit in map(str.split, lost)}),
            Counter({unit: int(n) for n, unit in map(str.split, added)}),
            {word: WordStats(*map(int, numbers)) for word, *numbers in map(str.split, words)},
        )
    except (IndexError, ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: not an errs file as icefall writes it") from None


def write_wer_summary(path: str | Path, percent_of: Mapping[str, float]) -> None:
    with open_text_for_writing(path) as stream:
        stream.write(f"{_SUMMARY}\n")
        for settings, percent in sorted(percent_of.items(), key=lambda item: (item[1], item[0])):
            stream.write(f"{settings}\t{percent:.2f}\n")


def read_wer_summary(path: str | Path) -> dict[str, float]:
    lines = list(read_lines(path))
    try:
        if lines[0] != _SUMMARY:
            raise ValueError
        return {settings: float(percent) for settings, percent in (line.rsplit("\t", 1) for line in lines[1:])}
    except (IndexError, ValueError):
        raise UserError(f"{path}: not a wer-summary file: it starts with `settings<tab>WER`") from None


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
