import json

import pytest
import torch

from icefall_ext.errors import UsageError
from icefall_ext.optim.eden import Eden


def optimizer(*lrs):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs], lr=1.0)


def test_the_rate_falls_with_the_square_root_of_batches_and_of_epochs():
    schedule = Eden(optimizer(0.1), lr_batches=5000, lr_epochs=4)
    schedule.step_batch(5000)
    assert schedule.get_last_lr() == pytest.approx([0.1 * 2**-0.25])
    schedule.step_epoch(4)
    assert schedule.get_last_lr() == pytest.approx([0.1 * 2**-0.5])
    schedule.step_batch(10**9)
    schedule.step_epoch(0)
    assert schedule.get_last_lr() == pytest.approx([0.1 * (5000 / 10**9) ** 0.5])


def test_warm_up_rises_in_a_line_from_its_start_to_one():
    schedule = Eden(optimizer(1.0), lr_batches=1e9, lr_epochs=1e9, warmup_batches=4, warmup_start=0.2)
    rates = schedule.get_last_lr()
    for _ in range(5):
        schedule.step_batch()
        rates += schedule.get_last_lr()
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_without_warm_up_training_starts_at_the_base_rate():
    assert Eden(optimizer(0.3), 100, 2, warmup_batches=0).get_last_lr() == [0.3]


def test_groups_keep_the_ratio_of_their_rates():
    schedule = Eden(optimizer(0.1, 0.01), 100, 2)
    schedule.step_batch(77)
    schedule.step_epoch(1)
    assert schedule.get_last_lr()[0] == pytest.approx(10 * schedule.get_last_lr()[1])


def test_a_group_that_comes_late_is_scheduled_too():
    late = optimizer(0.1)
    schedule = Eden(late, 100, 2)
    late.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.2})
    schedule.step_batch(77)
    assert schedule.get_last_lr()[1] == pytest.approx(2 * schedule.get_last_lr()[0])


def test_a_resumed_schedule_has_the_same_rates_from_the_first():
    through = Eden(optimizer(0.1, 0.2), 100, 2)
    through.step_epoch(3)
    for _ in range(150):
        through.step_batch()
    state = json.loads(json.dumps(through.state_dict()))
    assert state == {"epoch": 3, "batch": 150}
    resumed = Eden(optimizer(0.1, 0.2), 100, 2)
    resumed.load_state_dict(state)
    assert resumed.get_last_lr() == through.get_last_lr()
    for schedule in (through, resumed):
        schedule.step_batch()
        schedule.step_epoch()
    assert resumed.get_last_lr() == through.get_last_lr()


def test_a_resumed_training_may_have_another_base_rate():
    schedule = Eden(optimizer(0.5), 100, 2)
    schedule.load_state_dict({"epoch": 0, "batch": 1000, "base_lrs": [0.1]})  # old icefall saved the base, too
    other = Eden(optimizer(0.5), 100, 2)
    other.step_batch(1000)
    assert schedule.get_last_lr() == other.get_last_lr()


def test_a_schedule_over_a_loaded_optimizer_starts_from_the_base_that_was_saved():
    old = optimizer(0.1)
    Eden(old, 100, 2).step_batch(1000)
    new = optimizer(0.7)
    new.load_state_dict(old.state_dict())
    schedule = Eden(new, 100, 2)
    schedule.load_state_dict({"epoch": 0, "batch": 1000})
    assert schedule.get_last_lr() == [group["lr"] for group in old.param_groups]


@pytest.mark.parametrize("wrong", [
    dict(lr_batches=0), dict(lr_epochs=-1), dict(warmup_batches=-1), dict(warmup_start=1.5),
])  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Eden(optimizer(0.1), **{"lr_batches": 100, "lr_epochs": 2, **wrong})
