"""The training loop on a toy: resuming, averaging, and what happens to bad data."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from icefall_ext.errors import UsageError, UserError
from icefall_ext.train import checkpoint as files
from icefall_ext.train import run_folder
from icefall_ext.train.guards import Guard
from icefall_ext.train.objective import Loss
from icefall_ext.train.precision import batch_seed
from icefall_ext.train.restore import chosen_weights, restore_model
from icefall_ext.train.run_folder import RunFolder
from tests.training_toys import make_trainer, train_bpe, write_cuts


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder), train_bpe(folder)


def rows(trainer, kind="train"):
    lines = trainer.folder.metrics.read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def losses(trainer):
    return [(row["epoch"], row["batch"], row["loss"]) for row in rows(trainer)]


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_after(trainer, batches: int):
    """Stop in the middle of the batch after that many."""
    backward = trainer._backward

    def stopping(batch):
        if trainer.counters.batch_idx_train > batches:
            raise Stop
        return backward(batch)

    trainer._backward = stopping


@pytest.mark.parametrize("batches", [1, 3, 6, 8])
def test_a_resumed_training_goes_on_bit_for_bit(toys, tmp_path, batches):
    whole = make_trainer(tmp_path / "whole", *toys)
    whole.fit()
    assert whole.counters.batch_idx_train > 8, "too short to stop in the middle"
    stopped = make_trainer(tmp_path / "parts", *toys)
    stop_after(stopped, batches)
    with pytest.raises(Stop):
        stopped.fit()
    resumed = make_trainer(tmp_path / "parts", *toys)
    resumed.fit()
    assert losses(resumed) == losses(whole)
    for name in ("model", "average"):
        ours, theirs = getattr(resumed, name).state_dict(), getattr(whole, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    assert rows(resumed, "valid")[-1]["loss"] == rows(whole, "valid")[-1]["loss"]


def test_a_finished_training_is_left_as_it_is(toys, tmp_path, capsys):
    make_trainer(tmp_path / "exp", *toys).fit()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "exp").glob("*.pt")}
    make_trainer(tmp_path / "exp", *toys).fit()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "exp").glob("*.pt")} == before
    assert "2 epochs were done" in capsys.readouterr().out


def test_an_option_that_came_later_had_its_default_before(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, epochs=1).fit()
    config = tmp_path / "exp/config.yaml"
    lines = config.read_text(encoding="utf-8").splitlines()
    config.write_text("\n".join(line for line in lines if "clipping_scale" not in line) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="trained with --clipping-scale 2.0, not 3.0"):
        make_trainer(tmp_path / "exp", *toys, epochs=1, clipping_scale=3.0)
    make_trainer(tmp_path / "exp", *toys, epochs=1)


def test_more_epochs_go_on_from_where_it_ended(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, epochs=1).fit()
    longer = make_trainer(tmp_path / "exp", *toys, epochs=2)
    longer.fit()
    whole = make_trainer(tmp_path / "whole", *toys, epochs=2)
    whole.fit()
    assert losses(longer) == losses(whole)


def test_training_lowers_the_loss(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, epochs=10, accumulate=1)
    trainer.fit()
    valid = [row["loss"] for row in rows(trainer, "valid")]
    assert valid[-1] < 0.8 * valid[0]
    assert trainer.counters.best_valid_epoch == 1 + int(np.argmin(valid))
    best = files.load_checkpoint(tmp_path / "exp/best-valid-loss.pt")
    assert best["best_valid_loss"] == pytest.approx(min(valid), rel=1e-5)


def test_the_running_average_is_the_mean_of_the_models(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, accumulate=1, average_period=1)
    models = {}
    step = files.update_average

    def watch(average, model, batch, period):
        models[batch] = {k: v.double().clone() for k, v in model.state_dict().items() if v.is_floating_point()}
        step(average, model, batch, period)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "update_average", watch)
        trainer.fit()
    ends = [files.load_checkpoint(tmp_path / f"exp/epoch-{n}.pt") for n in (1, 2)]
    first, last = (content["batch_idx_train"] for content in ends)
    weights = chosen_weights(tmp_path / "exp", epoch=2, iteration=0, avg=1, use_averaged_model=True)
    for name in ("joiner.output_linear.weight", "encoder.backbone.encoder.layers.0.final_layer_norm.weight"):
        mean = sum(models[b][name] for b in range(first + 1, last + 1)) / (last - first)
        torch.testing.assert_close(weights.tensors[name], mean, rtol=1e-9, atol=1e-12)
    whole = chosen_weights(tmp_path / "exp", epoch=2, iteration=0, avg=2, use_averaged_model=True)
    mean = sum(models[b]["joiner.output_linear.weight"] for b in range(1, last + 1)) / last
    torch.testing.assert_close(whole.tensors["joiner.output_linear.weight"], mean, rtol=1e-9, atol=1e-12)


def test_a_model_comes_back_from_its_folder(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys)
    trainer.fit()
    toys[1]._write(tmp_path / "exp/lang", [])
    restored = restore_model(tmp_path / "exp", avg=1, use_averaged_model=False)
    assert restored.suffix == "epoch-2-avg-1" and restored.script == "tailo"
    audio, lengths = torch.randn(2, 8000) * 0.1, torch.tensor([8000, 5000])
    trainer.model.eval()
    torch.testing.assert_close(restored.model.encode(audio, lengths)[0], trainer.model.encode(audio, lengths)[0])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (dict(epoch=7, avg=1), "epoch-7.pt: no such checkpoint; there are 1, 2"),
        (dict(epoch=2, avg=3), "--avg 3: there are only 2 epochs"),
        (dict(epoch=0, avg=0), "--avg 0"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_clear_line(toys, tmp_path, choice, message):
    make_trainer(tmp_path / "exp", *toys).fit()
    with pytest.raises(UserError, match=message):
        chosen_weights(tmp_path / "exp", iteration=0, use_averaged_model=True, **choice)


def test_only_the_last_checkpoints_inside_epochs_are_kept(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, keep_last=1, save_every=1, accumulate=1).fit()
    assert len(files.batch_checkpoints(tmp_path / "exp")) == 1
    assert sorted(files.epoch_checkpoints(tmp_path / "exp")) == [1, 2]


def test_a_batch_without_a_finite_loss_is_set_aside_and_written_down(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, accumulate=1)
    objective, before = trainer.objective, {}

    def spoiled(batch, number):
        loss = objective(batch, number)
        if number == 3:
            before.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
            return Loss(loss.total * torch.nan, loss.terms, loss.units)
        if number == 4:
            now = trainer.model.state_dict()
            assert all(torch.equal(before[k], now[k]) for k in now), "the bad batch changed the model"
        return loss

    spoiled.unit = "token"
    trainer.objective = spoiled
    trainer.fit()
    dumped = json.loads((tmp_path / "exp/bad-batches/batch-3.json").read_text(encoding="utf-8"))
    assert dumped["why"] == "a loss of nan" and dumped["utterances"][0]["id"].startswith("cuts-")
    assert trainer.guard.counts.bad_batches == 1


def test_a_gradient_that_is_not_finite_takes_no_step(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, accumulate=1)
    objective = trainer.objective

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.nan

    def spoiled(batch, number):
        loss = objective(batch, number)
        return Loss(Spoil.apply(loss.total), loss.terms, loss.units) if number == 2 else loss

    spoiled.unit = "token"
    trainer.objective = spoiled
    trainer.fit()
    assert trainer.guard.counts.bad_batches == 1
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_several_bad_batches_in_a_row_end_the_training_with_an_explanation(tmp_path):
    guard = Guard(tmp_path, max_in_a_row=3, max_failed_share=0.1)
    guard.skip([], 1, "a loss of nan")
    guard.skip([], 2, "a loss of nan")
    guard.passed()
    guard.skip([], 3, "a loss of nan")
    guard.skip([], 4, "a loss of nan")
    with pytest.raises(UserError, match="3 batches in a row.*lower --train.lr"):
        guard.skip([], 5, "a loss of nan")


def test_an_utterance_without_a_path_does_not_spoil_its_batch(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys)
    (batch,) = trainer._load(trainer.data.train, trainer.data.batches(1, 1)[:1], 0)
    alone = trainer.objective(batch, 1)
    batch.tokens[0] = list(range(3, 203))  # more tokens than frames
    with_one = trainer.objective(batch, 1)
    assert with_one.left_out == [batch.ids[0]] and alone.left_out == []
    with_one.total.backward()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert torch.isfinite(with_one.total) and all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("damage", ["missing", "not a wav", "nan"])
def test_audio_that_cannot_be_loaded_is_counted_and_too_much_of_it_stops(toys, tmp_path, damage):
    cuts = write_cuts(tmp_path, 12, name="damaged")
    victim = tmp_path / "audio/damaged-3.wav"
    if damage == "missing":
        victim.unlink()
    elif damage == "not a wav":
        victim.write_bytes(b"not audio")
    else:
        soundfile.write(victim, np.full(soundfile.info(victim).frames, np.nan, np.float32), 16000, subtype="FLOAT")
    trainer = make_trainer(tmp_path / "exp", cuts, toys[1], max_failed_share=0.5)
    trainer.fit()
    assert trainer.guard.counts.failed == 2, "once an epoch"
    strict = make_trainer(tmp_path / "strict", cuts, toys[1], max_failed_share=0.0)
    with pytest.raises(UserError, match="damaged-3"):
        strict.fit()


def test_a_folder_refuses_another_configuration(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys).fit()
    with pytest.raises(UsageError, match="trained with --lr 0.02, not 0.01"):
        make_trainer(tmp_path / "exp", *toys, lr=0.01)


def test_a_folder_with_checkpoints_of_unknown_origin_is_refused(toys, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/epoch-1.pt").write_bytes(b"something")
    with pytest.raises(UserError, match="no config.yaml"):
        RunFolder.start(make_trainer(tmp_path / "other", *toys).cfg, tmp_path / "exp")


def test_neighbouring_batches_have_unrelated_random_numbers():
    seeds = {batch_seed(seed, batch) for seed in range(20) for batch in range(200)}
    assert len(seeds) == 20 * 200 and all(0 <= seed < 2**63 for seed in seeds)


def test_a_folder_refuses_other_data(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, epochs=1).fit()
    with pytest.raises(UserError, match="trained on other data"):
        make_trainer(tmp_path / "exp", write_cuts(tmp_path, seed=5, name="others"), toys[1], epochs=2).fit()


def test_a_folder_refuses_to_go_on_from_other_first_weights(toys, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"those of Monday")
    make_trainer(tmp_path / "exp", *toys, epochs=1, began_from=[weights]).fit()
    make_trainer(tmp_path / "exp", *toys, epochs=2, began_from=[weights.rename(tmp_path / "moved")]).fit()
    weights.write_bytes(b"those of Tuesday")
    trainer = make_trainer(tmp_path / "exp", *toys, epochs=3, began_from=[weights])
    with pytest.raises(UserError, match=f"epoch-2.pt: began from other weights than {weights} now holds"):
        trainer.fit()
    assert not (tmp_path / "exp/epoch-3.pt").exists()


def test_a_second_training_in_the_same_folder_is_refused(toys, tmp_path):
    first = make_trainer(tmp_path / "exp", *toys)
    code = "import pathlib, sys, icefall_ext.train.run_folder as m; m.take_lock(pathlib.Path(sys.argv[1]))"
    second = subprocess.run([sys.executable, "-c", code, tmp_path / "exp"], capture_output=True, text=True)
    assert second.returncode != 0 and f"process {os.getpid()} on" in second.stderr
    assert first.folder.path.is_dir()


def test_a_copy_of_the_code_names_the_commit_that_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "icefall_ext/train/run_folder.py"))
    (tmp_path / "COMMIT").write_text("0123456789+\n")
    assert run_folder.commit() == "0123456789+"
