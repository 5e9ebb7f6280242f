"""The transducer's total score and arc occupations: one recursion in log space, differentiable.

Cell (s, t) of utterance b: s of its S_b symbols emitted, t of its T_b frames passed. Two arcs leave a cell: the symbol
s + 1, of score px[b, s, t], and a blank, py[b, s, t], which passes the frame. A symbol passes no frame in the `regular`
topology and one in the others. The total is the log-sum, over all paths from (0, 0) to (S_b, T_b), of the path's sum.

Steps. Count n = t + s (regular) or n = t (otherwise). Then every arc goes from step n to step n + 1, a blank stays in
its row s and a symbol moves up one row, whatever the topology:

    alpha[n + 1, s] = log(exp(alpha[n, s] + stay[n, s]) + exp(alpha[n, s - 1] + move[n, s]))

    stay[n, s] = py[s, t]   and   move[n, s] = px[s - 1, t]   at the frame t of the cell that the arc leaves.

Nothing else is needed:
- Ends. An utterance that is through waits in row S_b at no cost, so that all end together, at the last step N.
- Backward. beta is alpha of the lattice turned round (steps and rows reversed, start in row S_b), so both come from
  one pass over a batch twice as large.
- Gradient. d total / d arc is the arc's occupation, exp(alpha + arc + beta - total); no graph of N steps is kept.
- Precision. Arcs are float32 (or what they are, if wider), but alpha and beta add up in float64: totals reach
  thousands, where a float32 step is 2e-4 and occupations, differences of such sums, keep three digits at best.

An utterance without any path (more symbols than frames where a symbol takes a frame, or arcs of -inf) has total -inf
and occupations of zero.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Scores = Callable[[Tensor, Tensor, Tensor], Tensor]


def forward_scores(stay: Tensor, move: Tensor, start: Tensor) -> Tensor:
    """alpha (N + 1, B, S + 1) of `stay` (N, B, S + 1) and `move` (N, B, S + 2), from row `start` (B,) at step 0.

    The first and the last entry of `move` lead into the lattice and out of it: arcs that do not exist, -inf.
    """
    steps, batch, rows = stay.shape
    padded = stay.new_full((steps + 1, batch, rows + 1), float("-inf"))  # one row below the first
    padded[0].scatter_(1, start[:, None] + 1, 0.0)
    alpha = padded[:, :, 1:]
    here, below, into = alpha.unbind(0), padded[:, :, :-1].unbind(0), move[:, :, :-1].unbind(0)
    for n, arc in enumerate(stay.unbind(0)):
        torch.logaddexp(here[n] + arc, below[n] + into[n], out=here[n + 1])
    return alpha


def total_scores(
    px: Tensor,
    py: Tensor,
    boundary: Tensor,
    symbol_passes_frame: bool = False,
    scores: Scores = forward_scores,
    occupations: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Total (B,) of px (B, S, T) and py (B, S + 1, T) within `boundary` (B, 4) = [0, 0, S_b, T_b], differentiable in
    px and py; with `occupations` also those of px and py, as constants.
    """
    occupations = occupations or (torch.is_grad_enabled() and (px.requires_grad or py.requires_grad))
    return _Total.apply(px, py, boundary, 0 if symbol_passes_frame else 1, scores, occupations)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, px, py, boundary, skew, scores, occupations):
        batch, rows, frames = py.shape
        last_row, last_frame = boundary[:, 2, None], boundary[:, 3, None]
        steps = frames + skew * (rows - 1)

        # Step-major arcs, and the same memory seen as cells: cell (s, t) lies at step t + skew * s.
        stay = py.new_full((steps, batch, rows), float("-inf"), dtype=torch.float64)
        move = py.new_full((steps, batch, rows + 1), float("-inf"), dtype=torch.float64)
        blanks = _cells(stay, rows, frames, skew)
        symbols = _cells(move[:, :, 1:-1], rows - 1, frames, skew)
        row, frame, step = (torch.arange(n, device=py.device) for n in (rows, frames, steps))
        inside = (row <= last_row)[:, :, None] & (frame < last_frame)[:, None, :]
        blanks.copy_(py.masked_fill(~inside, float("-inf")))
        symbols.copy_(px.masked_fill(~inside[:, 1:], float("-inf")))
        through = step[:, None] >= (last_frame + skew * last_row).T
        stay.masked_fill_(through[:, :, None] & (row == last_row), 0.0)

        start = torch.zeros_like(boundary[:, 2])
        if not occupations:
            alpha = scores(stay, move, start)
            return alpha[-1].gather(1, last_row).squeeze(1).to(py.dtype), None, None

        both = scores(
            torch.cat((stay, stay.flip(0, 2)), 1),
            torch.cat((move, move.flip(0, 2)), 1),
            torch.cat((start, rows - 1 - boundary[:, 2])),
        )
        alpha, beta = both[:, :batch], both[:, batch:].flip(0, 2)
        total = alpha[-1].gather(1, last_row)
        finite = total.clamp(min=torch.finfo(total.dtype).min)  # without a path: exp(-inf - finite) is 0
        stay += alpha[:-1] + beta[1:] - finite
        move[:, :, 1:-1] += alpha[:-1, :, :-1] + beta[1:, :, 1:] - finite
        px_occupation = symbols.exp().masked_fill(~inside[:, 1:], 0.0).to(px.dtype)
        py_occupation = blanks.exp().masked_fill(~inside, 0.0).to(py.dtype)
        ctx.save_for_backward(px_occupation, py_occupation)
        ctx.mark_non_differentiable(px_occupation, py_occupation)
        return total.squeeze(1).to(py.dtype), px_occupation, py_occupation

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, total_grad, *_):
        px_occupation, py_occupation = ctx.saved_tensors
        total_grad = total_grad[:, None, None]
        return total_grad * px_occupation, total_grad * py_occupation, None, None, None, None


def _cells(steps: Tensor, rows: int, frames: int, skew: int) -> Tensor:
    """A step-major tensor (N, B, rows) seen as cells (B, rows, frames): cell (s, t) lies at step t + skew * s."""
    step, batch, row = steps.stride()
    return steps.as_strided((steps.shape[1], rows, frames), (batch, row + skew * step, step))
