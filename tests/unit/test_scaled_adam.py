"""ScaledAdam against its equations in float64 (plain_scaled_adam.py), and what happens around a step."""

import copy
import logging
import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from icefall_ext.errors import UserError
from icefall_ext.optim import sheet
from icefall_ext.optim.scaled_adam import ScaledAdam
from tests.operation_count import OperationCount
from tests.optimizer_steps import SHAPES, clones, gradients_of_step, parameters, run, set_gradients
from tests.plain_scaled_adam import PlainScaledAdam


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8), min_size=1, max_size=3),
    seed=st.integers(0, 100),
    clipping_scale=st.sampled_from([None, 0.5, 2.0]),
    size_update_period=st.sampled_from([1, 2, 4, 7]),
    clipping_update_period=st.sampled_from([4, 13, 100]),
    gradient_size=st.sampled_from([1e-4, 1.0, 1e3]),
    parameter_size=st.sampled_from([1e-6, 0.1, 2.9]),
    piece=st.sampled_from([1, 7, 1000]),
)
def test_steps_are_those_of_the_equations_for_any_shapes_groups_and_settings(
    shapes, seed, clipping_scale, size_update_period, clipping_update_period, gradient_size, parameter_size, piece
):
    ours = [parameters(group, seed + i, scale=parameter_size) for i, group in enumerate(shapes)]
    theirs = [clones(group) for group in ours]
    options = dict(clipping_scale=clipping_scale, size_update_period=size_update_period,
                   clipping_update_period=clipping_update_period)
    optimizer = ScaledAdam([{"params": group, "lr": 0.05 / (i + 1)} for i, group in enumerate(ours)], **options)
    reference = PlainScaledAdam([{"params": g, "lr": 0.05 / (i + 1)} for i, g in enumerate(theirs)], **options)
    for t in range(24):
        for i, (mine, other) in enumerate(zip(ours, theirs)):
            exploding = 50.0 if t % 9 == 5 else 1.0
            drawn = gradients_of_step(100 * i + t, shapes[i], gradient_size * exploding)
            drawn = [None if (t + j) % 5 == 0 else g for j, g in enumerate(drawn)]
            set_gradients(mine, drawn)
            set_gradients(other, drawn)
        with mock.patch.dict(sheet.PIECE_ELEMENTS, cpu=piece):
            optimizer.step()
        reference.step()
        for mine, other in zip(sum(ours, []), sum(theirs, [])):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_size_is_changed_by_a_tenth_at_most(sign):
    params, exact = parameters([(4, 3)]), parameters([(4, 3)])
    optimizer, reference = ScaledAdam(params, lr=0.5), PlainScaledAdam([{"params": exact, "lr": 0.5}])
    for _ in range(4):  # the learned step would be 0.2
        set_gradients(params, [sign * exact[0].detach()])
        set_gradients(exact, [sign * exact[0].detach()])
        optimizer.step()
        reference.step()
    torch.testing.assert_close(params, exact, rtol=1e-9, atol=1e-12)


