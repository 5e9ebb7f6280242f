"""Several processes train one model: same losses as one process with as many batches to a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from icefall_ext.distributed.link import free_port
from icefall_ext.distributed.world import World
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train import checkpoint as files
from tests.training_toys import make_trainer, train_bpe, write_cuts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    cuts = write_cuts(folder, 16)
    train_bpe(folder)
    return folder, cuts


def train(
    folder: Path, cuts: Path, exp: Path, processes: int, *options: str, launcher: list[str] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess:
    settings = {
        "script": "tailo", "lang-dir": folder / "lang_tailo", "train-cuts": cuts, "valid-cuts": cuts, "workers": 0,
        "threads": 1, "encoder.source": "random:tiny-mel", "model.predictor-dim": 16, "model.joiner-dim": 16,
        "batch.max-utterances": 2, "train.epochs": 2, "train.lr": 0.02, "train.average-period": 1,
        "loss.warm-batches": 0, "train.lr-warmup": 0, "train.lr-batches": 1e9,  # what counts batches would differ
    }
    fixed = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    launcher = launcher or ["icefall_ext.bin.launch", str(processes), "icefall_ext.bin.train"]
    command = [sys.executable, "-m", *launcher, "--exp-dir", str(exp), *fixed, *options]
    environment = {k: v for k, v in os.environ.items() if k != "CALLED_AS"} | variables
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


def test_gradients_are_summed_once_a_step_however_many_batches_it_has(toys, tmp_path, monkeypatch):
    folder, cuts = toys
    calls: list[int] = []
    monkeypatch.setattr(World, "sum_gradients", lambda self, parameters, batches: calls.append(batches) or batches)
    trainer = make_trainer(tmp_path, cuts, ByteBPE.load(folder / "lang_tailo"), accumulate=4, epochs=1)
    trainer.fit()
    batches = len(trainer.data.all_batches(trainer.cfg.seed, 1))
    assert len(calls) == -(-batches // 4) < batches and sum(calls) == batches


def test_frozen_parts_are_not_sent_and_parts_without_a_gradient_count_as_zero(monkeypatch):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    model[2](torch.ones(1, 2)).sum().backward()  # the second layer was dropped
    sent: list[int] = []

    def all_reduce(flat: torch.Tensor) -> None:
        sent.append(len(flat))
        flat *= 2  # as if another process had the same

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    assert World(0, 2).sum_gradients(model.parameters(), 3) == 6
    assert sent == [1 + (3 * 2 + 2) + (2 + 1)], "the number of batches, and two layers of three"
    assert model[0].weight.grad is None and not model[1].weight.grad.any()
    assert model[2].weight.grad.tolist() == [[2.0, 2.0]]


KILLED_ONCE = """
import os, pathlib, signal
from icefall_ext.bin import train
from icefall_ext.cli import run
from icefall_ext.train import transducer_objective as module
class KilledOnce(module.TransducerObjective):
    def __call__(self, batch, number):
        once = pathlib.Path(os.environ["ONCE"])
        if os.environ["RANK"] == "1" and number == 6 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch, number)
module.TransducerObjective = KilledOnce
if __name__ == "__main__":
    run(train.main, train.Config)
"""


def test_torchrun_starts_a_training_anew_that_lost_a_process_and_it_ends_as_if_nothing_had_been(toys, tmp_path):
    """With layers that are dropped, a frozen one, and utterances that two processes cannot share evenly."""
    folder, _ = toys
    cuts = write_cuts(folder, 17, name="odd")
    (tmp_path / "killed_once.py").write_text(KILLED_ONCE)
    options = ["--encoder.layer-drop", "0.5", "--encoder.freeze", "layers:1", "--train.save-every", "2"]
    # Underscores, as torch 1.13 knows no other.
    elastic = ["torch.distributed.run", "--nproc_per_node", "2", "--max_restarts", "1", "--master_port",
               str(free_port()), "-m", "killed_once"]
    places = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "ONCE": str(tmp_path / "once"), "OMP_NUM_THREADS": "1"}
    killed = train(folder, cuts, tmp_path / "killed", 2, *options, launcher=elastic, **places)
    assert killed.returncode == 0, killed.stdout + killed.stderr
    assert (tmp_path / "once").exists() and "goes on" in killed.stdout
    undisturbed = train(folder, cuts, tmp_path / "undisturbed", 2, *options)
    assert undisturbed.returncode == 0, undisturbed.stderr
    models = [files.load_checkpoint(tmp_path / name / "epoch-2.pt")["model"] for name in ("killed", "undisturbed")]
    for key, value in models[0].items():
        assert torch.equal(value, models[1][key]), key
