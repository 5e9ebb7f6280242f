"""Whether a stage of run.sh has to run: a record of what it read, wrote and was told, kept beside its results.

`check` ends with status 0 when the stage is up to date, 3 when it has to run (and says why), 1 when an input is
missing. `done` turns the record made by `check` into the one that counts. local/stages.sh calls it for every stage, so
it uses the standard library alone and starts in a blink.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from icefall_ext.cli import program_name
from icefall_ext.errors import UserError
from icefall_ext.files import digest_of_file, digest_of_lines, write_text

HAS_TO_RUN = 3
_HASHED_BELOW = 256 << 20  # larger files are known by size and time


def entries(folder: Path) -> Iterator[str]:
    """Name, size and time of every file below `folder`, in one order on every file system.

    A corpus is often a folder of links to its parts, so links to folders are followed, but never round in a circle.
    """
    pending = [(str(folder), frozenset[str]())]
    while pending:
        current, above = pending.pop()
        above |= {os.path.realpath(current)}
        with os.scandir(current) as scan:
            for entry in sorted(scan, key=lambda e: e.name):
                if entry.name.startswith(".") and entry.name.endswith(".partial"):
                    continue
                is_link = entry.is_symlink()
                if os.path.isdir(entry.path) if is_link else entry.is_dir():
                    if not is_link or os.path.realpath(entry.path) not in above:
                        pending.append((entry.path, above))
                else:
                    status = entry.stat(follow_symlinks=not is_link or os.path.exists(entry.path))
                    yield f"{entry.path}\t{status.st_size}\t{status.st_mtime_ns}"


def fingerprint(path: Path, *, by_content: bool) -> str:
    if path.is_dir():
        return digest_of_lines(entries(path))
    if not path.exists():
        return ""
    status = path.stat()
    if by_content and status.st_size < _HASHED_BELOW:
        return digest_of_file(path)
    return f"{status.st_size} {status.st_mtime_ns}"


def fingerprints(paths: list[str], *, by_content: bool) -> dict[str, str]:
    return {path: fingerprint(Path(path), by_content=by_content) for path in paths}


def why_to_run(old: dict | None, new: dict) -> str:
    """One phrase, or nothing when the old record still holds."""
    if old is None:
        return "not run yet"
    for name, value in new["options"].items():
        if name == "forced":
            return "forced"
        if old["options"].get(name) != value:
            return f"--{name.replace('_', '-')} changed: {old['options'].get(name)} -> {value}"
    for path, digest in new["reads"].items():
        if old["reads"].get(path) != digest:
            return f"{path} changed"
    for path, digest in new["writes"].items():
        if path not in old["writes"] or digest != old["writes"][path]:
            return f"{path} is missing" if not digest else f"{path} was changed by something else"
    return ""


def check(marker: Path, number: str, title: str, reads: list[str], writes: list[str], options: dict[str, str]) -> int:
    head = f"{time.strftime('%H:%M:%S')} stage {number}  {title}"
    new = {"reads": fingerprints(reads, by_content=True), "writes": fingerprints(writes, by_content=False)}
    new |= {"title": title, "options": options}
    for path, digest in new["reads"].items():
        if not digest:
            raise UserError(f"stage {number} ({title}) reads {path}: no such file or folder; run the stages before it")
    old = _read(marker)
    reason = why_to_run(old, new)
    if old is not None and not reason:
        print(f"{head}: up to date (same inputs and options as {old['ended']}); --force {number} runs it again")
        return 0
    print(head if reason == "not run yet" else f"{head} ({reason})", flush=True)
    # The inputs as they are before the work: what changes during it makes the next run do it again.
    write_text(_pending(marker), json.dumps(new, indent=1))
    return HAS_TO_RUN


def done(marker: Path) -> None:
    record = json.loads(_pending(marker).read_text(encoding="utf-8"))
    record["writes"] = fingerprints(list(record["writes"]), by_content=False)
    for path, digest in record["writes"].items():
        if not digest:
            raise UserError(f"{path}: the stage '{record['title']}' ended well but did not write it")
    record["options"].pop("forced", None)
    record["ended"] = time.strftime("%Y-%m-%d %H:%M:%S")
    write_text(marker, json.dumps(record, indent=1))
    _pending(marker).unlink()


def _pending(marker: Path) -> Path:
    return marker.with_suffix(".pending")


def _read(marker: Path) -> dict | None:
    try:
        record = json.loads(marker.read_text(encoding="utf-8"))
        return record if {"options", "reads", "writes", "ended"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("check", "done"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--marker", type=Path, required=True)
        if verb == "check":
            sub.add_argument("--number", required=True)
            sub.add_argument("--title", required=True)
            for name in ("--reads", "--writes", "--options"):
                sub.add_argument(name, nargs="*", default=[])
    args = parser.parse_args()
    try:
        if args.verb == "done":
            return done(args.marker) or 0
        options = dict(pair.split("=", 1) for pair in args.options)
        return check(args.marker, args.number, args.title, args.reads, args.writes, options)
    except UserError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