def test_float32_stays_close_to_float64_over_many_steps():
    shapes = [(64, 32), (32,), (32,), (64, 32), (), (128, 16)]
    exact = parameters(shapes)
    params = [nn.Parameter(p.detach().float()) for p in exact]
    optimizer = ScaledAdam(params, lr=0.01, clipping_scale=2.0)
    reference = PlainScaledAdam([{"params": exact, "lr": 0.01}], clipping_scale=2.0)
    for t in range(130):
        set_gradients(params, gradients_of_step(t, shapes))
        set_gradients(exact, [p.grad for p in params])
        optimizer.step()
        reference.step()
    for p, e in zip(params, exact):
        torch.testing.assert_close(p.double(), e, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t_broken", [0, 3, 9, 10, 17])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_gradients_that_are_not_finite_count_as_zero_at_any_step(t_broken, value, caplog):
    params = parameters(SHAPES)
    exact = clones(params)
    optimizer = ScaledAdam([(f"layer{i}", p) for i, p in enumerate(params)], lr=0.05, clipping_scale=2.0)
    reference = PlainScaledAdam([{"params": exact, "lr": 0.05}], clipping_scale=2.0)
    for t in range(25):
        drawn = gradients_of_step(t, SHAPES)
        if t == t_broken:
            drawn[5][0, 1] = value
        set_gradients(params, drawn)
        set_gradients(exact, drawn)
        optimizer.step()
        reference.step()
    for p, e in zip(params, exact):
        torch.testing.assert_close(p, e, rtol=1e-9, atol=1e-12)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "\n" not in warnings[0]
    assert f"step {t_broken}:" in warnings[0] and "scaled by 0" in warnings[0]
    assert "1 of 10 tensors are not finite, among them layer5" in warnings[0]


def test_a_broken_group_leaves_the_others_their_gradients():
    broken, sound = parameters([(3,)]), parameters([(3,)])
    optimizer = ScaledAdam([{"params": broken}, {"params": sound}], lr=0.1, clipping_scale=2.0)
    before = [sound[0].detach().clone(), broken[0].detach().clone()]
    set_gradients([*broken, *sound], [torch.tensor([1.0, math.nan, 1.0]), torch.ones(3)])
    optimizer.step()
    assert not torch.equal(sound[0], before[0])
    assert torch.equal(broken[0], before[1])


def test_a_run_whose_gradients_are_mostly_not_finite_stops_with_one_line():
    params = parameters([(3,)])
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    with pytest.raises(UserError, match="step 10: most of the last 10 gradients were not finite"):
        for _ in range(11):
            set_gradients(params, [torch.full((3,), math.nan)])
            optimizer.step()
    assert torch.isfinite(params[0]).all()


def test_a_group_that_had_no_gradients_yet_is_not_held_at_zero_by_its_median():
    params = parameters([(3,)])
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    for _ in range(12):
        set_gradients(params, [torch.zeros(3)])
        optimizer.step()
    before = params[0].detach().clone()
    set_gradients(params, [torch.ones(3)])
    optimizer.step()
    assert not torch.equal(params[0], before)


def test_a_warning_names_the_parameter_that_dominates_the_norm(caplog):
    shapes = [(4, 4), (4,), (4,)]
    params = parameters(shapes)
    named = list(zip(["encoder.weight", "encoder.bias", "joiner.bias"], params))
    optimizer = ScaledAdam([{"named_params": named[:2]}, {"named_params": named[2:]}], clipping_scale=2.0)
    run(optimizer, params, 15, shapes)
    drawn = gradients_of_step(15, shapes)
    drawn[1] *= 1e4
    set_gradients(params, drawn)
    optimizer.step()
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert "step 15: gradients of group 0 scaled by " in warning
    assert "100 % of its square is from encoder.bias" in warning


def test_the_share_of_clipped_steps_is_logged_with_each_threshold(caplog):
    caplog.set_level(logging.INFO)
    params = parameters([(3,)])
    optimizer = ScaledAdam(params, clipping_scale=2.0, clipping_update_period=8)
    for t in range(17):
        set_gradients(params, [torch.ones(3) * (2.5 if t in (10, 12) else 1.0)])
        optimizer.step()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert ["0.0 % clipped" in lines[0], "25.0 % clipped" in lines[1], len(lines)] == [True, True, 2]


def test_scalars_stay_within_their_limit():
    params = parameters([(), (1,), (2,)])
    optimizer = ScaledAdam(params, lr=50.0, scalar_max=0.5)
    for _ in range(3):
        set_gradients(params, [torch.ones(()), -torch.ones(1), torch.ones(2)])
        optimizer.step()
    assert params[0].item() == -0.5 and params[1].item() == 0.5


def test_half_precision_is_computed_in_float32_and_rounded_once():
    shapes = [(3, 4), (3, 4), (4,), ()]
    params = [*parameters(shapes[:2], dtype=torch.float16), *parameters(shapes[2:], dtype=torch.bfloat16)]
    optimizer = ScaledAdam(params, lr=0.05, clipping_scale=2.0)
    for t in range(30):
        exact = [nn.Parameter(p.detach().float()) for p in params]
        single = ScaledAdam(exact, lr=0.05, clipping_scale=2.0)
        single.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        set_gradients(params, gradients_of_step(t, shapes))
        set_gradients(exact, [p.grad for p in params])
        optimizer.step()
        single.step()
        for p, e in zip(params, exact):
            assert torch.equal(p, e.to(p.dtype))
    for state in optimizer.state.values():
        assert {value.dtype for value in state.values() if isinstance(value, torch.Tensor)} == {torch.float32}


@pytest.mark.parametrize("groups", [1, 12])
def test_operations_of_a_step_do_not_grow_with_the_number_of_tensors_nor_groups(groups):
    def operations(of_each_shape):
        shapes = [(8, 8), (8,), (8,), (8, 4), (4, 8), (4,), (), (16, 2, 2)] * of_each_shape
        params = parameters(shapes, dtype=torch.float32)
        grouped = [{"params": params[i::groups], "lr": 0.01 + i} for i in range(groups)]
        optimizer = ScaledAdam(grouped, clipping_scale=2.0)
        run(optimizer, params, 3, shapes)
        set_gradients(params, gradients_of_step(3, shapes))
        with OperationCount() as counted:
            optimizer.step()  # the fourth, which also learns sizes
        return counted.operations

    assert operations(of_each_shape=25) == operations(of_each_shape=50) < 100


def test_parameters_keep_their_strides_and_count_their_writes():
    weight = nn.Parameter(torch.randn(4, 6).t())
    conv = nn.Parameter(torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    plain = clones([weight, conv])
    straight = [nn.Parameter(p.detach().contiguous()) for p in plain]
    for params in ([weight, conv], straight):
        optimizer = ScaledAdam(params, lr=0.1)
        versions = [p._version for p in params]
        run(optimizer, params, 5, [(6, 4), (2, 3, 4, 4)])
        assert all(p._version > version for p, version in zip(params, versions))
    assert weight.stride() == (1, 6) and conv.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight, straight[0])
    torch.testing.assert_close(conv, straight[1])


def test_writes_are_counted_where_fused_kernels_do_not(monkeypatch):
    def silent_add_(tensors, others):
        for tensor, other in zip(tensors, others):
            tensor.data.add_(other)  # .data has a version of its own

    monkeypatch.setattr(torch, "_foreach_add_", silent_add_)
    params = parameters([(2, 3), (4,)])
    params.append(nn.Parameter(torch.randn(3, 2).t()))
    expected = [p._version + 1 for p in params]
    optimizer = ScaledAdam(params)
    run(optimizer, params, 1, [(2, 3), (4,), (2, 3)])
    assert [p._version for p in params] == expected
