"""Gradient clipping against the median of recent norms, per parameter group; gradients weigh as much as their tensors.

    norm = sqrt(sum over tensors of sum((g rms)^2))        rms of a scalar: scalar_lr_scale

is kept in a ring of N = `clipping_update_period`, from the second step on. At t % N == 0, and at t = 10, 20, 40 when
below N, threshold = clipping_scale x median of the ring; at 10, 20, 40 the ring is not full, its last t sorted entries
count, and the threshold is doubled. Gradients are multiplied by min(1, threshold / norm), by 1 before the first
threshold, and are zero when the norm is not finite. A median that is not finite stops the run; one of zero, of a group
that had no gradients yet, sets no threshold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from icefall_ext.errors import UserError
from icefall_ext.optim.sheet import Group, Sheet

EARLY_ESTIMATES = (10, 20, 40)
WARN_BELOW = 0.5

log = logging.getLogger(__name__)


def clipping_factors(sheet: Sheet) -> Tensor | None:
    """One factor per row, None where all are 1. Reading the norms is the one time that a step waits for the device."""
    squares = torch.cat([piece.sums(piece.gradients().square()) for piece in sheet.pieces]) * sheet.rms.square()
    of_groups = torch.arange(len(sheet.groups), device=sheet.device).unsqueeze(1)
    norms = squares.expand(len(sheet.groups), -1).masked_fill(sheet.group_of_row != of_groups, 0.0).sum(1).sqrt_()
    if sheet.step > 0:
        _remember(norms, sheet)
    factors = [_factor(group, norm, squares, sheet) for group, norm in zip(sheet.groups, norms.tolist())]
    return sheet.per_row(factors) if min(factors) < 1.0 else None


def _remember(norms: Tensor, sheet: Sheet) -> None:
    step, ring = sheet.step, sheet.model_norms
    period = ring.shape[1]
    ring[:, step % period] = norms
    early = step in EARLY_ESTIMATES and step < period
    if early or step % period == 0:
        recent = ring.sort(dim=1).values[:, -step if early else 0 :]
        for group, sorted_norms in zip(sheet.groups, recent.tolist()):
            _set_threshold(group, sorted_norms, 2.0 if early else 1.0, sheet)


def _set_threshold(group: Group, sorted_norms: Sequence[float], slack: float, sheet: Sheet) -> None:
    n = len(sorted_norms)
    quartiles = [sorted_norms[min(n - 1, quarter * (n // 4))] for quarter in range(5)]
    median, state = quartiles[2], group.clipping
    if not math.isfinite(median):
        raise UserError(f"step {sheet.step}: most of the last {n} gradients{group.label} were not finite: resume from "
                        "an earlier checkpoint with a lower learning rate, or leave fp16 for bf16 or float32")
    clipped = 100.0 * state.get("num_clipped", 0) / n
    state["num_clipped"] = 0
    if median > 0.0:
        state["model_norm_threshold"] = slack * group.settings["clipping_scale"] * median
        log.info("gradient norms%s: quartiles %s, threshold %.3e, %.1f %% clipped", group.label,
                 " ".join(f"{norm:.3e}" for norm in quartiles), state["model_norm_threshold"], clipped)


def _factor(group: Group, norm: float, squares: Tensor, sheet: Sheet) -> float:
    state = group.clipping
    threshold = state.get("model_norm_threshold", math.inf)
    factor = min(1.0, threshold / (norm + 1e-20)) if math.isfinite(norm) else 0.0
    if factor < 1.0:
        state["num_clipped"] = state.get("num_clipped", 0) + 1
    if factor < WARN_BELOW:
        log.warning("step %d: gradients%s scaled by %.3g, norm %.3e, threshold %.3e; %s", sheet.step, group.label,
                    factor, norm, threshold, _dominant(sheet.groups.index(group), squares, sheet))
    return factor


def _dominant(group: int, squares: Tensor, sheet: Sheet) -> str:
    """The parameter to look at: one that is not finite, or the one with the largest part of the squared norm."""
    rows = (sheet.group_of_row == group).nonzero().squeeze(1).tolist()
    values = squares[rows].tolist()
    broken = [row for row, value in zip(rows, values) if not math.isfinite(value)]
    if broken:
        return f"{len(broken)} of {len(rows)} tensors are not finite, among them {sheet.names[broken[0]]}"
    largest = max(values)
    row = rows[values.index(largest)]
    share = 100.0 * largest / sum(values)
    return f"{share:.0f} % of its square is from {sheet.names[row]}, of rms {sheet.rms[row].item():.3g}"

