"""A table as a section of RESULTS.md, between two comments, so that it can be replaced and nothing else is touched."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icefall_ext.errors import UserError
from icefall_ext.files import write_text
from icefall_ext.score.confidence import Bootstrap, Interval
from icefall_ext.score.paper_tables.definition import Paper, Table
from icefall_ext.score.paper_tables.results import MEASURES, Outcomes

HEAD = "# Results\n\nEach section is written by the command that it names; do not edit between its two comments.\n"


@dataclass(frozen=True)
class Conditions:
    """Under which the rows were trained."""

    corpus: str  # run.sh's --corpus
    hours: float  # of training speech
    speakers: str  # of the test set, in words: "20 unseen speakers"
    conf: str  # settings of the training
    phase1_epochs: int
    phase2_epochs: int
    pretrained: str  # how encoders that were pre-trained here came to be, or nothing
    command: str

    @property
    def test_set(self) -> str:
        return f"{self.corpus}-{self.hours:.1f}h, {self.speakers}"

    def sentences(self, paper: Paper, direct_alone: bool) -> list[str]:
        first = "" if direct_alone else f"{_epochs(self.phase1_epochs)} of phase 1 and "
        spent = f"{first}{_epochs(self.phase2_epochs)} of Han-Lo over {self.hours:.1f} h of speech"
        theirs = f"{paper.phase1_epochs} and {paper.phase2_epochs} on {paper.corpus}"
        is_less = self.phase2_epochs < paper.phase2_epochs or (
            self.phase1_epochs < paper.phase1_epochs and not direct_alone
        )
        reduced = is_less or self.conf != "paper"
        sentences = [f"{'Reduced budget' if reduced else 'Budget'} (settings `{self.conf}`): {spent}; {paper.name} has "
                     f"{theirs}."]
        if self.pretrained:
            sentences.append(self.pretrained)
        if self.corpus != paper.corpus_option:
            sentences.append(f"Measured on {self.corpus}, not on {paper.corpus}: the column of the paper says what it "
                             "found there, and the figures cannot be compared across.")
        return sentences


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' if number != 1 else ''}"


def section(
    name: str, table: Table, paper: Paper, rows: Mapping[str, Outcomes], draws: Bootstrap, conditions: Conditions,
    missing: Sequence[str],
) -> str:
    """`rows` by name, those without any result left out; `missing` names the runs that are not in it."""
    direct_alone = all(row.options.get("phases") == "direct" for row in table.rows)
    header = ["row", "corpus, test set", "strict CER % (min to max)", "95 % CI", "against the first row (95 % CI)",
              *(MEASURES[measure].title for measure in table.also), "seeds", "command", "commit",
              f"paper ({paper.corpus})"]
    lines = [f"## Table {name}: {table.title} ({conditions.corpus})", "", *_wrapped(table.question), "",
             _row(header), _row(["---"] * len(header))]
    first = rows.get(table.rows[0].name)
    for row in table.rows:
        of_row = rows.get(row.name)
        cells = ["-"] * (4 + len(table.also)) if of_row is None else [
            spread(of_row.percents, 2),
            bounds(of_row.interval(draws), 2),
            "-" if first in (None, of_row) else relative(of_row, first, draws),
            *(spread(of_row.values(measure), 1) for measure in table.also),
            str(len(of_row.by_seed)),
        ]  # fmt: skip
        commits = sorted({outcome.commit or "?" for outcome in of_row.by_seed.values()}) if of_row else ["-"]
        lines.append(_row([row.title, conditions.test_set, *cells, f"`{conditions.command}`", ", ".join(commits),
                           row.paper]))
    notes = [
        *([f"Missing: {', '.join(missing)}."] if missing else []),
        *conditions.sentences(paper, direct_alone),
        "A figure is the mean over the seeds, in brackets the smallest and the largest of them. Intervals are by "
        f"bootstrap over {draws.what} of the test set, of each utterance's mean over the seeds; those of the relative "
        "change are of the difference on the same speakers, in percent of the first row. A commit with + had changes.",
    ]
    return "\n".join([*lines, "", *_wrapped(" ".join(notes))]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def bounds(interval: Interval | None, digits: int, *, signed: bool = False) -> str:
    return "-" if interval is None else " to ".join(f"{b:{'+' if signed else ''}.{digits}f}" for b in interval)


def relative(of_row: Outcomes, first: Outcomes, draws: Bootstrap) -> str:
    compared = of_row.against(first, draws)
    if not first.mean:
        return "-"
    change = f"{100 * compared.difference / first.mean:+.1f} %"
    if compared.interval is None:
        return change
    scaled = Interval(*(100 * bound / first.mean for bound in compared.interval))
    return f"{change} ({bounds(scaled, 1, signed=True)})"


def put_section(path: Path, name: str, corpus: str, text: str) -> None:
    begin, end = (f"<!-- table {name} on {corpus}: {word} -->" for word in ("begin", "end"))
    old = path.read_text(encoding="utf-8") if path.exists() else HEAD
    marks = old.count(begin), old.count(end)
    if marks not in ((0, 0), (1, 1)) or old.find(end) < old.find(begin):
        raise UserError(f"{path}: has to hold '{begin}' and '{end}' once each and in this order, or neither; mend it")
    before, after = (old.rstrip("\n") + "\n\n", "\n") if marks == (0, 0) else (
        old[: old.index(begin)], old[old.index(end) + len(end):])  # fmt: skip
    write_text(path, f"{before}{begin}\n{text}{end}{after}")
