"""ScaledAdam and Eden against trajectories of icefall's (scaled_adam_eden.json)."""

import json
from pathlib import Path

import pytest
import torch

from icefall_ext.optim.eden import Eden
from icefall_ext.optim.scaled_adam import ScaledAdam

GOLDEN = json.loads((Path(__file__).parent / "scaled_adam_eden.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["plain", "clipped"])
def test_learning_rates_and_parameters_are_those_of_icefall(name):
    golden = GOLDEN[name]
    params = [torch.nn.Parameter(torch.tensor(value)) for value in golden["init"]]
    optimizer = ScaledAdam(params, **golden["settings"])
    eden = golden["eden"]
    schedule = Eden(optimizer, eden["lr_batches"], eden["lr_epochs"], eden["warmup_batches"], eden["warmup_start"])
    assert (eden["epoch"], eden["batch"]) == ("t // 10", "t")
    after = dict(golden["after"])
    for t, gradients in enumerate(golden["grads"]):
        schedule.step_epoch(t // 10)
        schedule.step_batch(t)
        assert schedule.get_last_lr() == pytest.approx([golden["lr"][t]], rel=1e-8)
        for p, gradient in zip(params, gradients):
            p.grad = torch.tensor(gradient)
        optimizer.step()
        if t in after:
            for p, expected in zip(params, after.pop(t)):
                torch.testing.assert_close(p.detach(), torch.tensor(expected), rtol=1e-5, atol=0.0)
    assert not after
