"""The native pruned RNN-T loss against enumeration of all alignments, finite differences, and its own steps."""

from __future__ import annotations

import itertools

import pytest
import torch
from rnnt_alignments import (
    BLANK,
    INF,
    Batch,
    definition_of_full,
    definition_of_smoothed,
    enumerate_total,
    enumerated_losses,
    gradients,
)

from icefall_ext.transducer.loss import (
    RNNT_TYPES,
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    pruned_rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)
from icefall_ext.transducer.loss.recursion import total_scores

each_type = pytest.mark.parametrize("rnnt_type", RNNT_TYPES)


@pytest.mark.parametrize("symbol_passes_frame", [False, True])
@pytest.mark.parametrize("symbols, frames", [(0, 1), (0, 4), (1, 1), (3, 3), (2, 5), (4, 2), (3, 1)])
def test_total_and_occupations_are_those_of_all_alignments(symbols, frames, symbol_passes_frame):
    rnnt_type = "modified" if symbol_passes_frame else "regular"
    torch.manual_seed(symbols + frames)
    px, py = torch.randn(2, 5, 6).double(), torch.randn(2, 6, 6).double()
    boundary = torch.tensor([[0, 0, symbols, frames], [0, 0, 5, 6]])
    for b, (s, t) in enumerate(((symbols, frames), (5, 6))):
        expected = enumerate_total(px[b], py[b], s, t, rnnt_type)
        actual = total_scores(px, py, boundary, symbol_passes_frame, occupations=True)
        for one, other in zip(actual, expected):
            torch.testing.assert_close(one[b], other.to(one.dtype))


@each_type
@pytest.mark.parametrize("scales", [(0.0, 0.0), (0.25, 0.0), (0.1, 0.2), (1.0, 0.0), (0.0, 1.0)])
def test_smoothed_loss_is_its_definition_summed_over_all_alignments(rnnt_type, scales):
    batch = Batch()
    loss = rnnt_loss_smoothed(
        batch.lm, batch.am, batch.symbols, BLANK, *scales, batch.boundary, rnnt_type, 0.3, "none", backend="torch"
    )
    expected = enumerated_losses(definition_of_smoothed(batch, *scales, rnnt_type, 0.3), batch, rnnt_type)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(loss.sum(), batch.lm, batch.am), gradients(expected.sum(), batch.lm, batch.am))


@each_type
def test_pruned_loss_with_all_rows_is_the_full_loss(rnnt_type):
    batch = Batch()
    logits = batch.random(batch.T, batch.S + 1, batch.vocab)
    loss = rnnt_loss_pruned(
        logits, batch.symbols, batch.all_rows(), BLANK, batch.boundary, rnnt_type, 0.3, "none", backend="torch"
    )
    expected = enumerated_losses(definition_of_full(logits, batch, rnnt_type, 0.3), batch, rnnt_type)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(loss.sum(), logits), gradients(expected.sum(), logits))


def test_pruned_loss_sums_the_alignments_inside_the_ranges():
    batch = Batch(symbols=(4,), frames=(5,), extra=(0, 0))
    starts = torch.tensor([[0, 1, 1, 3, 3]])
    ranges = starts[:, :, None] + torch.arange(2)
    logits = batch.random(5, 5, batch.vocab)
    kept = logits.gather(2, ranges[..., None].expand(-1, -1, -1, batch.vocab))
    loss = rnnt_loss_pruned(kept, batch.symbols, ranges, BLANK, batch.boundary, "regular", 0.0, "sum", backend="torch")
    (px, py), *_ = definition_of_full(logits, batch, "regular")
    outside = torch.ones(5, 5, dtype=torch.bool).scatter(1, ranges[0], False).T
    total, *_ = enumerate_total(px.masked_fill(outside[:4], -INF), py.masked_fill(outside, -INF), 4, 5, "regular")
    torch.testing.assert_close(loss, -total)


@each_type
def test_gradients_are_those_of_finite_differences(rnnt_type):
    batch = Batch(symbols=(2, 1), frames=(3, 2), vocab=4, extra=(0, 0))
    logits = batch.random(batch.T, batch.S + 1, batch.vocab)

    def smoothed(lm, am):
        arguments = (batch.symbols, BLANK, 0.2, 0.1, batch.boundary, rnnt_type, 0.1, "sum")
        return rnnt_loss_smoothed(lm, am, *arguments, backend="torch")

    def pruned(logits):
        arguments = (batch.symbols, batch.all_rows(), BLANK, batch.boundary, rnnt_type, 0.1, "sum")
        return rnnt_loss_pruned(logits, *arguments, backend="torch")

    assert torch.autograd.gradcheck(smoothed, (batch.lm, batch.am))
    assert torch.autograd.gradcheck(pruned, (logits,))


