"""SIGKILL of everything that `./run.sh` started, at 50 moments over all stages: the same command, run again, ends with
the same models, readings and scores as one that nothing happened to.

Two chains of runs share the machine. A chain has one data folder and one folder of models; each of its runs is killed
somewhat further on than the one before, where a stage begins or at a moment drawn within it, and then every other time
in the middle of writing a file.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from icefall_ext.train.checkpoint import load_checkpoint
from tests.e2e.test_clift_stages import BUDGET, ENCODER, LOOP, ROOT

pytestmark = pytest.mark.kills
STAGES = range(10)
CHAINS, KILLS, MOMENTS = 2, 3, 50  # three kills in each stage; a run may end before its moment
STAGE = re.compile(r"\d\d:\d\d:\d\d stage (\d)  ")


class Run:
    """One `./run.sh`, and everything that it starts; what it prints is followed while it runs."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        fixed = ["--mini-hours", "0.05", "--vocab-size", "300", "--nj", "2", "--python", sys.executable,
                 "--threads", "1", "--conf", str(folder.parent / "conf"), "--data-dir", str(folder / "data"),
                 "--exp-dir", str(folder / "exp")]
        environment = {k: v for k, v in os.environ.items() if k not in ("CALLED_AS", "PYTHON")}
        self._process = subprocess.Popen(["./run.sh", *fixed, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                         stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        self.lines: list[str] = []
        self.began: dict[int, float] = {}  # by stage that had to run
        self.took: dict[int, float] = {}
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                stage = STAGE.match(line)
                if stage and "  done in " in line:
                    self.took[int(stage[1])] = time.monotonic() - self.began[int(stage[1])]
                elif stage and "up to date" not in line:
                    self.began[int(stage[1])] = time.monotonic()
                self._changed.notify_all()

    def wait_for(self, stage: int) -> bool:
        """Until that stage, or one after it, has begun; false if the run ended before."""
        with self._changed:
            while not any(began >= stage for began in self.began):
                if not self._reader.is_alive():
                    return False
                self._changed.wait(0.1)
        return True

    def is_writing(self) -> bool:
        return any(any((self.folder / part).rglob(".*.partial")) for part in ("data", "exp"))

    def kill(self) -> int | None:
        """The stage that it was in; none if it had ended."""
        if self._process.poll() is not None:
            return None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while any_alive(self._process.pid):
            time.sleep(0.01)
        self._reader.join()
        return max(self.began)

    def end(self) -> str:
        self._process.wait()
        self._reader.join()
        printed = "".join(self.lines)
        assert self._process.returncode == 0, printed[-3000:]
        return printed


def any_alive(group: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(of_group) == group and state != "Z":
            return True
    return False


def chain(folder: Path, seed: int, took: dict[int, float]) -> tuple[list[int], str]:
    """The stages in which its runs were killed, and what the last run printed, which was not."""
    draw, killed = random.Random(seed), []
    for stage in STAGES:
        for number in range(KILLS):
            # The first of a stage where it begins: if the machine was slower when the stage was timed, a moment drawn
            # within a short one may be past its end.
            moment = 0.8 * (number - 1 + draw.random()) / (KILLS - 1) * took[stage] if number else 0.0
            run = Run(folder)
            if not run.wait_for(stage):  # everything is done: the last stage once more
                run.end()
                run = Run(folder, "--force", str(stage))
                run.wait_for(stage)
            time.sleep(moment)
            until = time.monotonic() + took[stage] / 2
            while number and len(killed) % 2 and not run.is_writing() and time.monotonic() < until:
                time.sleep(0.001)
            where = run.kill()
            assert_no_complaints(run)
            if where is not None:
                killed.append(where)
    return killed, Run(folder).end()


def assert_no_complaints(run: Run) -> None:
    """A run that found what a killed one had left has gone on with it, whatever happened to itself afterwards."""
    printed = "".join(run.lines)
    assert "Traceback" not in printed and "run.sh: " not in printed, printed[-3000:]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    (folder / "conf").mkdir()
    loop = LOOP.replace("save_every: 2", "save_every: 1")
    files = {"phase1.yaml": loop, "phase2.yaml": loop, "encoder.yaml": ENCODER, "budget.sh": BUDGET}
    for name, content in files.items():
        (folder / "conf" / name).write_text(content, encoding="utf-8")
    return folder


def test_kills_at_any_moment_of_any_stage_change_no_result(workplace):
    undisturbed = Run(workplace / "undisturbed")
    undisturbed.end()
    with ThreadPoolExecutor() as pool:
        chains = [pool.submit(chain, workplace / f"chain-{n}", n, undisturbed.took) for n in range(CHAINS)]
        killed = Counter(stage for each in chains for stage in each.result()[0])
    print("killed in stages", dict(sorted(killed.items())))
    assert sum(killed.values()) >= MOMENTS and set(killed) == set(STAGES), killed
    wanted = results(workplace / "undisturbed")
    assert len(wanted) > 40
    for n in range(CHAINS):
        found = results(workplace / f"chain-{n}")
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if not same(found[name], wanted[name])] == []


def results(folder: Path) -> dict[str, Path]:
    """Models, readings, error listings, tables, texts and tokens."""
    patterns = ("exp/*/epoch-*.pt", "exp/*/best-*.pt", "exp/encoder/model.safetensors", "exp/*/*_search/recogs-*",
                "exp/*/*_search/errs-*", "exp/*/*_search/wer-summary-*", "data/text/train.*", "data/lang_*/*")
    return {str(path.relative_to(folder)): path for pattern in patterns for path in folder.glob(pattern)}


def same(ours: Path, theirs: Path) -> bool:
    if ours.suffix != ".pt":
        return ours.read_bytes() == theirs.read_bytes()
    found, wanted = load_checkpoint(ours), load_checkpoint(theirs)
    return found["batch_idx_train"] == wanted["batch_idx_train"] and all(
        torch.equal(found[kind][name], value) for kind in ("model", "model_avg") for name, value in wanted[kind].items()
    )
