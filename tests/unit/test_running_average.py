"""Averages between two checkpoints, whatever the batches that they were saved after."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from icefall_ext.errors import UserError
from icefall_ext.train.checkpoint import average_between, update_average

PERIOD = 3


def trained(batches: int) -> dict[int, dict]:
    """A checkpoint after every batch of a model whose only weight is the number of the batch."""
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False).double()
    saved = {}
    for batch in range(1, batches + 1):
        nn.init.constant_(model.weight, float(batch))
        if batch % PERIOD == 0:
            update_average(average, model, batch, PERIOD)
        content = {name: value.clone() for name, value in average.state_dict().items()}
        saved[batch] = {"model_avg": content, "batch_idx_train": batch, "average_period": PERIOD}
    return saved


@pytest.mark.parametrize(("start", "end", "entered"), [(6, 15, [9, 12, 15]), (7, 17, [9, 12, 15]), (8, 9, [9])])
def test_an_average_is_over_the_models_that_entered_between_two_checkpoints(start, end, entered):
    saved = trained(20)
    mean = average_between(saved[start], saved[end], ("a", "b"))["weight"].item()
    assert mean == pytest.approx(sum(entered) / len(entered), rel=1e-12)


def test_checkpoints_with_no_model_between_them_are_refused():
    saved = trained(20)
    with pytest.raises(UserError, match="no model entered the average in between"):
        average_between(saved[7], saved[8], ("a", "b"))
    with pytest.raises(UserError, match="no running average"):
        average_between({"batch_idx_train": 1}, saved[8], ("a", "b"))


def test_the_average_keeps_its_type():
    assert average_between(*[trained(20)[n] for n in (6, 15)], ("a", "b"))["weight"].dtype == torch.float64
