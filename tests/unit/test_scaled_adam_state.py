"""What ScaledAdam saves and goes on from, and its groups and settings."""

import copy
import math

import pytest
import torch
from torch import nn

from icefall_ext.errors import UsageError, UserError
from icefall_ext.optim.groups import parameter_groups
from icefall_ext.optim.scaled_adam import ScaledAdam
from tests.optimizer_steps import SHAPES, clones, gradients_of_step, parameters, run, saved, set_gradients
from tests.plain_scaled_adam import PlainScaledAdam


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [0, 1, 3, 11, 18])
def test_a_resumed_run_continues_bit_for_bit(stop, dtype):
    def start():
        params = parameters(SHAPES, dtype=dtype)
        groups = [{"params": params[::2], "lr": 0.02}, {"params": params[1::2], "lr": 0.05}]
        return params, ScaledAdam(groups, clipping_scale=1.0, clipping_update_period=15)

    through, optimizer = start()
    run(optimizer, through, 40, SHAPES)
    stopped, optimizer = start()
    run(optimizer, stopped, stop, SHAPES)
    checkpoint = saved(optimizer.state_dict())
    resumed, optimizer = start()
    for p, q in zip(resumed, stopped):
        p.data.copy_(q)
    optimizer.load_state_dict(checkpoint)
    run(optimizer, resumed, 40 - stop, SHAPES, start=stop)
    for p, q in zip(resumed, through):
        assert torch.equal(p, q)


def test_loading_a_state_leaves_it_untouched():
    params = parameters(SHAPES)
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    run(optimizer, params, 3, SHAPES)
    state = saved(optimizer.state_dict())
    twin = clones(params)
    other = ScaledAdam(twin, clipping_scale=2.0)
    other.load_state_dict(state)
    run(other, twin, 3, SHAPES)
    assert torch.equal(state["state"][3]["delta"], saved(optimizer.state_dict())["state"][3]["delta"])


def test_state_lies_where_icefall_keeps_it():
    shapes = [(3, 2), (), (3, 2), (4,), (), (3, 2)]
    params = parameters(shapes, dtype=torch.float32)
    optimizer = ScaledAdam(params, clipping_scale=2.0, clipping_update_period=16)
    run(optimizer, params, 12, shapes)
    state_dict = optimizer.state_dict()
    found = {
        i: {key: tuple(value.shape) if isinstance(value, torch.Tensor) else type(value) for key, value in state.items()}
        for i, state in state_dict["state"].items()
    }
    clipping = {"model_norms": (16,), "model_norm_threshold": float, "num_clipped": int}
    assert found == {
        0: {"step": int, "exp_avg_sq": (3, 3, 2), "delta": (3, 3, 2), "param_rms": (3, 1, 1),
            "scale_exp_avg_sq": (3, 1, 1), "scale_grads": (4, 3, 1, 1)},
        1: {"step": int, "exp_avg_sq": (2,), "delta": (2,), **clipping},
        3: {"step": int, "exp_avg_sq": (1, 4), "delta": (1, 4), "param_rms": (1, 1), "scale_exp_avg_sq": (1, 1),
            "scale_grads": (4, 1, 1)},
    }  # fmt: skip
    assert {state["step"] for state in state_dict["state"].values()} == {12}
    assert set(state_dict["param_groups"][0]) >= {
        "lr", "clipping_scale", "betas", "scalar_lr_scale", "eps", "param_min_rms", "param_max_rms", "scalar_max",
        "size_update_period", "clipping_update_period",
    }  # fmt: skip


def test_a_state_that_does_not_fit_is_refused_with_one_line():
    def state_of(shapes, steps=2, make=ScaledAdam):
        params = parameters(shapes)
        optimizer = make(params, lr=0.1)
        run(optimizer, params, steps, shapes)
        return saved(optimizer.state_dict())

    optimizer = ScaledAdam([("encoder", parameters([(2, 3)])[0]), ("decoder", parameters([(4,)])[0])])
    for state, complaint in [
        (state_of([(2, 3)]), r"groups of \[1\] parameters, not \[2\]"),
        (state_of([(2, 3), (5,)]), "for decoder and tensors of its shape"),
        (state_of([(2, 3), (2, 3)]), "for encoder and tensors of its shape"),
        (state_of([(2, 3), (4,)], make=torch.optim.AdamW), "no clipping_scale, .* not ScaledAdam's"),
    ]:
        with pytest.raises(UserError, match=complaint) as error:
            optimizer.load_state_dict(state)
        assert "\n" not in str(error.value)
    optimizer.load_state_dict(state_of([(2, 3), (4,)]))
    optimizer.load_state_dict(state_of([(2, 3), (4,)], steps=0))


