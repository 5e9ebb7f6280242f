"""What a user chooses about a training, whatever is trained."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.cli import option
from icefall_ext.errors import UsageError

AMP = ("auto", "off", "bf16", "fp16")
ON_OOM = ("stop", "shrink")


@dataclass
class LoopConfig:
    epochs: int = option(20, "times that every utterance is seen")
    lr: float = option(5e-4, "base learning rate of ScaledAdam")
    lr_batches: float = option(5000.0, "Eden: batches after which the rate has fallen to 0.84")
    lr_epochs: float = option(6.0, "Eden: epochs after which the rate has fallen to 0.84")
    lr_warmup: float = option(500.0, "Eden: batches over which the rate rises from half to all")
    clipping_scale: float = option(2.0, "clip gradients at so many times their recent median norm")
    accumulate: int = option(4, "batches whose gradients make one step")
    amp: str = option("auto", "precision on a GPU: bf16 where it has it (auto), fp16, or off (float32)", choices=AMP)
    seed: int = option(42, "of weights, batches, masks and dropout")
    average_period: int = option(200, "batches between two models that enter the running average")
    valid_interval: int = option(0, "batches between two validations; 0: after each epoch")
    save_every: int = option(2000, "batches between two checkpoints inside an epoch")
    keep_last: int = option(3, "checkpoints inside epochs to keep")
    keep_epochs: int = option(0, "checkpoints of epochs to keep; 0: all, as averaging may ask for any")
    log_every: int = option(50, "batches between two lines of the log")
    max_bad_batches: int = option(10, "stop after so many batches in a row without a finite loss or gradient")
    max_failed_share: float = option(0.01, "stop when more of the utterances than this cannot be loaded")
    on_oom: str = option("stop", "out of memory: stop, or compute batches that large in parts", choices=ON_OOM)

    def check(self) -> None:
        positive = ("epochs", "lr", "lr_batches", "lr_epochs", "accumulate", "average_period", "save_every",
                    "keep_last", "log_every", "max_bad_batches", "clipping_scale")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name)}: must be above 0")
        for name in ("lr_warmup", "valid_interval", "keep_epochs", "max_failed_share"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} {getattr(self, name)}: must not be below 0")


@dataclass
class LossConfig:
    simple_scale: float = option(0.5, "weight of the simple loss")
    ctc_scale: float = option(0.2, "weight of the CTC head's loss")
    warm_batches: int = option(2000, "batches until the pruned loss has its full weight")

    def check(self) -> None:
        for name in ("simple_scale", "ctc_scale", "warm_batches"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} {getattr(self, name)}: must not be below 0")


# Options that decide where a training runs and what it keeps, not what it computes: a run may go on with other values.
MAY_DIFFER = ("epochs", "save_every", "keep_last", "keep_epochs", "log_every", "max_bad_batches", "max_failed_share",
              "on_oom")
