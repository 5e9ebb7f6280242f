"""Which frames an utterance has, and which of them are hidden from the model in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def conv_lengths(lengths: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Frames after convolutions without padding; 0 for an input shorter than the receptive field."""
    for kernel, stride in zip(kernels, strides):
        lengths = (torch.div(lengths - kernel, stride, rounding_mode="floor") + 1).clamp(min=0)
    return lengths


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that the first frame needs."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides)):
        samples = (samples - 1) * stride + kernel
    return samples


def valid_positions(lengths: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size), true inside each utterance."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def span_mask(lengths: Tensor, size: int, prob: float, span: int) -> Tensor:
    """Random spans as in wav2vec 2.0 and HuBERT: (B,) -> (B, size), true where hidden.

    An utterance of L positions gets floor(prob L / span + u) spans, u uniform in [0, 1), whose starts are distinct and
    uniform over the places where a whole span fits; spans may overlap. One of `span` or fewer positions gets none, so
    something is always left to see. All randomness is torch's on the CPU: the same masks on every device, and a
    saved random state covers them.
    """
    starts_possible = (lengths - span + 1).clamp(min=0)
    wanted = torch.floor(prob * lengths / span + torch.rand(len(lengths)).to(lengths.device)).long()
    wanted = torch.where(lengths > span, torch.minimum(wanted, starts_possible), torch.zeros_like(wanted))
    scores = torch.rand(len(lengths), size).to(lengths.device)
    scores = scores.masked_fill(~valid_positions(starts_possible, size), -1.0)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    starts = (rank < wanted.unsqueeze(1)).long()
    begun = starts.cumsum(dim=1)
    ended = torch.nn.functional.pad(begun, (span, 0))[:, :size]
    return begun > ended
