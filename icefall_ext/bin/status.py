"""How a recipe stands: its stages, its jobs on a cluster, how far trainings are, and where the logs are.

It reads what the stages, the jobs and the trainings leave behind, and asks squeue where there is one. run.sh --status
true calls it; it uses the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console

FIRST_OF_RECIPE = 5  # stages before are of the data folder
RECENT = 20  # rows of metrics.jsonl that speed is taken from
QUEUED = {"PENDING": "waiting", "REQUEUED": "waiting", "REQUEUE_HOLD": "held", "RUNNING": "running"}


@dataclass(frozen=True)
class Job:
    """One submission, or one task of an array; `state` is waiting, running, again, done, failed, gone or dropped."""

    id: str
    stage: int
    title: str
    state: str
    note: str
    log: Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--exp-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--stages", required=True, help="as --list-stages prints them")
    parser.add_argument("--options", nargs="*", default=[], help="name=value of all options as they are now")
    args = parser.parse_args(argv)
    jobs = list(submitted_jobs(args.exp_dir / "cluster"))
    options = dict(pair.split("=", 1) for pair in args.options)
    for line in args.stages.splitlines():
        number, title = line.strip().split(maxsplit=1)
        of_stage = [job for job in jobs if job.stage == int(number)]
        folder = args.data_dir if int(number) < FIRST_OF_RECIPE else args.exp_dir
        state, note = stage_state(folder, int(number), options, of_stage)
        print(f"stage {number}  {title}: {state}{f' ({note})' if note else ''}")
        for job in of_stage:
            if job.state != "done" or job.note:
                console.says(f"job {job.id:<8} {job.state}{f': {job.note}' if job.note else ''}")
    for folder in trainings(args.exp_dir):
        show_training(folder, args.exp_dir)
    logs = [args.exp_dir / "cluster/logs"] if jobs else [folder / "log" for folder in trainings(args.exp_dir)]
    for folder in logs:
        console.says(f"logs     {folder}")
    return 0


# -------------------------------------------------------------------- stages


def stage_state(folder: Path, number: int, options: dict[str, str], jobs: list[Job]) -> tuple[str, str]:
    """From its jobs where they are under way or have failed, else from the record that the stage left."""
    for state in ("running", "failed", "gone", "again", "waiting", "held", "dropped"):
        found = [job for job in jobs if job.state == state]
        if found:
            return {"again": "waiting", "gone": "failed", "dropped": "not run"}.get(state, state), ""
    marker, pending = folder / f"stages/{number}.json", folder / f"stages/{number}.pending"
    record, begun = read_json(marker), read_json(pending)
    if begun is not None:
        since = time.strftime("%H:%M:%S", time.localtime(pending.stat().st_mtime))
        return ("running", f"since {since}") if is_locked(folder) else ("stopped", f"begun {since}, not ended")
    if record is None:
        return "not run", ""
    changed = [name for name, value in record.get("options", {}).items() if options.get(name, value) != value]
    missing = [path for path in record.get("writes", {}) if not os.path.exists(path)]
    if changed:
        was, now = record["options"][changed[0]], options[changed[0]]
        return "to run again", f"--{changed[0].replace('_', '-')} {was} -> {now}"
    return ("to run again", f"{missing[0]} is missing") if missing else ("done", str(record.get("ended", "")))


def is_locked(folder: Path) -> bool:
    """Whether the process that the lock names is alive, where it is of this machine."""
    try:
        text = (folder / ".lock").read_text(encoding="utf-8")
        number = re.search(r"\d+", text)
        host = re.search(r" on (\S+)", text)
        if number is None or (host and host.group(1) != platform.node()):
            return False
        os.kill(int(number.group()), 0)
    except (OSError, ValueError) as error:
        return isinstance(error, PermissionError)
    return True


def read_json(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


# -------------------------------------------------------------------- jobs


def submitted_jobs(folder: Path) -> Iterator[Job]:
    """Those of the last submission of each stage, the tasks of an array one by one."""
    rows = read_rows(folder / "submitted.tsv", 6)
    last = {row[2]: row[0] for row in rows}  # by stage: when
    rows = [row for row in rows if last[row[2]] == row[0]]
    queue = queued([row[1] for row in rows])
    lacking: dict[str, str] = {}  # stages that have not done their work, and how that came
    for _, id, stage, tasks, after, title in rows:
        single = int(tasks) == 1
        for task in [id] if single else [f"{id}_{number + 1}" for number in range(int(tasks))]:
            log = folder / "logs" / f"stage-{stage}{'' if single else '-parts'}.{task}.log"
            why_not = [f"stage {before} {lacking[before]}" for before in after.split() if before in lacking]
            state, note = job_state(task, queue, folder / "jobs" / task, why_not)
            if state in ("failed", "gone", "dropped"):
                lacking.setdefault(stage, "did not run" if state == "dropped" else "failed")
                note += f"; log {log}" if state != "dropped" else ""
            yield Job(task, int(stage), title, state, note, log)


def job_state(
    id: str, queue: dict[str, tuple[str, str]] | None, record: Path, why_not: list[str]
) -> tuple[str, str]:
    """What Slurm says counts before what the job has written last: it may have been killed since."""
    written = read_rows(record, 5)
    state, when, host, _, why = written[-1] if written else ("", "", "", "", "")
    if queue and id in queue:
        slurm, reason = queue[id]
        known = QUEUED.get(slurm, slurm.lower())
        if known == "running":
            return known, f"since {when} on {host}{f', {why}' if why else ''}"
        return known, why if state == "again" else reason
    if state in ("done", "failed"):
        return state, "" if state == "done" else f"exit status {written[-1][3]}: {why}"
    if why_not:
        return "dropped", why_not[0]
    if queue is None:
        return state or "unknown", "no squeue here to ask"
    return "gone", "cancelled, or ended by Slurm (time, memory, machine)"


def queued(ids: list[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason by job; None where Slurm cannot be asked."""
    if not ids or not shutil.which("squeue"):
        return None
    asked = ["squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r"]
    try:
        result = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return None
    return {id: (state, reason) for id, state, reason in (line.split("|", 2) for line in result.stdout.splitlines())}


