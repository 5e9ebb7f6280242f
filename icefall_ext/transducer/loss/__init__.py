"""Pruned RNN-T loss with the names and meaning of k2's functions, native and through k2.

    losses = pruned_rnnt_loss(simple_lm, simple_am, lm, am, joiner, symbols, termination_symbol=0, s_range=5,
                              lm_only_scale=0.25, am_only_scale=0.0, boundary=boundary)
    (0.5 * losses.simple + losses.pruned).backward()

does four steps, each of which can be called alone: `rnnt_loss_smoothed`, whose occupations say where the paths run;
`get_rnnt_prune_ranges`, the `s_range` rows to keep on each frame; `do_rnnt_pruning`, the encoder's and predictor's
vectors there; `rnnt_loss_pruned`, the loss of the joiner's logits. docs/transducer.md says which backend to choose.

Shapes: lm (B, S + 1, V), am (B, T, V), symbols (B, S), boundary (B, 4) = [0, 0, S_b, T_b], px (B, S, T) and one more
column of -inf in the regular topology, py (B, S + 1, T), ranges (B, T, s_range), logits (B, T, s_range, V). Losses are
float32 (float64 for float64 input) whatever the type of the logits. Symbols and finite numbers in the padding change
neither value nor gradient. An utterance without a path has loss +inf and no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from icefall_ext.transducer.loss import ranges as pruning
from icefall_ext.transducer.loss.backends import BACKENDS, choose
from icefall_ext.transducer.loss.joining import Joiner
from icefall_ext.transducer.loss.lattice import RNNT_TYPES, Lattice, beyond_k2, checked_boundary
from icefall_ext.transducer.loss.pruned import arcs_of_joiner, arcs_of_logits
from icefall_ext.transducer.loss.smoothed import smoothed_arcs

__all__ = [
    "BACKENDS",
    "RNNT_TYPES",
    "PrunedRnntLoss",
    "do_rnnt_pruning",
    "get_rnnt_prune_ranges",
    "pruned_rnnt_loss",
    "rnnt_loss_pruned",
    "rnnt_loss_smoothed",
]


class PrunedRnntLoss(NamedTuple):
    simple: Tensor
    pruned: Tensor


def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: str = "regular",
    delay_penalty: float = 0.0,
    reduction: str = "mean",
    return_grad: bool = False,
    *,
    unigram_over_padding: bool = True,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
    """Loss of the joiner am + lm, smoothed; with `return_grad` also the occupations (px_grad, py_grad).

    The share `am_only_scale` meets am with the predictor's average over the batch. As in k2 that average takes in the
    padding of lm, the one place where padding matters; `unigram_over_padding=False` keeps it out.
    """
    lattice = Lattice.of(symbols, am.shape[1], termination_symbol, boundary, rnnt_type, delay_penalty, reduction)
    lattice.check(lm, am)
    if lm.shape[2] != am.shape[2]:
        raise ValueError(f"lm has {lm.shape[2]} tokens and am {am.shape[2]}: both must have the vocabulary's")
    engine = choose(backend, am, lattice.beyond_k2() if unigram_over_padding else "its unigram is over padding")
    with torch.autocast(am.device.type, enabled=False):
        lm, am = _at_least_float32(lm), _at_least_float32(am)
        if engine.k2:
            scales = {"lm_only_scale": lm_only_scale, "am_only_scale": am_only_scale}
            return engine.k2.rnnt_loss_smoothed(lm, am, **lattice.k2_arguments(), **scales, return_grad=return_grad)
        px, py = smoothed_arcs(lm, am, lattice, lm_only_scale, am_only_scale, unigram_over_padding)
        return lattice.loss(px, py, engine.scores, return_grad)


def get_rnnt_prune_ranges(
    px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int, *, backend: str = "auto"
) -> Tensor:
    """Rows (B, T, s_range) to keep on each frame, from the occupations that `rnnt_loss_smoothed` gives.

    `s_range` is lowered to S + 1 and, in the regular topology, raised until the utterance with the fewest frames to a
    symbol can reach its end; there it must be 2 at least.
    """
    _, num_symbols, px_frames = px_grad.shape
    frames = py_grad.shape[2]
    symbol_passes_frame = px_frames == frames
    if s_range < 1 or (s_range == 1 and num_symbols and not symbol_passes_frame):
        raise ValueError(f"s_range {s_range}: at least 2, or 1 where a symbol passes a frame")
    s_range = pruning.feasible_s_range(s_range, boundary, num_symbols + 1, symbol_passes_frame)
    boundary = checked_boundary(boundary, num_symbols, frames, py_grad)
    engine = choose(backend, py_grad, beyond_k2(num_symbols, frames))
    if engine.k2:
        return engine.k2.get_rnnt_prune_ranges(px_grad, py_grad, boundary, s_range)
    return pruning.prune_ranges(px_grad, py_grad, boundary, s_range)


def do_rnnt_pruning(am: Tensor, lm: Tensor, ranges: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """am (B, T, D) and lm (B, S + 1, E) of the kept cells: (B, T, s_range, D), a view, and (B, T, s_range, E)."""
    engine = choose(backend, am)
    return engine.k2.do_rnnt_pruning(am, lm, ranges) if engine.k2 else pruning.prune(am, lm, ranges)


def rnnt_loss_pruned(
    logits: Tensor,
    symbols: Tensor,
    ranges: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: str = "regular",
    delay_penalty: float = 0.0,
    reduction: str = "mean",
    *,
    backend: str = "auto",
) -> Tensor:
    """Loss of the joiner's logits (B, T, s_range, V) on the rows `ranges` (B, T, s_range); other rows have no path.

    With all S + 1 rows on every frame it is the full RNN-T loss.
    """
    lattice = Lattice.of(symbols, logits.shape[1], termination_symbol, boundary, rnnt_type, delay_penalty, reduction)
    if logits.shape[:-1] != ranges.shape or len(logits) != len(symbols):
        raise ValueError(f"logits are {tuple(logits.shape)}, ranges {tuple(ranges.shape)}: must be (B, T, s_range, V) "
                         f"and (B, T, s_range) for a batch of {len(symbols)}")
    engine = choose(backend, logits, lattice.beyond_k2())
    with torch.autocast(logits.device.type, enabled=False):
        if engine.k2:
            return engine.k2.rnnt_loss_pruned(_at_least_float32(logits), ranges=ranges, **lattice.k2_arguments())
        px, py = arcs_of_logits(logits, lattice, ranges, engine.cell_arcs)
        return lattice.loss(px, py, engine.scores)


def pruned_rnnt_loss(
    simple_lm: Tensor,
    simple_am: Tensor,
    lm: Tensor,
    am: Tensor,
    joiner: Joiner,
    symbols: Tensor,
    termination_symbol: int,
    s_range: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: str = "regular",
    delay_penalty: float = 0.0,
    reduction: str = "mean",
    *,
    unigram_over_padding: bool = True,
    recompute: bool = True,
    backend: str = "auto",
) -> PrunedRnntLoss:
    """The simple and the pruned loss: all four steps, with as little of (B, T, s_range, V) in memory as can be.

    `simple_lm` (B, S + 1, V) and `simple_am` (B, T, V) go into the simple loss, `lm` (B, S + 1, E) and `am` (B, T, D)
    into `joiner(am, lm)`. That is called on cells (n, m, D) and (n, m, E), some at a time and no padding, and gives
    their logits (n, m, V); a cell's logits must depend on that cell alone.

    `recompute` holds no logits but runs the joiner again in the backward pass, for the cells that paths use: less
    memory and, but for the first steps of training, less time. The joiner must then give the same logits twice (no
    dropout) and own its parameters or close over them as leaves. Through k2 the steps run as in icefall, and hold all.
    """
    frames = simple_am.shape[1]
    lattice = Lattice.of(symbols, frames, termination_symbol, boundary, rnnt_type, delay_penalty, reduction)
    lattice.check(simple_lm, simple_am, "simple_")
    lattice.check(lm, am)
    engine = choose(backend, am, lattice.beyond_k2() if unigram_over_padding else "its unigram is over padding")
    simple, occupations = rnnt_loss_smoothed(
        simple_lm,
        simple_am,
        symbols,
        termination_symbol,
        lm_only_scale,
        am_only_scale,
        boundary,
        rnnt_type,
        delay_penalty,
        reduction,
        return_grad=True,
        unigram_over_padding=unigram_over_padding,
        backend=engine.name,
    )
    ranges = get_rnnt_prune_ranges(*occupations, lattice.boundary, s_range, backend=engine.name)
    if engine.k2:
        logits = joiner(*do_rnnt_pruning(am, lm, ranges, backend="k2"))
        pruned = engine.k2.rnnt_loss_pruned(_at_least_float32(logits), ranges=ranges, **lattice.k2_arguments())
    else:
        px, py = arcs_of_joiner(joiner, am, lm, lattice, ranges, simple_am.shape[2], recompute, engine.cell_arcs)
        pruned = lattice.loss(px, py, engine.scores)
    return PrunedRnntLoss(simple, pruned)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
