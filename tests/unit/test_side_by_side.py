"""Runs side by side: as many as there is room for, what becomes of one that fails, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from icefall_ext.score.paper_tables.side_by_side import LEFT_OUT, Job, run_side_by_side

ROOT = Path(__file__).parents[2]


def shell(name: str, script: str, folder: Path, after: str = "") -> Job:
    return Job(name, ["bash", "-c", script], folder / f"{name}.log", (after,) if after else ())


def test_one_that_fails_is_named_with_its_last_words_and_the_others_go_on(tmp_path):
    jobs = [shell("bad", "echo why; echo 'x: the same command continues there'; exit 3", tmp_path),
            shell("needs-bad", "echo never", tmp_path, after="bad"), shell("good", "echo $PLACE", tmp_path)]
    heard = []
    ended = {one.job.name: one for one in run_side_by_side(jobs, [{"PLACE": "here"}], heard.append)}
    assert {name: one.status for name, one in ended.items()} == {"bad": 3, "needs-bad": LEFT_OUT, "good": 0}
    assert ended["bad"].why == f"failed (exit status 3): why; log: {tmp_path / 'bad.log'}"
    assert ended["needs-bad"].why == "not run, as it needs bad" and not (tmp_path / "needs-bad.log").exists()
    assert (tmp_path / "good.log").read_text().splitlines()[-1] == "here"
    assert len(heard) == 3


def test_as_many_run_at_once_as_there_are_places_and_a_needed_one_comes_first(tmp_path):
    count = f"touch {tmp_path}/on-$$; ls {tmp_path}/on-* | wc -l; sleep 0.3; rm {tmp_path}/on-$$"
    jobs = [shell("first", "sleep 0.3; touch first-is-done", tmp_path),
            shell("second", "test -e first-is-done", tmp_path, after="first"),
            *(shell(f"job{number}", count, tmp_path) for number in range(4))]
    jobs = [replace(job, command=[*job.command[:2], f"cd {tmp_path}; {job.command[2]}"]) for job in jobs]
    assert [one.status for one in run_side_by_side(jobs, [{}] * 2, lambda _: None)] == [0] * 6
    at_once = [int((tmp_path / f"job{number}.log").read_text().splitlines()[-1]) for number in range(4)]
    assert max(at_once) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_that_was_started(tmp_path, number):
    program = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from icefall_ext.score.paper_tables.side_by_side import Job, run_side_by_side
script = "sleep 60 & echo $! >child; touch started; wait"
run_side_by_side([Job("one", ["bash", "-c", "cd {tmp_path}; " + script], Path("{tmp_path}/one.log"))], [{{}}], print)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "started").exists)
    parent.send_signal(number)
    assert parent.wait(15) != 0
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))


def wait_until(true, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
