"""Several processes train one model: same losses as one process with as many batches to a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icefall_ext.train import checkpoint as files
from tests.training_toys import train_bpe, write_cuts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    cuts = write_cuts(folder, 16)
    train_bpe(folder)
    return folder, cuts


def train(folder: Path, cuts: Path, exp: Path, processes: int, *options: str) -> subprocess.CompletedProcess:
    settings = {
        "script": "tailo", "lang-dir": folder / "lang_tailo", "train-cuts": cuts, "valid-cuts": cuts, "workers": 0,
        "threads": 1, "encoder.source": "random:tiny-mel", "model.predictor-dim": 16, "model.joiner-dim": 16,
        "batch.max-utterances": 2, "train.epochs": 2, "train.lr": 0.02, "train.average-period": 1,
        "loss.warm-batches": 0, "train.lr-warmup": 0, "train.lr-batches": 1e9,  # what counts batches would differ
    }
    fixed = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "icefall_ext.bin.launch", str(processes), "icefall_ext.bin.train",
               "--exp-dir", str(exp), *fixed, *options]
    environment = {k: v for k, v in os.environ.items() if k != "CALLED_AS"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


def test_two_processes_learn_what_one_does_with_twice_the_batches_to_a_step(toys, tmp_path):
    folder, cuts = toys
    one = train(folder, cuts, tmp_path / "one", 1, "--train.accumulate", "2")
    two = train(folder, cuts, tmp_path / "two", 2, "--train.accumulate", "1")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert two.stdout.count("epoch 2/2") == 1, "only one process speaks"
    rows = [
        [json.loads(line) for line in (tmp_path / name / "log/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", "two")
    ]
    valid = [[row["loss"] for row in of_run if row["kind"] == "valid"] for of_run in rows]
    assert valid[1] == pytest.approx(valid[0], rel=1e-4)
    models = [files.load_checkpoint(tmp_path / name / "epoch-1.pt")["model"] for name in ("one", "two")]
    for key, value in models[0].items():
        assert (value - models[1][key]).abs().max() < 1e-4 * (1 + value.abs().max()), key


def test_a_process_that_dies_ends_the_others_with_its_message(toys, tmp_path):
    folder, cuts = toys
    started = time.monotonic()
    result = train(folder, cuts, tmp_path / "exp", 2, "--train.amp", "fp16", "--device", "cpu")
    assert result.returncode == 1 and time.monotonic() - started < 120
    assert "--train.amp fp16: needs a GPU" in result.stderr and "Traceback" not in result.stderr


def test_wrong_options_end_all_processes_before_they_meet(toys, tmp_path):
    folder, cuts = toys
    result = train(folder, cuts, tmp_path / "exp", 2, "--train.lr", "-1")
    assert result.returncode == 2 and "lr -1.0: must be above 0" in result.stderr
    assert not (tmp_path / "exp").exists()