@pytest.mark.parametrize("recompute", [False, True])
@each_type
def test_joiner_and_its_inputs_get_the_gradients_of_finite_differences(rnnt_type, recompute):
    batch = Batch(symbols=(2, 1), frames=(3, 2), vocab=4, extra=(0, 0))
    am, lm = batch.random(batch.T, 2), batch.random(batch.S + 1, 2)
    weight = batch.random(2, 4)[0].detach().requires_grad_()

    def losses(simple_lm, simple_am, lm, am, weight):
        s_range = batch.S + 1  # all rows, as ranges that move with the inputs have no derivative
        arguments = (batch.symbols, BLANK, s_range, 0.2, 0.1, batch.boundary, rnnt_type, 0.1, "none")

        def joiner(am, lm):
            return torch.tanh(am + lm) @ weight

        return pruned_rnnt_loss(simple_lm, simple_am, lm, am, joiner, *arguments, recompute=recompute, backend="torch")

    assert torch.autograd.gradcheck(losses, (batch.lm, batch.am, lm, am, weight))


def four_steps(batch, lm, am, joiner, s_range, *options):
    """The two losses from the four functions, as a recipe without `pruned_rnnt_loss` would call them."""
    simple, grads = rnnt_loss_smoothed(
        batch.lm, batch.am, batch.symbols, BLANK, 0.25, 0.1, batch.boundary, *options, return_grad=True, backend="torch"
    )
    ranges = get_rnnt_prune_ranges(*grads, batch.boundary, s_range, backend="torch")
    logits = joiner(*do_rnnt_pruning(am, lm, ranges, backend="torch"))
    pruned = rnnt_loss_pruned(logits, batch.symbols, ranges, BLANK, batch.boundary, *options, backend="torch")
    return simple, pruned


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("elements_at_once", [1, 100, 1 << 22])
@each_type
def test_pruned_rnnt_loss_is_the_four_steps_whatever_is_taken_at_once(
    rnnt_type, elements_at_once, recompute, monkeypatch
):
    monkeypatch.setattr("icefall_ext.transducer.loss.chunks.CPU_ELEMENTS", elements_at_once)
    batch = Batch(symbols=(5, 3, 0, 6), frames=(12, 9, 4, 7))
    am, lm, linear = batch.random(batch.T, 7), batch.random(batch.S + 1, 7), torch.nn.Linear(7, 5).double()
    inputs = (batch.lm, batch.am, lm, am, *linear.parameters())
    options = (rnnt_type, 0.1, "none")

    def joiner(am, lm):
        return linear(torch.tanh(am + lm))

    expected = torch.stack(four_steps(batch, lm, am, joiner, 3, *options))
    arguments = (batch.symbols, BLANK, 3, 0.25, 0.1, batch.boundary, *options)
    losses = pruned_rnnt_loss(batch.lm, batch.am, lm, am, joiner, *arguments, recompute=recompute, backend="torch")
    weights = batch.random(2).T.detach()
    torch.testing.assert_close(torch.stack(losses), expected)
    torch.testing.assert_close(
        gradients((weights * torch.stack(losses)).sum(), *inputs), gradients((weights * expected).sum(), *inputs)
    )


def test_joiner_sees_no_padding_and_some_frames_at_a_time(monkeypatch):
    monkeypatch.setattr("icefall_ext.transducer.loss.chunks.CPU_ELEMENTS", 4 * 3 * 5)
    batch = Batch(symbols=(5, 3), frames=(10, 6), extra=(1, 9))
    frames_seen = []

    def joiner(am, lm):
        frames_seen.append(am.shape[0])
        return am + lm

    arguments = (batch.lm, batch.am, batch.lm, batch.am, joiner, batch.symbols, BLANK, 3)
    pruned_rnnt_loss(*arguments, boundary=batch.boundary, recompute=False, backend="torch")
    assert frames_seen == [4, 4, 4, 4]


def test_recomputing_visits_only_the_cells_that_paths_use():
    batch = Batch(symbols=(5, 3), frames=(40, 30), dtype=torch.float32)
    with torch.no_grad():
        batch.am[:, :, BLANK] += 30 * (
            torch.arange(batch.T) > 9
        )  # every symbol comes early; then one cell a frame is left
    cells_seen = []

    def joiner(am, lm):
        cells_seen.append(am.shape[0] * am.shape[1])
        return am + lm

    arguments = (batch.lm, batch.am, batch.lm, batch.am, joiner, batch.symbols, BLANK, 4, 0.25, 0.0, batch.boundary)
    grads = {}
    for recompute in (False, True):
        cells_seen.clear()
        losses = pruned_rnnt_loss(*arguments, recompute=recompute, backend="torch")
        grads[recompute] = gradients(losses.pruned, batch.lm, batch.am)
    probe, forward, backward = cells_seen
    assert (probe, forward) == (1, 70 * 4)
    assert 70 <= backward < 70 + 2 * 10 * 3
    torch.testing.assert_close(grads[True], grads[False], rtol=1e-6, atol=1e-6)


