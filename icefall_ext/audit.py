"""What happened to the data: one row per item that was rejected, repaired or ignored, and a summary by reason.

Rows are tab-separated: what was done, reason, file, field, value, note. The reasons are short fixed phrases, so that
they can be counted; what is particular to one item stands in `value` and `note`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from icefall_ext.errors import UserError
from icefall_ext.files import open_text_for_writing

REJECTED, REPAIRED, IGNORED = "rejected", "repaired", "ignored"
_ORDER = (REJECTED, REPAIRED, IGNORED)


class Row(NamedTuple):
    done: str
    reason: str
    file: str
    field: str
    value: str
    note: str


COLUMNS = Row._fields


def _cell(value: str) -> str:
    """Tabs, line ends and invisible characters are escaped: a row stays a row, and what was wrong can be seen."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


class Report:
    """The three things that can happen to an item that is not simply taken as it is."""

    def rejected(self, reason: str, file: object, *, field: str = "", value: object = "", note: str = "") -> None:
        """The item is left out of what comes next."""
        self.add(Row(REJECTED, reason, str(file), field, str(value), note))

    def repaired(self, reason: str, file: object, *, field: str = "", value: object = "", note: str = "") -> None:
        """The item is kept; `note` says what was changed, or that it was kept as it is."""
        self.add(Row(REPAIRED, reason, str(file), field, str(value), note))

    def ignored(self, reason: str, file: object, *, field: str = "", value: object = "", note: str = "") -> None:
        """Left out on purpose: a file that is none of the corpus's, a row that an option excludes. Never an error."""
        self.add(Row(IGNORED, reason, str(file), field, str(value), note))

    def add(self, row: Row) -> None:
        raise NotImplementedError


class Rows(Report, list):
    """Rows held in memory, for a worker process to send home."""

    def add(self, row: Row) -> None:
        self.append(row)


class Audit(Report):
    """Rows go into a file as they come; memory holds the counts and the first file of each reason."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self.counts: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}
        stream.write("\t".join(COLUMNS) + "\n")

    def add(self, row: Row) -> None:
        self.counts[row.done, row.reason] += 1
        self.first.setdefault((row.done, row.reason), row.file)
        self._stream.write("\t".join(map(_cell, row)) + "\n")

    def total(self, done: str) -> int:
        return sum(count for (what, _), count in self.counts.items() if what == done)

    def totals(self) -> str:
        return ", ".join(f"{self.total(done):,} {done}" for done in _ORDER)


def summarise(audits: Iterable[Audit]) -> list[str]:
    """One line per reason: rejections first, then the most frequent; with one file to look at."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for audit in audits:
        counts += audit.counts
        first = {**audit.first, **first}
    ordered = sorted(counts.items(), key=lambda item: (_ORDER.index(item[0][0]), -item[1], item[0][1]))
    return [f"{done} {count:,}  {reason} (first: {_cell(first[done, reason])})" for (done, reason), count in ordered]


@contextmanager
def open_audit(path: str | Path) -> Iterator[Audit]:
    """The rows of one stage and one part, on disk when the block ends well."""
    with open_text_for_writing(path) as stream:
        yield Audit(stream)


def stop_if_rejected(audits: Mapping[Path, Audit]) -> None:
    """What --strict means: everything is on disk, and the program ends with one line that leads to the rows."""
    for path, audit in audits.items():
        if audit.total(REJECTED):
            reasons = ", ".join(sorted({reason for done, reason in audit.counts if done == REJECTED}))
            raise UserError(f"{path}: {audit.total(REJECTED):,} rejected ({reasons}); mend them or leave out --strict")
