"""Where a transducer loss meets the odd batch: nothing to say, too little time, impossible symbols, half precision."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rnnt_alignments import BLANK, INF, Batch, definition_of_full, enumerated_losses, gradients

from icefall_ext.errors import UsageError
from icefall_ext.transducer.loss import (
    RNNT_TYPES,
    backends,
    get_rnnt_prune_ranges,
    pruned_rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)
from icefall_ext.transducer.loss.recursion import total_scores

each_type = pytest.mark.parametrize("rnnt_type", RNNT_TYPES)


def both_losses(batch, rnnt_type="regular", s_range=3, reduction="none", **options):
    return pruned_rnnt_loss(
        *(batch.lm, batch.am, batch.lm, batch.am, torch.add, batch.symbols, BLANK, s_range, 0.2, 0.1, batch.boundary),
        *(rnnt_type, 0.0, reduction),
        backend="torch",
        **options,
    )


@pytest.mark.parametrize(
    "symbols, frames",
    [
        pytest.param((0, 0, 0), (4, 1, 2), id="all transcripts empty"),
        pytest.param((0, 2), (3, 3), id="one transcript empty"),
        pytest.param((1, 1), (1, 3), id="one frame"),
        pytest.param((1,), (5,), id="one symbol, one utterance"),
        pytest.param((4, 3), (4, 3), id="as many frames as symbols"),
        pytest.param((6, 1), (2, 3), id="fewer frames than symbols"),
        pytest.param((2, 0), (3, 0), id="no frames, no symbols"),
    ],
)
@pytest.mark.parametrize("padding", [0, 2])
@each_type
def test_small_batches_have_the_loss_of_all_their_alignments(symbols, frames, padding, rnnt_type):
    batch = Batch(symbols, frames, vocab=4, extra=(padding, padding))
    rows = batch.S + 1
    losses = both_losses(batch, rnnt_type, s_range=max(2, rows))  # all rows: the pruned loss of am + lm is exact
    logits = batch.am[:, :, None] + batch.lm[:, None]
    expected = enumerated_losses(definition_of_full(logits, batch, rnnt_type), batch, rnnt_type)
    torch.testing.assert_close(losses.pruned, expected)
    has_path = torch.tensor([rnnt_type == "regular" or s <= t for s, t in zip(symbols, frames)])
    assert torch.equal(losses.simple.isfinite(), has_path)
    assert all(grad.isfinite().all() for grad in gradients(torch.stack(losses).sum(), batch.lm, batch.am))


@each_type
def test_an_utterance_without_a_path_has_infinite_loss_and_leaves_the_others_gradient_alone(rnnt_type):
    batch = Batch((1, 3), (4, 4), extra=(0, 0))
    logits = batch.random(batch.T, batch.S + 1, batch.vocab).detach()
    logits[0, :, 0, batch.symbols[0, 0]] = -INF  # its only symbol cannot be emitted
    logits.requires_grad_()
    loss = rnnt_loss_pruned(
        logits, batch.symbols, batch.all_rows(), BLANK, batch.boundary, rnnt_type, 0.0, "none", backend="torch"
    )
    (grad,) = gradients(loss.sum(), logits)
    assert loss[0] == INF and loss[1].isfinite()
    assert not grad[0].any() and grad.isfinite().all() and grad[1].any()


@each_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", [-INF, -1e4, 1e4])
def test_impossible_and_extreme_logits_give_no_nan(dtype, extreme, rnnt_type):
    batch = Batch((2, 3), (5, 4), vocab=6, dtype=torch.float32)
    lm, am = batch.lm.detach().to(dtype), batch.am.detach().to(dtype)
    lm[0, :, 5] = extreme
    am[:, 1, 4] = extreme
    lm[1, 0], am[1, 0] = extreme, extreme  # a whole row, of both: with -inf no symbol at all is possible
    lm[0, 1, 2], am[0, 2, 3] = extreme, extreme
    batch.lm, batch.am = lm.requires_grad_(), am.requires_grad_()
    losses = both_losses(batch, rnnt_type)
    grads = gradients(torch.stack(losses).sum(), batch.lm, batch.am)
    assert not any(x.isnan().any() for x in (*losses, *grads))
    assert all(grad.isfinite().all() for grad in grads)
    assert (losses.simple[0] < INF) and (extreme == -INF) == (losses.simple[1] == INF)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_a_gradient_that_is_no_number_is_passed_on_and_not_dropped(bad, recompute):
    batch = Batch((2, 3), (5, 4))
    losses = both_losses(batch, recompute=recompute)
    (grad,) = gradients((losses.pruned * torch.tensor([1.0, bad])).sum(), batch.am)
    assert grad[0].isfinite().all() and not grad[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    batch = Batch((20, 15), (60, 50), vocab=30, dtype=torch.float32)
    batch.lm, batch.am = (x.detach().to(dtype).requires_grad_() for x in (batch.lm, batch.am))
    half = both_losses(batch, s_range=5)
    half_grads = gradients(half.simple.sum(), batch.lm, batch.am)
    batch.lm, batch.am = (x.detach().double().requires_grad_() for x in (batch.lm, batch.am))
    exact = both_losses(batch, s_range=5)
    assert half.simple.dtype == half.pruned.dtype == torch.float32
    torch.testing.assert_close(half.simple.double(), exact.simple, rtol=1e-6, atol=0)
    torch.testing.assert_close(half.pruned.double(), exact.pruned, rtol=1e-3, atol=0)  # am + lm was added in half
    for grad, exact_grad in zip(half_grads, gradients(exact.simple.sum(), batch.lm, batch.am)):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-2, atol=1e-3)


def test_autocast_does_not_reach_the_loss():
    batch = Batch((5, 3), (9, 8), dtype=torch.float32)
    expected = torch.stack(both_losses(batch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = torch.stack(both_losses(batch))
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("symbol_passes_frame", [False, True])
def test_float32_arcs_give_occupations_to_six_digits_on_long_utterances(symbol_passes_frame):
    torch.manual_seed(0)
    px, py = torch.randn(2, 60, 800) * 3 - 8, torch.randn(2, 61, 800) * 3 - 4
    boundary = torch.tensor([[0, 0, 60, 800], [0, 0, 40, 700]])
    single = total_scores(px, py, boundary, symbol_passes_frame, occupations=True)
    double = total_scores(px.double(), py.double(), boundary, symbol_passes_frame, occupations=True)
    assert single[0].dtype == torch.float32 and single[0].abs().min() > 1000
    for one, other in zip(single, double):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(double[1].sum((1, 2)), boundary[:, 2].double())  # every symbol once


def test_autograd_graph_does_not_grow_with_the_frames():
    def nodes(frames):
        batch = Batch((3,), (frames,))
        seen, pending = set(), [both_losses(batch, reduction="sum").simple.grad_fn]
        while pending:
            node = pending.pop()
            if node is not None and node not in seen:
                seen.add(node)
                pending.extend(parent for parent, _ in node.next_functions)
        return len(seen)

    assert nodes(50) == nodes(5)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), rnnt_type=st.sampled_from(RNNT_TYPES), s_range=st.integers(2, 7))
def test_ranges_always_hold_a_path(data, seed, rnnt_type, s_range):
    lengths = st.tuples(st.integers(0, 9), st.integers(1, 12))
    pairs = data.draw(st.lists(lengths, min_size=1, max_size=4))
    if rnnt_type != "regular":
        pairs = [(min(s, t), t) for s, t in pairs]
    batch = Batch(*zip(*pairs), dtype=torch.float32, extra=(seed % 2, seed % 3), seed=seed)
    options = {"boundary": batch.boundary, "rnnt_type": rnnt_type, "return_grad": True, "backend": "torch"}
    _, grads = rnnt_loss_smoothed(batch.lm * 3, batch.am * 3, batch.symbols, BLANK, **options)
    ranges = get_rnnt_prune_ranges(*grads, batch.boundary, s_range, backend="torch")
    starts, used = ranges[:, :, 0], ranges.shape[2]
    rise = starts.diff(dim=1)
    assert used >= min(s_range, batch.S + 1) and ranges.max() <= batch.S
    assert not starts[:, 0].any() and (rise >= 0).all()
    assert (rise <= (used - 1 if rnnt_type == "regular" else 1)).all()
    assert both_losses(batch, rnnt_type, s_range).pruned.isfinite().all()


def test_ranges_follow_the_occupations():
    """One path, known: symbol s + 1 on frame 2 s. Two rows a frame hold it, and of equal blocks the first is taken."""
    symbols, frames = 4, 8
    px = torch.full((1, symbols, frames), -20.0)
    px[0, torch.arange(symbols), torch.arange(0, frames, 2)] = 0.0
    py = torch.zeros(1, symbols + 1, frames)
    boundary = torch.tensor([[0, 0, symbols, frames]])
    _, px_grad, py_grad = total_scores(px, py, boundary, occupations=True)
    px_grad = torch.nn.functional.pad(px_grad, (0, 1))
    ranges = get_rnnt_prune_ranges(px_grad, py_grad, boundary, 2, backend="torch")
    assert ranges[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (px_grad[0, :, :frames] > 0.99).nonzero().tolist() == [[s, 2 * s] for s in range(symbols)]


def test_range_is_raised_for_few_frames_and_lowered_to_the_rows():
    for symbols, frames, s_range, expected in ((8, 2, 2, 5), (3, 9, 50, 4), (6, 6, 2, 2), (0, 5, 5, 1)):
        grads = torch.rand(1, symbols, frames + 1), torch.rand(1, symbols + 1, frames)
        boundary = torch.tensor([[0, 0, symbols, frames]])
        assert get_rnnt_prune_ranges(*grads, boundary, s_range, backend="torch").shape[2] == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rnnt_type": "strange"}, "rnnt_type 'strange'"),
        ({"reduction": "avg"}, "reduction 'avg'"),
        ({"delay_penalty": -1.0}, "delay_penalty -1.0"),
        ({"boundary": torch.tensor([[0, 0, 3, 99], [0, 0, 2, 3]])}, "T <= 6"),
        ({"boundary": torch.tensor([[1, 0, 3, 4], [0, 0, 2, 3]])}, r"\[0, 0, S"),
        ({"boundary": torch.tensor([[0, 0, 3, 4]])}, r"must be \(2, 4\)"),
        ({"s_range": 1}, "s_range 1"),
        ({"lm": torch.zeros(2, 6, 5)}, r"lm is \(2, 6, 5\), must be \(2, 5, ...\)"),
        ({"am": torch.zeros(2, 7, 5)}, r"am is \(2, 7, 5\), must be \(2, 6, ...\)"),
        ({"simple_lm": torch.zeros(1, 5, 5)}, r"simple_lm is \(1, 5, 5\), must be \(2, 5, ...\)"),
        ({"simple_lm": torch.zeros(2, 5, 6)}, "lm has 6 tokens and am 5"),
        ({"symbols": torch.ones(3)}, r"symbols are \(3,\)"),
        ({"backend": "cuda"}, "choose one of auto, torch, triton, k2"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    batch = Batch((3, 2), (4, 3))
    arguments = {
        "simple_lm": batch.lm, "simple_am": batch.am, "lm": batch.lm, "am": batch.am, "joiner": torch.add,
        "symbols": batch.symbols, "termination_symbol": BLANK, "boundary": batch.boundary, "s_range": 2,
        "backend": "torch", **change,
    }
    with pytest.raises((ValueError, UsageError), match=message):
        pruned_rnnt_loss(**arguments)


def test_ranges_of_another_shape_than_the_logits_are_refused():
    batch = Batch((3, 2), (4, 3))
    ranges = torch.zeros(2, 6, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"logits are \(2, 6, 3, 5\), ranges \(2, 6, 2\)"):
        rnnt_loss_pruned(torch.zeros(2, 6, 3, 5), batch.symbols, ranges, BLANK, batch.boundary, backend="torch")


def test_log_says_once_which_backend_ran_and_why(caplog, monkeypatch):
    backends._say.cache_clear()
    monkeypatch.setattr(backends, "why_no_k2", lambda: "k2 is not installed")
    batch = Batch((3, 2), (4, 3))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK)
    assert caplog.messages == ["RNN-T loss: torch backend (k2 is not installed)"]


def test_a_backend_that_is_missing_names_the_way_out(monkeypatch):
    monkeypatch.setattr(backends, "why_no_k2", lambda: "k2 does not load (OSError: libtorch.so)")
    batch = Batch((3, 2), (4, 3))
    with pytest.raises(UsageError, match="libtorch.so.*backend torch gives the same numbers"):
        rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK, backend="k2")
