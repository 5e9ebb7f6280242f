"""What a table shows of its runs. A recipe names the kind of its own (`figures:` in its tables.yaml)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from icefall_ext.errors import UserError
from icefall_ext.score.paper_tables.definition import Row


@dataclass(frozen=True)
class Columns:
    header: list[str]
    cells: dict[str, list[str]]  # by name of the row
    note: str  # how they are to be read
    speakers: str  # of the test set, in words, where their names do not tell


class Outcome(Protocol):
    """One run, as far as a row is about it."""

    commit: str


class Figures(Protocol):
    def read(self, folder: Path, row: Row) -> Any:
        """An Outcome, of the run in this folder."""

    def in_short(self, outcome: Any) -> str:
        """While the table runs: strict CER 12.3 %."""

    def tested(self, speakers: set[str], trained: set[str]) -> set[str]:
        """Whose speech the figures are about."""

    def columns(
        self, seeds_of: Mapping[str, Mapping[int, Any]], first: str, speaker_of: Mapping[str, str | None]
    ) -> Columns:
        """Of the outcomes by row and seed; rows are compared with the one that is called `first`."""


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: missing or damaged; remove it and run the same command again") from None


def spread(values: Sequence[float], digits: int, *, signed: bool = False) -> str:
    if not values:
        return "-"
    mean, *ends = (f"{value:{'+' if signed else ''}.{digits}f}"
                   for value in (sum(values) / len(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({' to '.join(ends)})"
