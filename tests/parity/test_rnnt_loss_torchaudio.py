"""The native loss over all rows against torchaudio's full RNN-T loss, an independent implementation."""

from __future__ import annotations

import pytest
import torch
import torchaudio

from icefall_ext.transducer.loss import (
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    pruned_rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)

BLANK = 0


def batch(symbols, frames, vocab, seed=0):
    torch.manual_seed(seed)
    size, S, T = len(symbols), max(symbols), max(frames)
    targets = torch.randint(1, vocab, (size, S))
    boundary = torch.tensor([[0, 0, s, t] for s, t in zip(symbols, frames)])
    return torch.randn(size, T, vocab), torch.randn(size, S + 1, vocab), targets, boundary


def torchaudio_loss(logits, targets, boundary):
    frames, symbols = boundary[:, 3].int(), boundary[:, 2].int()
    return torchaudio.functional.rnnt_loss(logits, targets.int(), frames, symbols, blank=BLANK, reduction="none")


def assert_same(ours, theirs, *inputs):
    """Loss and gradient to 1e-4, but 4e-4 where float32 sums of 700 leave torchaudio's gradient no more digits."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    tolerance = 1e-4 if theirs.max() < 500 else 4e-4
    for one, other in zip(*(torch.autograd.grad(loss.sum(), inputs) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


sizes = pytest.mark.parametrize(
    "symbols, frames, vocab",
    [
        ((7, 3, 5), (20, 15, 6), 11),
        ((1,), (1,), 2),
        ((12, 12), (5, 12), 30),
        ((40, 25, 33, 1), (120, 150, 90, 40), 100),
    ],
)


@sizes
def test_full_lattice_has_torchaudios_value_and_gradient(symbols, frames, vocab):
    am, lm, targets, boundary = batch(symbols, frames, vocab)
    logits = (torch.tanh(am[:, :, None] + lm[:, None]) * 4).requires_grad_()
    ranges = torch.arange(logits.shape[2]).expand(logits.shape[:3])
    ours = rnnt_loss_pruned(logits, targets, ranges, BLANK, boundary, reduction="none", backend="torch")
    theirs = torchaudio_loss(logits, targets, boundary)
    assert_same(ours, theirs, logits)


@sizes
def test_simple_loss_without_smoothing_is_the_full_loss_of_the_sum(symbols, frames, vocab):
    am, lm, targets, boundary = (
        x.requires_grad_() if x.is_floating_point() else x for x in batch(symbols, frames, vocab)
    )
    ours = rnnt_loss_smoothed(lm, am, targets, BLANK, 0.0, 0.0, boundary, reduction="none", backend="torch")
    theirs = torchaudio_loss(am[:, :, None] + lm[:, None], targets, boundary)
    assert_same(ours, theirs, am, lm)


@sizes
def test_prune_range_of_all_rows_agrees_through_every_step(symbols, frames, vocab):
    am, lm, targets, boundary = batch(symbols, frames, vocab)
    theirs = torchaudio_loss(torch.tanh(am[:, :, None] + lm[:, None]), targets, boundary)
    arguments = (targets, BLANK, max(symbols) + 1, 0.25, 0.0, boundary)

    def joiner(am, lm):
        return torch.tanh(am + lm)

    losses = pruned_rnnt_loss(lm, am, lm, am, joiner, *arguments, reduction="none", backend="torch")
    torch.testing.assert_close(losses.pruned, theirs, rtol=1e-4, atol=1e-4)


def test_pruning_approaches_the_full_loss_from_above():
    am, lm, targets, boundary = batch((15, 12), (60, 50), 20)
    _, grads = rnnt_loss_smoothed(lm, am, targets, BLANK, boundary=boundary, return_grad=True, backend="torch")
    full = torchaudio_loss(am[:, :, None] + lm[:, None], targets, boundary)
    gaps = []
    for s_range in (2, 4, 8, 16):
        ranges = get_rnnt_prune_ranges(*grads, boundary, s_range, backend="torch")
        logits = torch.add(*do_rnnt_pruning(am, lm, ranges, backend="torch"))
        pruned = rnnt_loss_pruned(logits, targets, ranges, BLANK, boundary, reduction="none", backend="torch")
        gaps.append(float((pruned - full).max()))
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.1 and abs(gaps[-1]) < 1e-4 * float(full.max())
