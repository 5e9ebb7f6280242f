"""What ./run.sh --status says of stages, jobs and trainings, from what these leave behind."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from icefall_ext.bin import status

STAGES = "  0  corpus\n  6  phase 1\n  7  phase 2\n  8  decode\n  9  score\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch, capsys):
    for folder in ("data/stages", "exp/stages"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue

    def show(*options: str) -> str:
        folders = ["--exp-dir", str(tmp_path / "exp"), "--data-dir", str(tmp_path / "data")]
        assert status.main([*folders, "--stages", STAGES, "--options", *options]) == 0
        return capsys.readouterr().out

    show.folder = tmp_path
    return show


def mark(folder: Path, number: int, **content) -> None:
    record = {"options": {}, "reads": {}, "writes": {}, "ended": "2026-01-02 03:04:05"} | content
    (folder / f"stages/{number}.json").write_text(json.dumps(record))


def test_stages_are_done_to_run_again_or_not_run(recipe):
    folder = recipe.folder
    mark(folder / "data", 0)
    mark(folder / "exp", 6, options={"train_seed": "42"})
    mark(folder / "exp", 7, writes={str(folder / "gone"): "1 2"})
    shown = recipe("train_seed=43")
    assert "stage 0  corpus: done (2026-01-02 03:04:05)" in shown
    assert "stage 6  phase 1: to run again (--train-seed 42 -> 43)" in shown
    assert f"stage 7  phase 2: to run again ({folder}/gone is missing)" in shown
    assert "stage 8  decode: not run\n" in shown
    assert "stage 6  phase 1: done" in recipe("train_seed=42")


def test_a_stage_that_has_begun_runs_while_the_process_of_the_lock_lives(recipe):
    exp = recipe.folder / "exp"
    (exp / "stages/6.pending").write_text("{}")
    (exp / ".lock").write_text(f"{os.getpid()}\n")
    assert "stage 6  phase 1: running (since " in recipe()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (exp / ".lock").write_text(f"process {ended.pid} on {platform.node()}")
    assert "stage 6  phase 1: stopped (begun " in recipe()


def write_training(folder: Path, batches: int) -> None:
    (folder / "log").mkdir(parents=True)
    (folder / "config.yaml").write_text("encoder:\n  epochs: 3\ntrain:\n  lr: 1.0\n  epochs: 10\nbatch:\n  epochs: 4\n")
    (folder / "log/log-train-1").write_text("1.0 hours, 1,200 batches an epoch (...), 12 processes of 1 threads")
    rows = [{"kind": "train", "epoch": 1 + n // 100, "batch": n, "loss": 2.0, "seconds": n / 2}
            for n in range(1, batches)]
    rows.append({"kind": "valid", "epoch": 4, "batch": batches, "loss": 1.25, "seconds": 0})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "log/metrics.jsonl").write_text(text + '{"kind": "train", "epo')  # as it is being written


def test_a_training_shows_its_loss_and_the_time_to_go(recipe):
    write_training(recipe.folder / "exp/phase1", 501)
    shown = recipe()
    assert "phase1: epoch 6 of 10, batch 500 of 1,000, loss 2, valid 1.25 at epoch 4, 0:04:10 to go" in shown
    assert f"logs     {recipe.folder}/exp/phase1/log" in shown


def test_a_training_that_has_ended_says_so(recipe):
    write_training(recipe.folder / "exp/phase1", 1001)
    assert "batch 1,000 of 1,000, loss 2, valid 1.25 at epoch 4, ended" in recipe()


def submit(folder: Path, queue: list[str]) -> None:
    """Stages 6 to 9 as jobs 10 to 14, stage 8 an array of two with a job to conclude it; squeue says `queue`."""
    cluster = folder / "exp/cluster"
    (cluster / "jobs").mkdir(parents=True)
    rows = [("10", "6", "1", "", "phase 1"), ("11", "7", "1", "6", "phase 2"), ("12", "8", "2", "7", "decode in parts"),
            ("13", "8", "1", "8", "decode"), ("14", "9", "1", "8", "score")]
    (cluster / "submitted.tsv").write_text("".join("\t".join(["now", *row]) + "\n" for row in rows))
    squeue = folder / "squeue"
    squeue.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in queue))
    squeue.chmod(0o755)


def record(folder: Path, job: str, *fields: str) -> None:
    (folder / "exp/cluster/jobs" / job).write_text("\t".join(fields) + "\n")


def test_jobs_wait_run_and_are_taken_back(recipe):
    submit(recipe.folder, ["11|RUNNING|None", "12_1|PENDING|Dependency", "12_2|PENDING|Dependency",
                           "13|PENDING|Dependency", "14|PENDING|Dependency"])
    mark(recipe.folder / "exp", 6)
    record(recipe.folder, "10", "done", "12:00", "gpu07", "0", "")
    record(recipe.folder, "11", "running", "12:01", "gpu08", "", "for the 2. time")
    shown = recipe()
    assert "stage 6  phase 1: done" in shown and "job 10" not in shown
    assert "stage 7  phase 2: running\n         job 11       running: since 12:01 on gpu08, for the 2. time\n" in shown
    assert "stage 8  decode: waiting\n         job 12_1     waiting: Dependency\n" in shown
    assert f"logs     {recipe.folder}/exp/cluster/logs" in shown


def test_a_job_that_failed_says_why_and_what_it_kept_from_running(recipe):
    submit(recipe.folder, [])
    record(recipe.folder, "10", "failed", "12:00", "gpu07", "1", "run.sh: no space left")
    shown = recipe()
    log = recipe.folder / "exp/cluster/logs/stage-6.10.log"
    assert "stage 6  phase 1: failed\n" in shown
    assert f"job 10       failed: exit status 1: run.sh: no space left; log {log}\n" in shown
    assert "stage 7  phase 2: not run\n         job 11       dropped: stage 6 failed\n" in shown
    assert "stage 9  score: not run\n         job 14       dropped: stage 8 did not run\n" in shown


def test_a_job_that_slurm_has_ended_without_a_word_is_gone(recipe):
    submit(recipe.folder, [])
    record(recipe.folder, "10", "running", "12:00", "gpu07", "", "")
    assert "job 10       gone: cancelled, or ended by Slurm (time, memory, machine)" in recipe()


def test_it_starts_without_torch():
    code = "import sys, icefall_ext.bin.status; print(sorted({'torch', 'lhotse', 'omegaconf'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.stdout == "[]\n"
