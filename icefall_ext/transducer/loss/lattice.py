"""What every step of the loss knows about its batch, and the way from arcs to a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from icefall_ext.transducer.loss.recursion import Scores, total_scores

RNNT_TYPES = ("regular", "modified", "constrained")
REDUCTIONS = ("none", "mean", "sum")


@dataclass(frozen=True)
class Lattice:
    """`boundary` rows [0, 0, S_b, T_b]; symbols from S_b on may be anything and are read as blanks.

    `rnnt_type`: a symbol passes no frame (`regular`); it passes one (`modified`); it passes one and also pays, on that
    frame, the blank of the row it leads to (`constrained`).
    """

    symbols: Tensor
    frames: int
    termination_symbol: int
    boundary: Tensor
    rnnt_type: str
    delay_penalty: float
    reduction: str

    @classmethod
    def of(
        cls,
        symbols: Tensor,
        frames: int,
        termination_symbol: int,
        boundary: Tensor | None,
        rnnt_type: str = "regular",
        delay_penalty: float = 0.0,
        reduction: str = "mean",
    ) -> Lattice:
        if rnnt_type not in RNNT_TYPES:
            raise ValueError(f"rnnt_type {rnnt_type!r}: one of {', '.join(RNNT_TYPES)}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction {reduction!r}: one of {', '.join(REDUCTIONS)}")
        if delay_penalty < 0:
            raise ValueError(f"delay_penalty {delay_penalty}: must not be negative")
        if symbols.dim() != 2:
            raise ValueError(f"symbols are {tuple(symbols.shape)}, must be (B, S)")
        boundary = checked_boundary(boundary, symbols.shape[1], frames, symbols)
        padding = torch.arange(symbols.shape[1], device=symbols.device) >= boundary[:, 2, None]
        symbols = symbols.masked_fill(padding, termination_symbol).long()
        return cls(symbols, frames, termination_symbol, boundary, rnnt_type, delay_penalty, reduction)

    def check(self, lm: Tensor, am: Tensor, prefix: str = "") -> None:
        """Rows of another number would be read as rows of another utterance."""
        batch, num_symbols = self.symbols.shape
        for name, tensor, rows in (("lm", lm, num_symbols + 1), ("am", am, self.frames)):
            if tensor.dim() != 3 or tensor.shape[:2] != (batch, rows):
                raise ValueError(f"{prefix}{name} is {tuple(tensor.shape)}, must be ({batch}, {rows}, ...) for symbols "
                                 f"{tuple(self.symbols.shape)} and {self.frames} frames")

    def beyond_k2(self) -> str | None:
        return beyond_k2(self.symbols.shape[1], self.frames)

    def k2_arguments(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "frames"}

    def loss(
        self, px: Tensor, py: Tensor, scores: Scores, return_grad: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Loss of px (B, S, T) and py (B, S + 1, T); with `return_grad` also their occupations, of k2's shapes."""
        if self.rnnt_type == "constrained":
            px = px + py[:, 1:]
        if self.delay_penalty:
            middle = (self.boundary[:, 3, None, None] - 1) / 2
            px = px + self.delay_penalty * (middle - torch.arange(px.shape[2], device=px.device)).to(px.dtype)
        total, px_grad, py_grad = total_scores(px, py, self.boundary, self.rnnt_type != "regular", scores, return_grad)
        loss = {"none": -total, "mean": -total.mean(), "sum": -total.sum()}[self.reduction]
        if not return_grad:
            return loss
        return loss, (F.pad(px_grad, (0, int(self.rnnt_type == "regular"))), py_grad)


def checked_boundary(boundary: Tensor | None, num_symbols: int, frames: int, like: Tensor) -> Tensor:
    """`boundary`, or [0, 0, S, T] for none, for the batch and on the device of `like`; checked where that is free."""
    batch = len(like)
    if boundary is None:
        return torch.tensor([0, 0, num_symbols, frames], device=like.device).repeat(batch, 1)
    if boundary.shape != (batch, 4):
        raise ValueError(f"boundary is {tuple(boundary.shape)}, must be ({batch}, 4) for a batch of {batch}")
    if not boundary.is_cuda and batch:
        largest = torch.tensor([0, 0, num_symbols, frames])
        if (boundary < 0).any() or (boundary > largest).any():
            raise ValueError(f"boundary rows must be [0, 0, S <= {num_symbols}, T <= {frames}]: {boundary.tolist()}")
    return boundary.to(like.device, torch.int64)


def beyond_k2(num_symbols: int, frames: int) -> str | None:
    """What some k2 versions stop at, or None."""
    if num_symbols == 0:
        return "k2 does not take transcripts that are all empty"
    if frames < num_symbols:
        return "k2 does not take fewer frames than symbols"
    return None
