"""Which rows of the lattice each frame keeps, and the encoder's and predictor's vectors of those cells.

Pruned RNN-T (Kuang et al., Interspeech 2022, section 3.2). A frame keeps `s_range` consecutive rows from a start s_t:
the block whose blank occupation, less the symbol occupation entering its first row, is greatest (the first of equals).
From the last frame on it is the block that ends in the last row. The starts are then lowered until a path fits:

    s_0 = 0,    0 <= s_t - s_(t-1) <= rise,    rise = s_range - 1 where a symbol passes no frame, 1 where it does.

A running minimum from the end makes s_t non-decreasing. The same on x_t = rise * t - s_t bounds the rise, and x_t
clamped at 0 then starts at 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def prune_ranges(px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int) -> Tensor:
    """Rows (B, T, s_range) to keep, from the occupations px_grad (B, S, T + 1), or (B, S, T) where a symbol passes a
    frame, and py_grad (B, S + 1, T).
    """
    _, rows, frames = py_grad.shape
    symbol_passes_frame = px_grad.shape[2] == frames
    s_range = feasible_s_range(s_range, boundary, rows, symbol_passes_frame)
    last_row, last_frame = boundary[:, 2, None], boundary[:, 3, None] - 1
    frame, offset = torch.arange(frames, device=py_grad.device), torch.arange(s_range, device=py_grad.device)

    kept = py_grad.unfold(1, s_range, 1).sum(3)  # (B, S + 2 - s_range, T): what the block from row s on keeps
    entered = F.pad(px_grad[:, :, :frames], (0, 0, 1, 0))[:, : kept.shape[1]]
    best = (kept - entered).argmax(1)
    wanted = torch.where(frame < last_frame, best, (last_row - s_range + 1).clamp(min=0))

    ceiling = (1 if symbol_passes_frame else s_range - 1) * frame
    below = ceiling - _minimum_from_here_on(wanted)
    starts = ceiling - _minimum_from_here_on(below).clamp(min=0)
    return starts[:, :, None] + offset


def feasible_s_range(s_range: int, boundary: Tensor, rows: int, symbol_passes_frame: bool) -> int:
    """`s_range`, at most all rows, and raised where an utterance of few frames could not reach its last row with it."""
    if symbol_passes_frame:
        return min(s_range, rows)
    symbols, frames = boundary[:, 2], boundary[:, 3].clamp(min=1)
    needed = int(((symbols + frames - 1) // frames).max()) + 1
    return min(max(s_range, needed), rows)


def prune(am: Tensor, lm: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """am (B, T, D) and lm (B, S + 1, E) of the kept cells: (B, T, s_range, D), a view, and (B, T, s_range, E)."""
    lm_pruned = F.embedding(flat_rows(ranges, lm.shape[1]), lm.flatten(0, 1))
    return am[:, :, None].expand(-1, -1, ranges.shape[2], -1), lm_pruned


def flat_rows(ranges: Tensor, rows: int) -> Tensor:
    """`ranges` (B, T, s_range) as rows of a tensor (B * rows, ...)."""
    return ranges + rows * torch.arange(len(ranges), device=ranges.device)[:, None, None]


def _minimum_from_here_on(x: Tensor) -> Tensor:
    return x.flip(1).cummin(1).values.flip(1)
