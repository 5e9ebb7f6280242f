"""Commands side by side, each with its log: one that fails is named, the others go on, and all end when this ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10.0
LEFT_OUT = -1000  # the status of a job that was not started, because one that it needs has failed
_CONTINUES = "the same command continues there"


@dataclass(frozen=True)
class Job:
    name: str
    command: list[str]
    log: Path
    after: tuple[str, ...] = ()  # names of jobs that have to end well before


@dataclass(frozen=True)
class Ended:
    job: Job
    status: int
    seconds: float

    @property
    def why(self) -> str:
        if self.status == LEFT_OUT:
            return f"not run, as it needs {' and '.join(self.job.after)}"
        what = f"killed by signal {-self.status}" if self.status < 0 else f"exit status {self.status}"
        return f"failed ({what}): {last_line(self.job.log)}; log: {self.job.log}"


def run_side_by_side(
    jobs: Sequence[Job], environments: Sequence[Mapping[str, str]], on_end: Callable[[Ended], None]
) -> list[Ended]:
    """In order, one at a time in each environment; `on_end` is called after each."""
    waiting, ended = list(jobs), dict[str, Ended]()
    running: dict[int, tuple[Job, subprocess.Popen, float]] = {}  # by number of the environment
    handled = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, _interrupt) for number in handled}  # nohup's choice stands

    def note(job: Job, status: int, seconds: float = 0.0) -> None:
        ended[job.name] = Ended(job, status, seconds)
        on_end(ended[job.name])

    try:
        while waiting or running:
            for slot, (job, process, started) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    note(job, process.returncode, time.monotonic() - started)
            for job in [job for job in waiting if any(name in ended and ended[name].status for name in job.after)]:
                waiting.remove(job)
                note(job, LEFT_OUT)
            for slot in [slot for slot in range(len(environments)) if slot not in running]:
                job = next((job for job in waiting if all(name in ended for name in job.after)), None)
                if job:
                    waiting.remove(job)
                    running[slot] = job, _start(job, environments[slot]), time.monotonic()
            time.sleep(0.05)
    finally:
        _end([process for _, process, _ in running.values()])
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return list(ended.values())


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a", encoding="utf-8") as log:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(job.command)}", file=log, flush=True)
        # Its own session: a signal then reaches all that it has started. Open files pass on, for locks are among them.
        return subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                env={**os.environ, **environment}, start_new_session=True, close_fds=False)


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """With time to save what they have."""
    if not processes:
        return
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        _tell(process, signal.SIGTERM)
    while time.monotonic() < deadline and any([_tell(process, 0) for process in processes]):
        time.sleep(0.05)
    for process in processes:
        _tell(process, signal.SIGKILL)
        process.wait()
    signal.signal(signal.SIGINT, interrupt)


def _tell(process: subprocess.Popen, number: int) -> bool:
    """False when nothing is left of the group."""
    process.poll()
    try:
        os.killpg(process.pid, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def last_line(log: Path) -> str:
    """What a failed run said last, before the note that it can be continued."""
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip() and _CONTINUES not in line), "nothing said")
