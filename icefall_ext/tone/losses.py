"""SITA's losses: what is the same word comes together, what differs by tone alone moves apart.

With s the cosine similarity of two embeddings, over the pairs (i, p) of a batch and the negatives n of i

    InfoNCE   mean over (i, p)      of  -log( e^{s_ip / t} / (e^{s_ip / t} + sum_n e^{s_in / t}) )
    margin    mean over (i, p, n) above 0  of  max(0, margin + s_in - s_ip)

    L1 = a L_spk + b L_tone + c CE(tone)            L2 = L_CTC + k L_KD
    L_KD = T^2 mean over valid frames of KL( softmax(teacher / T) || softmax(student / T) )

All is computed in float32 at least, whatever autocast says: a similarity of 0.9 in bfloat16 is off by up to 0.002,
which t = 0.05 makes 0.04 in the exponent. SITA's temperatures and weights are not published; the defaults are ours.
(arXiv:2601.09050)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_ext.encoders.frames import valid_positions
from icefall_ext.encoders.layers import precise
from icefall_ext.errors import UserError
from icefall_ext.tone.pairs import Pairs

_TINY = 1e-12  # under the root: an embedding of zeros has a gradient, and a finite one


class NoPairs(UserError):
    """A batch from which a contrastive loss learns nothing; as 0 it would look like a loss that is done."""


def mean_over_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D), (B,) -> (B, D) over each item's own frames; an item without frames gives zeros."""
    valid = valid_positions(lengths.to(frames.device), frames.shape[1]).unsqueeze(2)
    summed = precise(frames).masked_fill(~valid, 0.0).sum(dim=1)
    return summed / lengths.to(frames.device).clamp(min=1).unsqueeze(1)


def unit_length(embeddings: Tensor) -> Tensor:
    """(B, D); zeros stay zeros."""
    embeddings = precise(embeddings)
    return embeddings * torch.rsqrt(embeddings.square().sum(dim=-1, keepdim=True) + _TINY)


def contrastive_loss(embeddings: Tensor, pairs: Pairs, temperature: float) -> Tensor:
    """InfoNCE of embeddings (B, D), of any length."""
    similarity = _similarities(embeddings, pairs) / temperature
    anchors, of_pair = np.unique(pairs.anchor, return_inverse=True)
    repelled = torch.logsumexp(_negatives(similarity, pairs, anchors), dim=1)
    return -F.logsigmoid(_at(similarity, pairs.anchor, pairs.positive) - _at(repelled, of_pair)).mean()


def margin_loss(embeddings: Tensor, pairs: Pairs, margin: float) -> Tensor:
    """The alternative: a triplet counts only while the negative is not yet `margin` further away than the positive."""
    similarity = _similarities(embeddings, pairs)
    attracted = _at(similarity, pairs.anchor, pairs.positive).unsqueeze(1)
    violated = F.relu(margin + _negatives(similarity, pairs, pairs.anchor) - attracted)
    return violated.sum() / (violated > 0).sum().clamp(min=1)


def _similarities(embeddings: Tensor, pairs: Pairs) -> Tensor:
    """(rows, B) cosines."""
    if len(embeddings) != pairs.size:
        raise ValueError(f"{len(embeddings)} embeddings, and pairs of {pairs.size} items")
    if not len(pairs):
        raise NoPairs(f"the {pairs.size} items of this batch make no pair")
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = unit_length(embeddings)
        return unit[: pairs.rows] @ unit.T


def _negatives(similarity: Tensor, pairs: Pairs, rows: np.ndarray) -> Tensor:
    """These rows of the similarities, minus infinity where there is no negative."""
    excepted = tuple(torch.from_numpy(index).to(similarity.device) for index in pairs.excepted)
    return _at(similarity.index_put(excepted, similarity.new_tensor(-torch.inf)), rows)


def _at(values: Tensor, *index: np.ndarray) -> Tensor:
    return values[tuple(torch.from_numpy(one).to(values.device) for one in index)]


def distillation_loss(student: Tensor, teacher: Tensor, lengths: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits (B, T, V) of both -> a scalar. The factor T^2 keeps the gradient's size whatever the temperature."""
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}: other frames or tokens")
    wanted = F.log_softmax(precise(teacher) / temperature, dim=-1)
    given = F.log_softmax(precise(student) / temperature, dim=-1)
    divergence = (wanted.exp() * (wanted - given)).sum(dim=-1)
    valid = valid_positions(lengths.to(student.device), student.shape[1])
    return temperature**2 * divergence.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)
