"""What a loop asks of the thing it trains: a loss for a batch, and what to call its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from icefall_ext.data.loading import SpeechBatch


@dataclass
class Loss:
    """Sums over a batch; `units` is what a person reads them per: tokens, or masked frames."""

    total: Tensor  # a scalar, to go back from
    terms: dict[str, Tensor]  # scalars without gradient, for people
    units: int
    left_out: list[str] = field(default_factory=list)  # ids of utterances without a finite loss, not in the sums
    ratios: dict[str, tuple[float, float]] = field(default_factory=dict)  # for people: a sum, and what it is out of


class Objective(Protocol):
    unit: str  # "token", "masked frame": what losses are shown per

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        """`batch_number` counts from 1 over the whole training, for weights that change while it runs."""


@runtime_checkable
class Remembering(Protocol):
    """An objective whose loss of a batch depends on batches before it, in this process."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None: ...

    def check_epoch(self, epoch: int, ratios: Mapping[str, Sequence[float]]) -> None:
        """`ratios` of a whole epoch, over all processes; stops the training where nothing was learnt from it."""
