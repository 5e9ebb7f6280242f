"""Making a folder of many files so that it can be interrupted, continued and recognised.

`mini.json` in the folder holds what decides its bytes. While it is being made, `.building/` keeps one file for each
finished task; a task without one is done again from the start. In the end what the tasks reported is gathered in
their order, so the result knows neither how many processes there were nor how often it was interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from icefall_ext import console
from icefall_ext.errors import UserError
from icefall_ext.files import read_jsonl, write_text
from icefall_ext.parallel import ordered_map

MARKER = "mini.json"
_BUILDING = ".building"
_MARGIN = 64 << 20  # bytes to leave free

Task = Any  # picklable, with a `name`
Report = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    folder: Path
    what: str  # for messages: "mini corpus", ...
    options: dict[str, Any]
    tasks: Sequence[Task]
    make: Callable[[Task], Report]  # writes the files of one task
    gather: Callable[[Iterator[Report]], Report]  # writes what is common to all, returns what to note in the marker
    bytes: int  # about
    neighbours: frozenset[str] = frozenset()  # names in the folder that belong to other plans


def build(plan: Plan, nj: int) -> None:
    """Do nothing for a complete folder, continue an incomplete one, refuse a folder that holds something else."""
    known = _read_marker(plan)
    if known.get("complete"):
        shutil.rmtree(plan.folder / _BUILDING, ignore_errors=True)
        if (found := count_files(plan.folder, plan.neighbours)) < known["files"]:
            raise UserError(
                f"{plan.folder}: {known['files'] - found:,} of the {known['files']:,} files of this {plan.what} "
                "are gone; remove the folder and run the same command again"
            )
        console.kept(plan.folder, f"{plan.what}, {known['summary']}")
        return
    _write_marker(plan, {"complete": False})
    finished = {task.name for task in plan.tasks if _report_path(plan, task).exists()}
    rest = [task for task in plan.tasks if task.name not in finished]
    if finished:
        console.kept(plan.folder, f"{len(finished):,} of {len(plan.tasks):,} speakers, from an interrupted run")
    _check_space(plan, len(rest))
    done = ordered_map(partial(_do, plan.make, plan.folder / _BUILDING), rest, nj)
    for _ in console.progress(done, f"{plan.what}, speakers", len(rest)):
        pass
    notes = plan.gather(report for task in plan.tasks for report in read_jsonl(_report_path(plan, task)))
    _write_marker(plan, {"complete": True, "files": count_files(plan.folder, plan.neighbours), **notes})
    shutil.rmtree(plan.folder / _BUILDING)
    console.wrote(plan.folder, f"{plan.what}, {notes['summary']}")


def check(plan: Plan) -> None:
    """Raise what `build` would raise before it starts."""
    _read_marker(plan)


def count_files(folder: Path, neighbours: frozenset[str]) -> int:
    """Audio files and labels, without stray ones."""
    count = 0
    for place, folders, names in os.walk(folder):
        outside = {_BUILDING, *(neighbours if place == str(folder) else ())}
        folders[:] = [name for name in folders if name not in outside]
        count += sum(name.endswith((".wav", ".json")) and not name.startswith(".") for name in names)
    return count - (folder / MARKER).exists()


def _do(make: Callable[[Task], Report], reports: Path, task: Task) -> None:
    with _said_in_one_line(reports.parent):
        report = make(task)
        write_text(reports / f"{task.name}.jsonl", json.dumps(report, ensure_ascii=False) + "\n")


@contextmanager
def _said_in_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); mend that and run the same command again, "
            "or give another --corpus-dir"
        ) from error


def _report_path(plan: Plan, task: Task) -> Path:
    return plan.folder / _BUILDING / f"{task.name}.jsonl"


def _read_marker(plan: Plan) -> dict[str, Any]:
    marker = plan.folder / MARKER
    if not plan.folder.exists():
        return {}
    if not plan.folder.is_dir():
        raise UserError(f"{plan.folder}: a file; give another --corpus-dir")
    if not marker.exists():
        others = sorted(path.name for path in plan.folder.iterdir() if path.name not in {*plan.neighbours, ".DS_Store"})
        others = [name for name in others if name != f".{MARKER}.partial"]
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise UserError(f"{plan.folder}: holds something else ({shown}); give a new or an empty --corpus-dir")
        return {}
    try:
        known = json.loads(marker.read_text(encoding="utf-8"))
        options = dict(known["options"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{marker}: not written by this program; give another --corpus-dir") from None
    if options != plan.options:
        differing = [key for key in sorted({*options, *plan.options}) if options.get(key) != plan.options.get(key)]
        made, asked = (_as_typed(differing, of) for of in (options, plan.options))
        raise UserError(
            f"{plan.folder}: holds a {plan.what} made with {made}, not {asked}; give another --corpus-dir, or remove it"
        )
    return known


def _as_typed(keys: list[str], options: dict[str, Any]) -> str:
    return " ".join(f"{key if key == 'version' else '--' + key.replace('_', '-')} {options.get(key)}" for key in keys)


def _write_marker(plan: Plan, notes: dict[str, Any]) -> None:
    content = json.dumps({"what": plan.what, "options": plan.options, **notes}, ensure_ascii=False, indent=2)
    with _said_in_one_line(plan.folder):
        write_text(plan.folder / MARKER, content + "\n")


def _check_space(plan: Plan, tasks: int) -> None:
    needed = plan.bytes * tasks // max(len(plan.tasks), 1) + _MARGIN
    free = shutil.disk_usage(plan.folder).free
    if free < needed:
        raise UserError(
            f"{plan.folder}: about {needed / 1e9:,.1f} GB are needed and {free / 1e9:,.1f} GB free; "
            "free some space, or ask for fewer hours"
        )
