"""The native loss against real k2: values, ranges and gradients of every step, in all three topologies."""

from __future__ import annotations

import pytest
import torch

from icefall_ext.transducer.loss import (
    RNNT_TYPES,
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    pruned_rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)

pytestmark = pytest.mark.k2
BLANK = 0
each_type = pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
each_seed = pytest.mark.parametrize("seed", range(4))


class Batch:
    """Random utterances, none with more symbols than frames, as k2 1.23 wants.

    With a small `spread` of the scores no two blocks of rows are equally good: where they are, k2's choice between them
    is one of rounding.
    """

    def __init__(self, seed, spread=2.0, vocab=40, joiner_dim=16):
        torch.manual_seed(seed)
        size, S, T = 1 + seed % 5, (1, 12, 30)[seed % 3], (30, 80)[seed % 2]
        symbols = torch.randint(0, S + 1, (size,))
        frames = torch.maximum(torch.randint(1, T + 1, (size,)), symbols)
        symbols[0], frames[0] = S, T
        self.boundary = torch.stack((0 * symbols, 0 * symbols, symbols, frames), 1)
        self.symbols = torch.randint(1, vocab, (size, S))
        self.lm, self.am, self.decoder, self.encoder = (
            (torch.randn(shape) * spread).requires_grad_()
            for shape in ((size, S + 1, vocab), (size, T, vocab), (size, S + 1, joiner_dim), (size, T, joiner_dim))
        )
        self.linear = torch.nn.Linear(joiner_dim, vocab)

    def joiner(self, am, lm):
        return self.linear(torch.tanh(am + lm))


def both(function, *inputs):
    """(value, gradients) through us and through k2; the value may be a tuple of losses, weighted at random."""
    for backend in ("torch", "k2"):
        losses = function(backend)
        torch.manual_seed(1)
        weighted = (losses * torch.rand_like(losses)).sum()
        yield losses.detach(), torch.autograd.grad(weighted, inputs)


def assert_same(pairs):
    (ours, our_grads), (theirs, their_grads) = pairs
    assert theirs.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for grad, their_grad in zip(our_grads, their_grads):
        torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-4)


@each_seed
@each_type
@pytest.mark.parametrize("scales", [(0.0, 0.0), (0.25, 0.0), (0.1, 0.3)])
@pytest.mark.parametrize("delay_penalty", [0.0, 0.05])
def test_smoothed_loss_and_gradient(seed, rnnt_type, scales, delay_penalty):
    batch = Batch(seed)
    arguments = (batch.symbols, BLANK, *scales, batch.boundary, rnnt_type, delay_penalty, "none")
    assert_same(
        both(lambda backend: rnnt_loss_smoothed(batch.lm, batch.am, *arguments, backend=backend), batch.lm, batch.am)
    )


@each_type
@pytest.mark.parametrize("seed", range(12))
def test_occupations_and_ranges(seed, rnnt_type):
    batch = Batch(seed, spread=0.1)
    arguments = (batch.lm, batch.am, batch.symbols, BLANK, 0.25, 0.1, batch.boundary, rnnt_type)
    _, ours = rnnt_loss_smoothed(*arguments, return_grad=True, backend="torch")
    _, theirs = rnnt_loss_smoothed(*arguments, return_grad=True, backend="k2")
    for our_grad, their_grad in zip(ours, theirs):
        torch.testing.assert_close(our_grad, their_grad, rtol=1e-4, atol=1e-4)
    for s_range in (2, 3, 5, 50):
        ranges = get_rnnt_prune_ranges(*ours, batch.boundary, s_range, backend="torch")
        assert torch.equal(ranges, get_rnnt_prune_ranges(*theirs, batch.boundary, s_range, backend="k2"))


@each_seed
@each_type
def test_ranges_of_the_same_occupations_and_what_is_gathered_by_them(seed, rnnt_type):
    batch = Batch(seed)
    arguments = (batch.lm, batch.am, batch.symbols, BLANK, 0.25, 0.0, batch.boundary, rnnt_type)
    _, occupations = rnnt_loss_smoothed(*arguments, return_grad=True, backend="k2")
    for s_range in (2, 3, 5, 50):
        ours, theirs = (
            get_rnnt_prune_ranges(*occupations, batch.boundary, s_range, backend=backend) for backend in ("torch", "k2")
        )
        assert torch.equal(ours, theirs)
        gathered = (do_rnnt_pruning(batch.encoder, batch.decoder, ours, backend=backend) for backend in ("torch", "k2"))
        assert all(torch.equal(one, other) for one, other in zip(*gathered))


@each_seed
@each_type
@pytest.mark.parametrize("delay_penalty", [0.0, 0.05])
def test_pruned_loss_and_gradient_on_the_same_ranges(seed, rnnt_type, delay_penalty):
    batch = Batch(seed)
    _, occupations = rnnt_loss_smoothed(
        batch.lm, batch.am, batch.symbols, BLANK, 0.25, 0.0, batch.boundary, rnnt_type, return_grad=True, backend="k2"
    )
    ranges = get_rnnt_prune_ranges(*occupations, batch.boundary, 4, backend="k2")
    logits = (torch.randn(*ranges.shape, 40) * 2).requires_grad_()
    arguments = (batch.symbols, ranges, BLANK, batch.boundary, rnnt_type, delay_penalty, "none")
    assert_same(both(lambda backend: rnnt_loss_pruned(logits, *arguments, backend=backend), logits))


@each_seed
@each_type
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_all_four_steps_and_the_joiners_parameters(seed, rnnt_type, reduction):
    batch = Batch(seed, spread=0.1)
    inputs = (batch.lm, batch.am, batch.decoder, batch.encoder)
    arguments = (batch.joiner, batch.symbols, BLANK, 4, 0.25, 0.1, batch.boundary, rnnt_type, 0.01, reduction)

    def losses(backend):
        return torch.stack(pruned_rnnt_loss(*inputs, *arguments, backend=backend))

    assert_same(both(losses, *inputs, *batch.linear.parameters()))


def test_boundary_may_be_left_out():
    batch = Batch(1)
    assert_same(
        both(
            lambda backend: rnnt_loss_smoothed(
                batch.lm, batch.am, batch.symbols, BLANK, reduction="none", backend=backend
            ),
            batch.lm,
            batch.am,
        )
    )


def test_what_k2_cannot_take_runs_in_torch():
    torch.manual_seed(0)
    for symbols, frames in ((0, 5), (6, 3)):
        lm, am = torch.randn(2, symbols + 1, 7), torch.randn(2, frames, 7)
        arguments = (lm, am, lm, am, torch.add, torch.ones(2, symbols, dtype=torch.int64), BLANK, 3)
        ours, theirs = (pruned_rnnt_loss(*arguments, backend=backend) for backend in ("torch", "k2"))
        torch.testing.assert_close(theirs, ours)


def test_auto_takes_k2_where_it_imports(monkeypatch):
    import k2

    called = []
    monkeypatch.setattr(k2, "rnnt_loss_smoothed", lambda *a, **k: called.append(a) or torch.zeros(()))
    batch = Batch(0)
    rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK)
    assert called
