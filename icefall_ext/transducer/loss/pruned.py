"""Arcs of the pruned lattice, from logits or straight from the joiner.

Of the logits z of a cell only two numbers reach the lattice,

    px = z[y] - log sum_v exp(z[v])    and    py = z[blank] - log sum_v exp(z[v]),

and their gradient goes back in one pass,

    d z[v] = [v = y] d px + [v = blank] d py - exp(z[v] - log sum) (d px + d py).

The rest is memory: at (B, T, S, V) = (16, 500, 50, 2000) and s_range 5 one float32 tensor (B, T, s_range, V) is 320 MB,
and a step costs as much as it writes of these. joining.py keeps their number down.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from icefall_ext.transducer.loss.chunks import chunk_length
from icefall_ext.transducer.loss.joining import CellArcs, Join, Joiner, held_arcs, recomputed_arcs
from icefall_ext.transducer.loss.lattice import Lattice
from icefall_ext.transducer.loss.ranges import flat_rows


def cell_arcs(logits: Tensor, symbols: Tensor, termination_symbol: int) -> tuple[Tensor, Tensor]:
    """px and py (cells,), in float32 or wider, of logits (cells, V) whose rows emit `symbols` (cells,)."""
    return _CellArcs.apply(logits, symbols, termination_symbol)


class _CellArcs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, symbols, termination_symbol):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_sums = torch.cat([z.to(dtype).logsumexp(1) for z in logits.split(chunk_length(logits))])
        log_sums.clamp_(min=torch.finfo(dtype).min)  # a row of -inf alone: probabilities of 0, not NaN
        ctx.save_for_backward(logits, symbols, log_sums)
        ctx.termination_symbol = termination_symbol
        return logits.gather(1, symbols[:, None])[:, 0] - log_sums, logits[:, termination_symbol] - log_sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, px_grad, py_grad):
        logits, symbols, log_sums = ctx.saved_tensors
        logits_grad = torch.empty_like(logits)
        per_chunk = (logits, symbols[:, None], log_sums[:, None], px_grad[:, None], py_grad[:, None], logits_grad)
        for z, symbol, log_sum, d_px, d_py, d_z in zip(*(x.split(chunk_length(logits)) for x in per_chunk)):
            d = torch.sub(z, log_sum, out=d_z if d_z.dtype == log_sum.dtype else None)
            d.exp_().mul_(-(d_px + d_py)).scatter_add_(1, symbol, d_px)
            d[:, ctx.termination_symbol] += d_py[:, 0]
            if d is not d_z:
                d_z.copy_(d)
        return logits_grad, None, None


def arcs_of_logits(
    logits: Tensor, lattice: Lattice, ranges: Tensor, cell_arcs: CellArcs = cell_arcs
) -> tuple[Tensor, Tensor]:
    """px (B, S, T) and py (B, S + 1, T) of logits (B, T, s_range, V); -inf in the cells that are not kept."""
    cells = _Cells(lattice, ranges)
    px, py = cell_arcs(logits.flatten(0, 2), cells.symbols.flatten(), lattice.termination_symbol)
    return cells.on_lattice(px, py)


def arcs_of_joiner(
    joiner: Joiner,
    am: Tensor,
    lm: Tensor,
    lattice: Lattice,
    ranges: Tensor,
    vocab_size: int,
    recompute: bool,
    cell_arcs: CellArcs = cell_arcs,
) -> tuple[Tensor, Tensor]:
    """The same of am (B, T, D) and lm (B, S + 1, E), without the frames of padding."""
    inside = torch.arange(lattice.frames, device=am.device) < lattice.boundary[:, 3, None]
    frames = inside.flatten().nonzero()[:, 0]
    cells = _Cells(lattice, ranges, frames)
    join = Join(joiner, cells.lm_rows, cells.symbols, lattice.termination_symbol, vocab_size, cell_arcs)
    am, lm = am.flatten(0, 1).index_select(0, frames), lm.flatten(0, 1)
    return cells.on_lattice(*(recomputed_arcs if recompute else held_arcs)(join, am, lm))


class _Cells:
    """The kept cells, frame by frame (frames, s_range): their rows of lm, their next symbols, their places."""

    def __init__(self, lattice: Lattice, ranges: Tensor, frames: Tensor | None = None):
        batch, num_symbols = lattice.symbols.shape
        self._shape = (batch, num_symbols + 1, lattice.frames)
        rows = flat_rows(ranges, num_symbols + 1)
        places = rows * lattice.frames + torch.arange(lattice.frames, device=ranges.device)[:, None]
        self.lm_rows, self._places = rows.flatten(0, 1), places.flatten(0, 1)
        if frames is not None:
            self.lm_rows, self._places = self.lm_rows[frames], self._places[frames]
        self.symbols = F.pad(lattice.symbols, (0, 1), value=lattice.termination_symbol).flatten()[self.lm_rows]

    def on_lattice(self, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
        """px (B, S, T) and py (B, S + 1, T) of the arcs of all kept cells; the others have -inf."""
        nowhere = px.new_full((math.prod(self._shape),), float("-inf"))
        px, py = (nowhere.scatter(0, self._places.flatten(), arcs).view(self._shape) for arcs in (px, py))
        return px[:, :-1], py