def test_groups_differ_in_all_settings_and_may_come_late():
    shapes = [(3, 2), (3, 2), (4,)]
    together, alone = parameters(shapes), parameters(shapes)
    options = [dict(lr=0.1), dict(lr=0.2, betas=(0.8, 0.9), clipping_scale=1.0), dict(lr=0.3, size_update_period=2)]
    optimizer = ScaledAdam([{"params": [together[0]], **options[0]}, {"params": [together[1]], **options[1]}])
    separate = [ScaledAdam([p], **o) for p, o in zip(alone, options)]
    for t in range(15):
        if t == 5:
            optimizer.add_param_group({"named_params": [("late", together[2])], **options[2]})
        drawn = gradients_of_step(t, shapes)
        set_gradients(together, drawn)
        set_gradients(alone, drawn)
        optimizer.step()
        for single in separate[: 3 if t >= 5 else 2]:
            single.step()
    for p, q in zip(together, alone):
        assert torch.equal(p, q)


def test_settings_may_change_between_steps():
    shapes = [(3, 2), (4,)]
    params, exact = parameters(shapes), parameters(shapes)
    optimizer, reference = ScaledAdam(params, lr=0.1), PlainScaledAdam([{"params": exact, "lr": 0.1}])
    for t in range(12):
        if t == 6:
            optimizer.param_groups[0]["betas"] = reference.betas = (0.5, 0.6)
        if t == 8:
            optimizer.param_groups[0]["size_update_period"] = reference.P = 2
            for state in reference.tensors.values():
                state["s"] = [0.0, 0.0]
        optimizer.param_groups[0]["lr"] = reference.groups[0]["lr"] = 0.1 / (t + 1)
        for trained in (params, exact):
            set_gradients(trained, gradients_of_step(t, shapes))
        optimizer.step()
        reference.step()
    for p, e in zip(params, exact):
        torch.testing.assert_close(p, e, rtol=1e-9, atol=1e-12)


def test_a_copy_continues_on_its_own():
    params = parameters(SHAPES)
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    run(optimizer, params, 5, SHAPES)
    before = [p.detach().clone() for p in params]
    twin = copy.deepcopy(optimizer)
    run(twin, twin.param_groups[0]["params"], 5, SHAPES, start=5)
    assert all(torch.equal(p, q) for p, q in zip(params, before))
    run(optimizer, params, 5, SHAPES, start=5)
    assert all(torch.equal(p, q) for p, q in zip(params, twin.param_groups[0]["params"]))


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    (p,) = parameters([(3,)])
    optimizer = ScaledAdam([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("lr", [0.0])
def test_a_learning_rate_of_zero_moves_nothing(lr):
    params = parameters(SHAPES)
    before = clones(params)
    run(ScaledAdam(params, lr=lr, clipping_scale=2.0), params, 9, SHAPES)
    assert all(torch.equal(p, q) for p, q in zip(params, before))


def test_tensors_that_are_zero_or_empty_are_no_trouble():
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(2, 2))]
    optimizer = ScaledAdam(params, lr=0.1, clipping_scale=2.0)
    for t in range(12):
        set_gradients(params, gradients_of_step(t, [(3,), (0, 3), (2, 2)]))
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in params) and params[0].abs().sum() > 0
    fresh = ScaledAdam(params, lr=0.1, clipping_scale=2.0)
    fresh.load_state_dict(saved(optimizer.state_dict()))


def test_a_sparse_gradient_is_refused_by_name():
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(UsageError, match="the gradient of weight is sparse"):
        ScaledAdam(embedding.named_parameters()).step()


@pytest.mark.parametrize("wrong", [
    dict(lr=-1.0), dict(lr=math.nan), dict(betas=(0.9, 1.0)), dict(clipping_scale=0.0), dict(eps=0.0),
    dict(param_max_rms=1e-6), dict(size_update_period=0), dict(clipping_update_period=0.5),
])  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ScaledAdam(parameters([(3,)]), **wrong)


def test_groups_without_parameters_or_order_are_refused():
    with pytest.raises(UsageError, match="group 1 has no parameters"):
        ScaledAdam([{"params": parameters([(3,)])}, {"params": []}])
    with pytest.raises(UsageError, match="is a set"):
        ScaledAdam([{"params": set(parameters([(3,), (4,)]))}])


def test_learning_rate_scales_of_nested_modules_multiply_and_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), nn.Linear(2, 1))
    model[1].lr_scale = 0.5
    model[1][1].lr_scale = 0.25
    model[0].bias.requires_grad_(False)
    groups = parameter_groups(model, 0.8)
    assert [(group["lr"], [name for name, _ in group["named_params"]]) for group in groups] == [
        (0.8, ["0.weight", "2.weight", "2.bias"]),
        (0.4, ["1.0.weight", "1.0.bias"]),
        (0.1, ["1.1.weight", "1.1.bias"]),
    ]
    assert len(ScaledAdam(groups).param_groups) == 3
    model.lr_scale = 0.5
    assert [group["lr"] for group in parameter_groups(model, 0.8)] == [0.4, 0.2, 0.05]
    model[1].lr_scale = -1.0
    with pytest.raises(UsageError, match="1: lr_scale -1.0 is below 0"):
        parameter_groups(model, 0.8)
    del model[1].lr_scale
    with pytest.raises(UsageError, match="frozen"):
        parameter_groups(model.requires_grad_(False), 0.8)
