"""Eden, a learning rate for each batch b (counted over the whole training) and epoch e:

    lr = base ((b^2 + B^2) / B^2)^-1/4 ((e^2 + E^2) / E^2)^-1/4 w        B = lr_batches, E = lr_epochs

w rises linearly from `warmup_start` to 1 over `warmup_batches`. The optimiser always has the rate of (b, e), from
construction on and after loading; icefall's waits for the first `step_batch` or `step_epoch`.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from icefall_ext.errors import UsageError


class Eden:
    """`step_batch()` after each batch; `step_epoch(epoch)` before each epoch, with epochs counted from 0.

    A group's base is its learning rate when a schedule first sees it. The state is {"epoch", "batch"} alone: a resumed
    training may have another base.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_batches: float,
        lr_epochs: float,
        warmup_batches: float = 500.0,
        warmup_start: float = 0.5,
    ):
        if not (lr_batches > 0 and lr_epochs > 0 and warmup_batches >= 0 and 0 <= warmup_start <= 1):
            raise UsageError(f"Eden: lr_batches {lr_batches} and lr_epochs {lr_epochs} must be above 0, warmup_batches "
                             f"{warmup_batches} not below, and warmup_start {warmup_start} within 0 and 1")
        self.optimizer = optimizer
        self.lr_batches, self.lr_epochs = lr_batches, lr_epochs
        self.warmup_batches, self.warmup_start = warmup_batches, warmup_start
        self.base_lrs: list[float] = []
        self.batch, self.epoch = 0, 0
        self._set_lrs()

    def step_batch(self, batch: int | None = None) -> None:
        self.batch = self.batch + 1 if batch is None else batch
        self._set_lrs()

    def step_epoch(self, epoch: int | None = None) -> None:
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self._set_lrs()

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.batch = state_dict["epoch"], state_dict["batch"]
        self._set_lrs()

    def _set_lrs(self) -> None:
        b, e, warmed = self.batch, self.epoch, 1.0
        if b < self.warmup_batches:
            warmed = self.warmup_start + (1.0 - self.warmup_start) * b / self.warmup_batches
        batch_factor = ((b**2 + self.lr_batches**2) / self.lr_batches**2) ** -0.25
        epoch_factor = ((e**2 + self.lr_epochs**2) / self.lr_epochs**2) ** -0.25
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            self.base_lrs.append(group.setdefault("base_lr", group["lr"]))
        for group, base in zip(self.optimizer.param_groups, self.base_lrs):
            group["lr"] = base * batch_factor * epoch_factor * warmed
