"""The two inner loops of the loss as Triton kernels: the recursion, and the pass over the pruned logits.

`forward_scores` and `cell_arcs` mean what recursion.py and pruned.py say. The recursion is one program per utterance
and direction, its row of alpha in registers: one launch, not three a step. The pass over the logits is one program per
cell, forward and backward; the backward one does not read the logits of a cell without occupation.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 8192  # logits that a program holds; a wider vocabulary is read in several blocks


def forward_scores(stay: Tensor, move: Tensor, start: Tensor) -> Tensor:
    steps, batch, rows = stay.shape
    alpha = stay.new_empty((steps + 1, batch, rows))
    block = triton.next_power_of_2(rows)
    _forward_scores[(batch,)](
        stay, move, start, alpha, steps, batch, rows, BLOCK=block, num_warps=min(8, max(1, block // 64))
    )
    return alpha


@triton.jit
def _forward_scores(stay, move, start, alpha, steps, batch, rows, BLOCK: tl.constexpr):
    utterance = tl.program_id(0)
    row = tl.arange(0, BLOCK)
    exists = row < rows
    impossible = float("-inf")
    here = tl.where(row == tl.load(start + utterance), 0.0, impossible).to(tl.float64)
    tl.store(alpha + utterance * rows + row, here, exists)
    n = 0
    while n < steps:  # a range up to an argument fails under Triton 3.6's interpreter with numpy >= 2.4
        at = n * batch + utterance
        below = tl.where(row > 0, tl.gather(here, tl.maximum(row - 1, 0), 0), impossible)
        stayed = here + tl.load(stay + at * rows + row, exists, impossible)
        moved = below + tl.load(move + at * (rows + 1) + row, exists, impossible)
        larger = tl.maximum(stayed, moved)
        apart = tl.minimum(stayed, moved) - tl.maximum(larger, -1e300)  # two -inf: -inf, not NaN
        here = larger + tl.log(1.0 + tl.exp(apart))
        tl.store(alpha + (at + batch) * rows + row, here, exists)
        n += 1


def cell_arcs(logits: Tensor, symbols: Tensor, termination_symbol: int) -> tuple[Tensor, Tensor]:
    return _CellArcs.apply(logits.contiguous(), symbols, termination_symbol)


class _CellArcs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, symbols, termination_symbol):
        cells, ctx.vocab_size = logits.shape
        ctx.termination_symbol = termination_symbol
        px = logits.new_empty(cells, dtype=torch.promote_types(logits.dtype, torch.float32))
        py, log_sums = torch.empty_like(px), torch.empty_like(px)
        _cell_arcs[(cells,)](
            logits, symbols, px, py, log_sums, ctx.vocab_size, termination_symbol, **_block(ctx.vocab_size)
        )
        ctx.save_for_backward(logits, symbols, log_sums)
        return px, py

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, px_grad, py_grad):
        logits, symbols, log_sums = ctx.saved_tensors
        logits_grad = torch.empty_like(logits)
        _cell_arcs_backward[(len(logits),)](
            logits,
            symbols,
            log_sums,
            px_grad.contiguous(),
            py_grad.contiguous(),
            logits_grad,
            ctx.vocab_size,
            ctx.termination_symbol,
            **_block(ctx.vocab_size),
        )
        return logits_grad, None, None


@triton.jit
def _cell_arcs(logits, symbols, px, py, log_sums, VOCAB: tl.constexpr, blank, BLOCK: tl.constexpr):
    wide = px.dtype.element_ty
    cell = tl.program_id(0).to(tl.int64)
    row = logits + cell * VOCAB
    peak = tl.full((), -3e38, wide)  # not -inf: a row of -inf alone has probabilities of 0, not NaN
    mass = tl.zeros((), wide)
    for first in range(0, VOCAB, BLOCK):
        v = first + tl.arange(0, BLOCK)
        z = tl.load(row + v, v < VOCAB, float("-inf")).to(wide)
        higher = tl.maximum(peak, tl.max(z, 0))
        mass = mass * tl.exp(peak - higher) + tl.sum(tl.exp(z - higher), 0)
        peak = higher
    log_sum = tl.maximum(peak + tl.log(mass), -3e38)
    tl.store(px + cell, tl.load(row + tl.load(symbols + cell)).to(wide) - log_sum)
    tl.store(py + cell, tl.load(row + blank).to(wide) - log_sum)
    tl.store(log_sums + cell, log_sum)


@triton.jit
def _cell_arcs_backward(
    logits, symbols, log_sums, px_grad, py_grad, logits_grad, VOCAB: tl.constexpr, blank, BLOCK: tl.constexpr
):
    cell = tl.program_id(0).to(tl.int64)
    symbol = tl.load(symbols + cell)
    log_sum = tl.load(log_sums + cell)
    d_px, d_py = tl.load(px_grad + cell), tl.load(py_grad + cell)
    read = tl.where((d_px == 0) & (d_py == 0), 0, VOCAB)
    for first in range(0, VOCAB, BLOCK):
        v = first + tl.arange(0, BLOCK)
        z = tl.load(logits + cell * VOCAB + v, v < read, float("-inf")).to(log_sum.dtype)
        d = -tl.exp(z - log_sum) * (d_px + d_py) + tl.where(v == symbol, d_px, 0.0) + tl.where(v == blank, d_py, 0.0)
        tl.store(logits_grad + cell * VOCAB + v, d.to(logits_grad.dtype.element_ty), v < VOCAB)


def _block(vocab_size: int) -> dict[str, int]:
    block = min(triton.next_power_of_2(vocab_size), LARGEST_BLOCK)
    return {"BLOCK": block, "num_warps": min(8, max(1, block // 512))}
