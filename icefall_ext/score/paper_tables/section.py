"""A table as a section of RESULTS.md, between two comments, so that it can be replaced and nothing else is touched."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icefall_ext.errors import UserError
from icefall_ext.files import write_text
from icefall_ext.score.paper_tables.definition import Paper, Table
from icefall_ext.score.paper_tables.figures import Columns, Outcome

HEAD = "# Results\n\nEach section is written by the command that it names; do not edit between its two comments.\n"


@dataclass(frozen=True)
class Conditions:
    """Under which the rows were trained."""

    corpus: str  # run.sh's --corpus, and what tells two of them apart
    hours: float  # of training speech
    speakers: str  # of the test set, in words: "20 unseen speakers"
    conf: str  # settings of the training
    epochs: Mapping[str, int]  # by what they are spent on
    pretrained: str  # how encoders that were pre-trained here came to be, or nothing
    command: str

    @property
    def test_set(self) -> str:
        return f"{self.corpus}-{self.hours:.1f}h, {self.speakers}"

    def sentences(self, paper: Paper, of_table: Sequence[str]) -> list[str]:
        """`of_table` names what its rows spend epochs on, if that is not all."""
        ours = {name: number for name, number in self.epochs.items() if name in (of_table or self.epochs)}
        *most, last = (f"{number} epoch{'s' if number != 1 else ''} of {name}" for name, number in ours.items())
        spent = f"{', '.join(most)} and {last}" if most else last
        is_less = any(number < paper.epochs.get(name, 0) for name, number in ours.items())
        reduced = is_less or self.conf != "paper"
        theirs = f"{paper.name} has {' and '.join(map(str, paper.epochs.values()))} on {paper.corpus}" if paper.epochs \
            else f"those of {paper.name} are not known to us"
        sentences = [f"{'Reduced budget' if reduced else 'Budget'} (settings `{self.conf}`): {spent} over "
                     f"{self.hours:.1f} h of speech; {theirs}."]
        if self.pretrained:
            sentences.append(self.pretrained)
        if self.corpus != paper.corpus_option:
            sentences.append(f"Measured on {self.corpus}, not on {paper.corpus}: the column of the paper says what it "
                             "found there, and the figures cannot be compared across.")
        return sentences


def section(
    name: str, table: Table, paper: Paper, seeds_of: Mapping[str, Mapping[int, Outcome]], columns: Columns,
    conditions: Conditions, missing: Sequence[str],
) -> str:
    """`seeds_of` rows by name, those without any result left out; `missing` names the runs that are not in it."""
    header = ["row", "corpus, test set", *columns.header, "seeds", "command", "commit", f"paper ({paper.corpus})"]
    lines = [f"## Table {name}: {table.title} ({conditions.corpus})", "", *_wrapped(table.question), "",
             _row(header), _row(["---"] * len(header))]
    for row in table.rows:
        by_seed = seeds_of.get(row.name, {})
        cells = [*columns.cells[row.name], str(len(by_seed))] if by_seed else ["-"] * (len(columns.header) + 1)
        commits = sorted({outcome.commit or "?" for outcome in by_seed.values()}) or ["-"]
        lines.append(_row([row.title, conditions.test_set, *cells, f"`{conditions.command}`", ", ".join(commits),
                           row.paper]))
    notes = [
        *([f"Missing: {', '.join(missing)}."] if missing else []),
        *conditions.sentences(paper, table.epochs),
        *([table.note.strip()] if table.note else []),
        f"{columns.note} A commit with + had changes.",
    ]
    return "\n".join([*lines, "", *_wrapped(" ".join(notes))]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def put_section(path: Path, name: str, corpus: str, text: str) -> None:
    begin, end = (f"<!-- table {name} on {corpus}: {word} -->" for word in ("begin", "end"))
    old = path.read_text(encoding="utf-8") if path.exists() else HEAD
    marks = old.count(begin), old.count(end)
    if marks not in ((0, 0), (1, 1)) or old.find(end) < old.find(begin):
        raise UserError(f"{path}: has to hold '{begin}' and '{end}' once each and in this order, or neither; mend it")
    before, after = (old.rstrip("\n") + "\n\n", "\n") if marks == (0, 0) else (
        old[: old.index(begin)], old[old.index(end) + len(end):])  # fmt: skip
    write_text(path, f"{before}{begin}\n{text}{end}{after}")
