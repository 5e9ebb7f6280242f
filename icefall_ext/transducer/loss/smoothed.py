"""Arcs of the simple joiner am[t] + lm[s], smoothed by the predictor and the encoder alone: the loss that finds ranges.

    px = (1 - l - a) px_joint + l px_lm + a px_am        l = lm_only_scale, a = am_only_scale; py the same with blank

    px_joint[s, t] = am[t, y] + lm[s, y] - log sum_v exp(am[t, v] + lm[s, v])        y = the symbol that row s emits
    px_lm[s]       = lm[s, y] - log sum_v exp(lm[s, v])
    px_am[t]       = am[t, y] + log u[y] - log sum_v u[v] exp(am[t, v])

u is the predictor's softmax averaged over all positions of the batch, a unigram. log u enters as one more row of lm, so
that one matrix product, exp(lm - max) @ exp(am - max)^T, gives the normalisers of px_joint and of px_am. They are
floored where am and lm put their mass so far apart (69 nats) that no product of theirs is left in float32: there is no
NaN then, and no gradient through them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from icefall_ext.transducer.loss.chunks import chunk_length
from icefall_ext.transducer.loss.lattice import Lattice

FLOOR = 1e-30


def smoothed_arcs(
    lm: Tensor,
    am: Tensor,
    lattice: Lattice,
    lm_only_scale: float,
    am_only_scale: float,
    unigram_over_padding: bool,
) -> tuple[Tensor, Tensor]:
    """px (B, S, T) and py (B, S + 1, T) of lm (B, S + 1, V) and am (B, T, V), both in float32 or wider."""
    batch, rows, _ = lm.shape
    symbols, blank = lattice.symbols, lattice.termination_symbol
    columns = torch.cat((symbols, symbols.new_full((batch, 1), blank)), 1)

    exp_lm, lm_peak = _exp_below_peak(lm)
    lm_mass = exp_lm.sum(2, keepdim=True).clamp(min=FLOOR)
    last_counted = rows - 1 if unigram_over_padding else lattice.boundary[:, 2, None]
    counted = (torch.arange(rows, device=lm.device) <= last_counted).expand(batch, rows).to(lm.dtype)
    weight = counted / counted.sum() / lm_mass[:, :, 0]
    log_unigram = (weight.flatten() @ exp_lm.flatten(0, 1) + torch.finfo(lm.dtype).tiny).log()
    lm_and_unigram = torch.cat((lm, log_unigram.expand(batch, 1, -1)), 1)
    am_columns, normalisers = _ColumnsAndNormalisers.apply(am, lm_and_unigram, columns)

    lm_normaliser = lm_mass.log() + lm_peak
    joint_normaliser, am_normaliser = normalisers[:, :rows], normalisers[:, rows:]

    def smooth(am_logit: Tensor, lm_logit: Tensor, unigram_logit: Tensor, row: slice) -> Tensor:
        terms = (
            (1 - (lm_only_scale + am_only_scale), am_logit + lm_logit - joint_normaliser[:, row]),
            (lm_only_scale, lm_logit - lm_normaliser[:, row]),
            (am_only_scale, am_logit + unigram_logit - am_normaliser),
        )
        total = sum(scale * term for scale, term in terms if scale)  # 0 * -inf is no number
        return total.expand_as(joint_normaliser[:, row])

    lm_symbol, lm_blank = lm[:, :-1].gather(2, symbols[..., None]), lm[:, :, blank, None]
    px = smooth(am_columns[:, :-1], lm_symbol, log_unigram[symbols][..., None], slice(rows - 1))
    py = smooth(am_columns[:, -1:], lm_blank, log_unigram[blank], slice(rows))
    return px, py


class _ColumnsAndNormalisers(torch.autograd.Function):
    """am (B, T, V), lm (B, R, V), columns (B, C) -> am[b, t, columns[b, c]] (B, C, T) and normalisers (B, R, T).

    exp(am - max) is computed again in the backward pass, some utterances at a time, so that nothing of am's size is
    kept but its gradient.
    """

    @staticmethod
    def forward(ctx, am, lm, columns):
        ctx.chunk = chunk_length(am)
        picked, normalisers = [], []
        for am_b, lm_b, columns_b in zip(am.split(ctx.chunk), lm.split(ctx.chunk), columns.split(ctx.chunk)):
            (exp_am, am_peak), (exp_lm, lm_peak) = _exp_below_peak(am_b), _exp_below_peak(lm_b)
            sums = (exp_lm @ exp_am.transpose(1, 2)).clamp_(min=FLOOR)
            normalisers.append(sums.log_().add_(lm_peak).add_(am_peak.transpose(1, 2)))
            picked.append(am_b.gather(2, _over_frames(columns_b, am_b)).transpose(1, 2))
        normalisers = torch.cat(normalisers)
        ctx.save_for_backward(am, lm, columns, normalisers)
        return torch.cat(picked), normalisers

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, picked_grad, normaliser_grad):
        am, lm, columns, normalisers = ctx.saved_tensors
        am_grad, lm_grad = torch.empty_like(am), torch.empty_like(lm)
        per_chunk = (am, lm, columns, normalisers, picked_grad, normaliser_grad, am_grad, lm_grad)
        for am_b, lm_b, columns_b, log_sum, d_picked, d_log_sum, d_am, d_lm in zip(
            *(tensor.split(ctx.chunk) for tensor in per_chunk)
        ):
            (exp_am, am_peak), (exp_lm, lm_peak) = _exp_below_peak(am_b), _exp_below_peak(lm_b)
            log_sum = log_sum - lm_peak - am_peak.transpose(1, 2)
            d_sum = torch.where(log_sum > math.log(FLOOR), d_log_sum * (-log_sum).exp(), log_sum.new_zeros(()))
            torch.mul(d_sum.transpose(1, 2) @ exp_lm, exp_am, out=d_am)
            torch.mul(d_sum @ exp_am, exp_lm, out=d_lm)
            d_am.scatter_add_(2, _over_frames(columns_b, am_b), d_picked.transpose(1, 2))
        return am_grad, lm_grad, None


def _exp_below_peak(logits: Tensor) -> tuple[Tensor, Tensor]:
    """exp(logits - peak) and peak, the largest of each row; a row of -inf alone has a finite peak and exp 0."""
    peak = logits.detach().amax(2, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min / 4)
    return (logits - peak).exp(), peak


def _over_frames(columns: Tensor, am: Tensor) -> Tensor:
    return columns[:, None].expand(-1, am.shape[1], -1)
