"""A training that runs out of memory: what it says, and how it goes on in smaller parts. The allocator is a simulation
that takes no more than so many padded seconds at once."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from icefall_ext.errors import UserError
from icefall_ext.interruption import Stopped
from icefall_ext.train import checkpoint as files
from icefall_ext.train.memory import out_of_memory, seconds
from icefall_ext.train.scan import try_largest_batches
from tests.training_toys import make_trainer, train_bpe, write_cuts

TEXT = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder), train_bpe(folder)


class Spill(torch.autograd.Function):
    """Fails on the way back, when some parameters have their gradients and others have not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError(TEXT)


def with_little_memory(trainer, most: float, where: str = "forward"):
    """Records what was given to the model, batch by batch."""
    objective, seen = trainer.objective, []

    def limited(part, number):
        if seconds(part) > most and where == "forward":
            raise RuntimeError(TEXT)
        if seconds(part) > most:
            for layer in trainer.model.encoder.backbone.encoder.layers[:1]:
                hook = layer.register_forward_hook(lambda _, __, out: tuple(map(Spill.apply, out[:1])) + tuple(out[1:])
                                                   if isinstance(out, tuple) else Spill.apply(out))
            try:
                return objective(part, number)
            finally:
                hook.remove()
        if trainer.model.training:
            seen.append((number, part.ids))
        return objective(part, number)

    limited.unit = objective.unit
    trainer.objective = limited
    return seen


def utterances(seen) -> dict[int, list[str]]:
    by_batch: dict[int, set[str]] = {}
    for number, ids in seen:
        by_batch.setdefault(number, set()).update(ids)
    return {number: sorted(ids) for number, ids in by_batch.items()}


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_out_of_memory_is_known_on_all_devices_and_nothing_else_is():
    assert out_of_memory(MemoryError()) and out_of_memory(RuntimeError(TEXT))
    assert out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("scan", [False, True])
def test_out_of_memory_names_the_batch_and_what_would_have_prevented_it(toys, tmp_path, scan):
    trainer = make_trainer(tmp_path / "exp", *toys)
    with_little_memory(trainer, 2.0)
    with pytest.raises(UserError) as error:
        try_largest_batches(trainer) if scan else trainer.fit()
    for part in (" x ", " s, ", " tokens; ", "--batch.max-duration (now 4)", "--train.on-oom shrink"):
        assert part in str(error.value)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_with_shrink_the_same_batches_are_computed_in_parts_with_the_same_gradients(toys, tmp_path, where):
    whole = make_trainer(tmp_path / "whole", *toys, epochs=1)
    parts = make_trainer(tmp_path / "parts", *toys, epochs=1, on_oom="shrink")
    for trainer in (whole, parts):  # draw nothing: parts draw other numbers than the whole
        trainer.model.encoder.cfg.mask_time_prob = 0.0
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    plain = with_little_memory(whole, 1e9)
    seen = with_little_memory(parts, 2.0, where)
    whole.fit()
    parts.fit()
    assert utterances(seen) == utterances(plain), "nothing is lost"
    assert parts.portions.most < 4.0 and max(len(ids) for _, ids in seen) < max(len(ids) for _, ids in plain)
    assert parts.of_epoch.utterances == whole.of_epoch.utterances
    norms = [[row["grad_norm"] for row in read(trainer) if "grad_norm" in row] for trainer in (whole, parts)]
    assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-3), "the first step, in which memory ran out"


def read(trainer):
    return [json.loads(line) for line in trainer.folder.metrics.read_text(encoding="utf-8").splitlines()]


def test_what_was_learnt_about_memory_is_part_of_a_checkpoint(toys, tmp_path):
    options = dict(accumulate=2, on_oom="shrink", save_every=100)
    undisturbed = make_trainer(tmp_path / "undisturbed", *toys, **options)
    with_little_memory(undisturbed, 2.0)
    undisturbed.fit()
    first = make_trainer(tmp_path / "exp", *toys, **options)
    with_little_memory(first, 2.0)
    between = first._between_steps
    first._between_steps = lambda last: (signal.raise_signal(signal.SIGTERM), between(last))
    with pytest.raises(Stopped):
        first.fit()
    again = make_trainer(tmp_path / "exp", *toys, **options)
    seen = with_little_memory(again, 2.0)
    again.fit()
    assert again.portions.most == undisturbed.portions.most
    assert not again.portions.shrunk and seen
    ours, theirs = weights(again), weights(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert files.load_checkpoint(tmp_path / "exp/epoch-2.pt")["most_seconds"] == again.portions.most


def test_one_utterance_that_does_not_fit_ends_the_training_with_its_name(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, on_oom="shrink")
    with_little_memory(trainer, 0.1)
    with pytest.raises(UserError, match=r"out of memory at one utterance \(cuts-\d+, 1 x .*--max-seconds"):
        trainer.fit()


def test_a_scan_finds_the_parts_that_fit(toys, tmp_path, capsys):
    trainer = make_trainer(tmp_path / "exp", *toys, on_oom="shrink")
    with_little_memory(trainer, 2.0)
    try_largest_batches(trainer)
    assert trainer.portions.most <= 2.0 * 2 and "they fit" in capsys.readouterr().out


def test_another_error_is_not_taken_for_a_lack_of_memory(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, on_oom="shrink")

    def broken(part, number):
        raise RuntimeError("shapes cannot be multiplied")

    broken.unit = "token"
    trainer.objective = broken
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer.fit()
