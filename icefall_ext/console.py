"""What a person sees while a stage runs: what is read, what was written, how far it is.

Lines go to standard output, aligned under the time that run.sh prints before a stage's name; progress goes to standard
error, as a bar on a terminal and as a line every ten seconds in a log file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_INDENT = " " * 9


def _line(verb: str, what: object, note: str = "") -> None:
    print(f"{_INDENT}{verb:<8} {what}{f' ({note})' if note else ''}", flush=True)


def reads(what: object, note: str = "") -> None:
    _line("reads", what, note)


def wrote(what: object, note: str = "") -> None:
    _line("wrote", what, note)


def kept(what: object, note: str = "") -> None:
    """Something an earlier, interrupted run had finished."""
    _line("kept", what, note)


def says(text: str) -> None:
    print(f"{_INDENT}{text}", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns wide enough for their content; the first is left-aligned, the others right-aligned."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        says("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())


def progress(items: Iterable[T], what: str, total: int | None = None, every_s: float = 10.0) -> Iterator[T]:
    """Pass `items` through and show how many went by, how fast, and how long the rest will take."""
    if sys.stderr.isatty():
        from tqdm import tqdm  # only where there is a terminal to draw on

        yield from tqdm(items, desc=f"{_INDENT}{what}", total=total, unit="", leave=False, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last, speed = now, count / (now - start)
            rest = f" of {total:,}, {(total - count) / speed:.0f} s to go" if total else ""
            print(f"{_INDENT}{what}: {count:,}{rest} ({speed:,.0f}/s)", file=sys.stderr, flush=True)
