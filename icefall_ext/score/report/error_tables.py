"""The parts of the page about single units: confusion of tones, and what is most often recognised as what."""

from __future__ import annotations

import base64
from math import sqrt
from typing import Any

from icefall_ext.score.alignment import Pair
from icefall_ext.score.report.experiment import Experiment, Result
from icefall_ext.score.report.markup import Markup, join, scroller, table, tag
from icefall_ext.score.report.utterances import Errors, Listed, tone_errors
from icefall_ext.score.tones import CONFUSABLE
from icefall_ext.text.tailo_sandhi import CONTOURS, NEUTRAL

_TONE_RATES = {"tone": "citation tones", "surface-tone": "surface tones"}
_MOST, _MOST_TONES = 25, 12
NOTHING = "∅"


def tones(experiment: Experiment) -> Markup:
    """The best system of each run, and the others folded up."""
    with_tones = [result for result in experiment.results if result.scores.get("tones")]
    if not with_tones:
        text = "No system with tones was scored: Tai-lo output has them, Han-Lo output with bin/score --readings."
        return tag("p", text, class_="empty")
    return join([_tones_of(result, is_open=result in experiment.best) for result in with_tones])


def _tones_of(result: Result, *, is_open: bool) -> Markup:
    found = result.scores["tones"]
    shown = [(what, found[key]) for key, what in _TONE_RATES.items() if key in found]
    matrices = tag("div", [_matrix(what, tones) for what, tones in shown], class_="matrices")
    lists = [_lists(what, tone_errors(tones), _MOST_TONES, search=False) for what, tones in shown[:1]]
    return tag(
        "details",
        tag("summary", result.title),
        matrices,
        lists,
        _picture(result) if is_open else None,
        open=is_open,
    )


def _matrix(what: str, tones: dict[str, Any]) -> Markup:
    names, last = tones["tones"], len(tones["tones"])
    header = ["reference ↓", *map(_tone, names), "lost"]
    rows = [
        [_tone(names[row]) if row < last else "inserted"]
        + [_matrix_cell(tones, row, column) for column in range(last + 1)]
        for row in range(last + 1)
    ]
    return tag(
        "div",
        scroller(table(f"{what}: % of the reference tone, and number", header, rows, class_="matrix"), what),
        tag("p", _of_confusable(tones["confusable"]), class_="note"),
    )


def _matrix_cell(tones: dict[str, Any], row: int, column: int) -> Markup:
    names, count, share = tones["tones"], tones["counts"][row][column], tones["row_percent"][row][column]
    if not count:
        return tag("td", class_=_frame(names, row, column))
    inserted = row == len(names)
    heat = 0 if inserted else round(10 * sqrt(share))  # the root keeps a few percent visible beside ninety
    kind = "right" if row == column else "wrong"
    return tag(
        "td",
        None if inserted else f"{share:.0f}" if share >= 9.95 else f"{share:.1f}",
        tag("small", f"{count:,}", class_="under"),
        class_=f"{kind} {_frame(names, row, column) or ''}".strip(),
        style=f"--heat:{heat}%",
    )


def _frame(names: list[int], row: int, column: int) -> str | None:
    """5, 7 and 8 are what systems for Hokkien confuse most."""
    inside = max(row, column) < len(names) and names[row] in CONFUSABLE and names[column] in CONFUSABLE
    return "framed" if inside and row != column else None


def _tone(tone: int) -> list[Any]:
    return ["neutral" if tone == NEUTRAL else tone, tag("small", CONTOURS[tone], class_="under")]


def _of_confusable(found: dict[str, Any]) -> str:
    if found["among_percent"] is None:
        return "No reference tone is 5, 7 or 8."
    interval = found.get("among_interval")
    between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    return (
        f"Of {found['syllables']:,} syllables of tone 5, 7 or 8, {found['among_percent']:.2f} %{between} became"
        " another of the three (framed),"
        f" {found['other_percent']:.2f} % another tone, {found['lost_percent']:.2f} % were lost."
    )


def _picture(result: Result) -> Markup | None:
    path = result.folder / f"tones-{result.name}.png"
    if not path.is_file():
        return None
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    image = tag("img", src=source, alt=f"The matrices of {result.title} as a picture", loading="lazy")
    return tag("details", tag("summary", f"As a picture ({path.name})"), image)


def error_lists(experiment: Experiment, listed: list[Listed]) -> Markup:
    if not listed:
        return tag("p", "No utterances to take errors from.", class_="empty")
    parts = []
    for place, one in enumerate(listed):
        unit = "characters" if one.result.script == "hanlo" else "syllables"
        lists = _lists(unit, one.errors, _MOST, search=True)
        is_open = one.result in experiment.best
        parts.append(tag("details", tag("summary", one.result.title), lists, open=is_open, data_system=place))
    return join(parts)


def _lists(what: str, errors: Errors, most: int, *, search: bool) -> Markup:
    kinds = (
        ("substituted", errors.substitutions(most)),
        ("deleted", errors.deletions(most)),
        ("inserted", errors.insertions(most)),
    )
    shown = [_list(f"{what}, {name}", pairs, errors, search) for name, pairs in kinds if pairs]
    return tag("div", shown, class_="lists") if shown else tag("p", "No error.", class_="empty")


def _list(caption: str, pairs: list[tuple[Pair, int]], errors: Errors, search: bool) -> Markup:
    rows = []
    for pair, count in pairs:
        text = "→".join(unit or NOTHING for unit in pair)
        shown = tag("button", text, type="button", data_search=text, title="Show the utterances") if search else text
        reference = f"{errors.in_reference[pair[0]]:,}" if pair[0] else "-"
        rows.append([shown, f"{count:,}", reference])
    return table(caption, ("error", "times", "in reference"), rows, class_="errors")