def read_rows(path: Path, columns: int) -> list[list[str]]:
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
    return [row for row in rows if len(row) == columns]


# -------------------------------------------------------------------- trainings


def trainings(exp_dir: Path) -> list[Path]:
    found = [*exp_dir.glob("*/log/metrics.jsonl"), *exp_dir.glob("*/*/log/metrics.jsonl")]
    return [path.parent.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def show_training(folder: Path, exp_dir: Path) -> None:
    rows = last_rows(folder / "log/metrics.jsonl")
    train = [row for row in rows if row.get("kind") == "train"]
    if not train:
        return
    last, valid = train[-1], [row for row in rows if row.get("kind") == "valid"]
    epochs, of_epoch = epochs_asked(folder), batches_of_epoch(folder)
    batch, total = int(last["batch"]), (epochs or 0) * (of_epoch or 0)
    done = total and batch >= total
    parts = [f"epoch {last['epoch']}{f' of {epochs}' if epochs else ''}",
             f"batch {batch:,}{f' of {total:,}' if total else ''}", f"loss {last['loss']:.4g}"]
    if valid:
        parts.append(f"valid {valid[-1]['loss']:.4g} at epoch {valid[-1]['epoch']}")
    if done:
        parts.append("ended")
    elif total and (speed := batches_per_second(train)):
        left = int((total - batch) / speed)
        parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} to go")
    age = time.time() - (folder / "log/metrics.jsonl").stat().st_mtime
    parts.append("" if done else f"last heard of {age:.0f} s ago")
    console.says(f"{folder.relative_to(exp_dir)}: {', '.join(filter(None, parts))}")


def last_rows(path: Path) -> list[dict]:
    """Of the end of the file alone: it may be long. A line that is being written is left out."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - (64 << 10)))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]


def batches_per_second(train: list[dict]) -> float:
    first, last = train[-RECENT:][0], train[-1]
    return (last["batch"] - first["batch"]) / max(last["seconds"] - first["seconds"], 1e-9)


def epochs_asked(folder: Path) -> int | None:
    return _number_in(folder / "config.yaml", r"^train:\n(?:  .*\n)*?  epochs: (\d+)$")


def batches_of_epoch(folder: Path) -> int | None:
    """Of one process, from the line that a training begins with."""
    logs = sorted((folder / "log").glob("log-train-*"))
    batches = _number_in(logs[-1], r"([\d,]+) batches an epoch") if logs else None
    return batches // (_number_in(logs[-1], r"(\d+) processes of") or 1) if batches else None


def _number_in(path: Path, pattern: str) -> int | None:
    try:
        found = re.findall(pattern, path.read_text(encoding="utf-8", errors="replace"), flags=re.M)
    except OSError:
        return None
    return int(found[-1].replace(",", "")) if found else None


if __name__ == "__main__":
    raise SystemExit(main())
