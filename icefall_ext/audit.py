"""What happened to the data: one row per item that was rejected or repaired, and a summary by reason.

Rows are tab-separated: what was done, reason, file, field, value, note. The reasons are short fixed phrases, so that they
can be counted; what is particular to one item stands in `value` and `note`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from icefall_ext.errors import UserError
from icefall_ext.files import open_text_for_writing

REJECTED, REPAIRED = "rejected", "repaired"
COLUMNS = ("done", "reason", "file", "field", "value", "note")


def _cell(value: object) -> str:
    """Tabs, line ends and invisible characters are escaped: a row stays a row, and what was wrong can be seen."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


class Audit:
    """Collects rows into a file as they come (memory holds only the counts)."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self.counts: Counter[tuple[str, str]] = Counter()
        stream.write("\t".join(COLUMNS) + "\n")

    def rejected(self, reason: str, file: object, *, field: str = "", value: object = "", note: str = "") -> None:
        """The item is left out of what comes next."""
        self._row(REJECTED, reason, file, field, value, note)

    def repaired(self, reason: str, file: object, *, field: str = "", value: object = "", note: str = "") -> None:
        """The item is kept; `note` says what was changed, or that it was kept as it is."""
        self._row(REPAIRED, reason, file, field, value, note)

    def _row(self, done: str, reason: str, file: object, field: str, value: object, note: str) -> None:
        self.counts[done, reason] += 1
        self._stream.write("\t".join((done, reason, *map(_cell, (file, field, value, note)))) + "\n")

    def total(self, done: str) -> int:
        return sum(count for (what, _), count in self.counts.items() if what == done)

    def summary(self) -> list[str]:
        """One line per reason, rejections first, most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda item: (item[0][0] != REJECTED, -item[1], item[0][1]))
        return [f"{done} {count:,}  {reason}" for (done, reason), count in ordered]


@contextmanager
def open_audit(path: str | Path, *, strict: bool = False) -> Iterator[Audit]:
    """Open `path` for the rows of one stage. With `strict`, any rejection is an error once the file is complete."""
    with open_text_for_writing(path) as stream:
        audit = Audit(stream)
        yield audit
    if strict and audit.total(REJECTED):
        reasons = ", ".join(sorted({reason for done, reason in audit.counts if done == REJECTED}))
        raise UserError(f"{path}: {audit.total(REJECTED):,} rejected ({reasons}); mend them or run without --strict")