def test_recomputing_refuses_a_joiner_that_draws_random_numbers():
    batch = Batch(symbols=(5, 3), frames=(12, 9))
    dropout = torch.nn.Dropout(0.3)

    def joiner(am, lm):
        return dropout(am + lm)

    losses = pruned_rnnt_loss(
        batch.lm, batch.am, batch.lm, batch.am, joiner, batch.symbols, BLANK, 3, recompute=True, backend="torch"
    )
    with pytest.raises(RuntimeError, match="dropout"):
        losses.pruned.backward()


def test_recomputing_under_autocast_runs_the_joiner_as_the_first_time():
    batch = Batch(symbols=(5, 3), frames=(12, 9), dtype=torch.float32)
    linear, seen = torch.nn.Linear(5, 5), []

    def joiner(am, lm):
        logits = linear(torch.tanh(am + lm))
        seen.append(logits.dtype)
        return logits

    arguments = (batch.lm, batch.am, batch.lm, batch.am, joiner, batch.symbols, BLANK, 3)
    grads = {}
    for recompute in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = pruned_rnnt_loss(*arguments, recompute=recompute, backend="torch")
        grads[recompute] = gradients(losses.pruned, batch.lm, batch.am, *linear.parameters())
    assert set(seen) == {torch.bfloat16}
    torch.testing.assert_close(grads[True], grads[False], rtol=2e-2, atol=2e-2)


@each_type
def test_padding_changes_neither_value_nor_gradient(rnnt_type):
    tight, padded = Batch(extra=(0, 0)), Batch(extra=(3, 4), seed=1)
    for name in ("lm", "am"):
        small, large = getattr(tight, name), getattr(padded, name)
        with torch.no_grad():
            large[:, : small.shape[1]] = small
    padded.symbols[:, : tight.S] = tight.symbols
    padded.symbols[:, tight.S :] = -100  # what a padding symbol is does not matter
    results = []
    for batch in (tight, padded):
        linear_am, linear_lm = batch.am * 0.5, batch.lm * 2
        losses = pruned_rnnt_loss(
            *(batch.lm, batch.am, linear_lm, linear_am, lambda am, lm: torch.tanh(am + lm), batch.symbols, BLANK, 2),
            *(0.25, 0.25, batch.boundary, rnnt_type, 0.1, "none"),
            unigram_over_padding=False,
            backend="torch",
        )
        finite = torch.where(torch.stack(losses).isfinite(), torch.stack(losses), 0.0)
        results.append((torch.stack(losses), *gradients(finite.sum(), batch.am, batch.lm)))
    (loss, *grads), (padded_loss, *padded_grads) = results
    torch.testing.assert_close(padded_loss, loss)
    for b, (symbols, frames) in enumerate(zip(tight.num_symbols, tight.num_frames)):
        for grad, padded_grad, length in zip(grads, padded_grads, (frames, symbols + 1)):
            torch.testing.assert_close(padded_grad[b, :length], grad[b, :length])
            assert not padded_grad[b, length:].any()


def test_only_the_unigram_of_the_am_only_share_sees_padding_and_only_if_asked():
    results = {}
    for over_padding, am_only_scale in itertools.product((False, True), (0.0, 0.2)):
        losses = []
        for noise in (0.0, 3.0):
            batch = Batch()
            with torch.no_grad():
                for b, symbols in enumerate(batch.num_symbols):
                    batch.lm[b, symbols + 1 :, 1] += noise
            arguments = (batch.symbols, BLANK, 0.25, am_only_scale, batch.boundary)
            losses.append(
                rnnt_loss_smoothed(batch.lm, batch.am, *arguments, unigram_over_padding=over_padding, backend="torch")
            )
        results[over_padding, am_only_scale] = bool(losses[0] != losses[1])
    assert results == {(False, 0.0): False, (False, 0.2): False, (True, 0.0): False, (True, 0.2): True}


def test_a_batch_is_its_utterances_one_by_one():
    batch = Batch(symbols=(5, 3, 0, 6), frames=(12, 9, 4, 7))
    arguments = ("regular", 0.0, "none")
    together = torch.stack(four_steps(batch, batch.lm, batch.am, torch.add, 3, *arguments)[1:])
    for b in range(batch.size):
        one = Batch(symbols=batch.num_symbols[b : b + 1], frames=batch.num_frames[b : b + 1], extra=(0, 0))
        one.lm, one.am = batch.lm[b : b + 1, : one.S + 1], batch.am[b : b + 1, : one.T]
        one.symbols = batch.symbols[b : b + 1, : one.S]
        alone = torch.stack(four_steps(one, one.lm, one.am, torch.add, 3, *arguments)[1:])
        torch.testing.assert_close(alone[:, 0], together[:, b])


def test_reductions_are_none_mean_and_sum_over_the_batch():
    batch = Batch()
    none, mean, total = (
        rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK, reduction=reduction, backend="torch")
        for reduction in ("none", "mean", "sum")
    )
    assert none.shape == (batch.size,)
    torch.testing.assert_close(mean, none.mean())
    torch.testing.assert_close(total, none.sum())
