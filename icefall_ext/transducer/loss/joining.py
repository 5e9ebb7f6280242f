"""The joiner over the kept cells, some at a time: held for the backward pass, or run again in it.

`held_arcs` keeps the joiner's graph and so its logits, once; their gradient exists for one chunk only.

`recomputed_arcs` keeps neither, and its backward pass visits only the cells that paths use: a cell's gradient is its
occupation times something of the order of one, and a model that has learnt anything leaves half of the kept cells or
more without. That second run and its backward pass together then cost less than the backward pass over all cells. The
joiner's parameters are found in the graph of one cell and made inputs of the autograd function, so that each gets its
gradient once, as DistributedDataParallel and `torch.autograd.grad` expect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from icefall_ext.transducer.loss.chunks import chunk_length

CellArcs = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
Joiner = Callable[[Tensor, Tensor], Tensor]
NEGLIGIBLE = 2.0**-24  # of the largest gradient of an arc: half the last digit of a float32


class Join(NamedTuple):
    """What to run on which cells: their rows of lm (frames, s_range), the symbols they emit (frames, s_range)."""

    joiner: Joiner
    rows: Tensor
    symbols: Tensor
    termination_symbol: int
    vocab_size: int
    cell_arcs: CellArcs


def held_arcs(join: Join, am: Tensor, lm: Tensor) -> tuple[Tensor, Tensor]:
    """px and py (cells,) of am (frames, D) and lm (rows, E)."""
    s_range, arcs = join.rows.shape[1], []
    chunk = chunk_length(am, s_range * join.vocab_size)
    for am_frames, rows, symbols in zip(am.split(chunk), join.rows.split(chunk), join.symbols.split(chunk)):
        logits = join.joiner(am_frames[:, None].expand(-1, s_range, -1), F.embedding(rows, lm))
        arcs.append(join.cell_arcs(logits.flatten(0, 1), symbols.flatten(), join.termination_symbol))
    px, py = zip(*arcs)
    return torch.cat(px), torch.cat(py)


def recomputed_arcs(join: Join, am: Tensor, lm: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with a joiner that gives the same logits when it runs again."""
    return _RecomputedArcs.apply(join, am, lm, *_parameters(join.joiner, am, lm))


class _RecomputedArcs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, join, am, lm, *parameters):
        px, py = held_arcs(join, am, lm)
        ctx.join, ctx.autocast = join, _autocast_state(am.device.type)
        ctx.save_for_backward(am, lm, py, *parameters)
        return px, py

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, px_grad, py_grad):
        am, lm, py, *parameters = ctx.saved_tensors
        join = ctx.join
        used = _used_cells(px_grad.abs() + py_grad.abs())
        drift = py.new_zeros(())  # of the blanks' log-probabilities from the first run: rounding, or a random joiner
        grads = [torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (am, lm, *parameters)]
        for cells in used.split(chunk_length(am, join.vocab_size)):
            frames = torch.div(cells, join.rows.shape[1], rounding_mode="floor")
            rows, symbols = join.rows.flatten()[cells], join.symbols.flatten()[cells]
            inputs = am[frames].requires_grad_(), lm[rows].requires_grad_()
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                logits = join.joiner(*(x[:, None] for x in inputs))
                arcs = join.cell_arcs(logits.flatten(0, 1), symbols, join.termination_symbol)
            drift += (arcs[1].detach() - py[cells]).abs().sum()
            am_grad, lm_grad, *parameter_grads = torch.autograd.grad(
                arcs, (*inputs, *parameters), (px_grad[cells], py_grad[cells])
            )
            grads[0].index_add_(0, frames, am_grad.to(grads[0].dtype))
            grads[1].index_add_(0, rows, lm_grad.to(grads[1].dtype))
            for total, grad in zip(grads[2:], parameter_grads):
                total += grad
        if drift > 0.05 * len(used):
            raise RuntimeError("the joiner gives other logits when it runs again (dropout?): take recompute=False")
        return None, *(grad.to(x.dtype) for grad, x in zip(grads, (am, lm, *parameters)))


def _used_cells(size: Tensor) -> Tensor:
    """Cells whose gradient, of this size, is not negligible; one that is infinite or no number must be seen, too."""
    negligible = (size == 0) | (size < NEGLIGIBLE * size.max()) if len(size) else size == 0
    return (~negligible).nonzero()[:, 0]


def _parameters(joiner: Joiner, am: Tensor, lm: Tensor) -> list[Tensor]:
    """The leaves that one cell's logits depend on, whether of a module or in the closure of a function."""
    with torch.enable_grad():
        logits = joiner(am[:1, None].detach(), lm[:1, None].detach())
    leaves, seen, pending = [], set(), [logits.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending.extend(parent for parent, _ in node.next_functions)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
    return leaves


def _autocast_state(device_type: str) -> dict:
    if hasattr(torch, "get_autocast_dtype"):
        enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    elif device_type == "cpu":
        enabled, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
    else:
        enabled, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return {"device_type": device_type, "enabled": enabled, "dtype": dtype}
