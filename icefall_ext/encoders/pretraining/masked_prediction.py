"""HuBERT's pre-training (arXiv 2106.07447): say of hidden frames which unit they belong to.

Frame t of the encoder, projected to o_t, is unit c with probability softmax_c(cos(o_t, e_c) / temperature), e_c learnt.

    loss = sum over hidden frames of -log p(unit_t) + unmasked_weight * the same over the others
           + feature_penalty * frames hidden * mean square of what the convolutions give

Log-mel energies are not learnt, so they have no penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_ext.encoders.frames import span_mask, valid_positions
from icefall_ext.encoders.pretraining.spec import PredictionConfig
from icefall_ext.encoders.spec import SAMPLE_RATE
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError


@dataclass(frozen=True)
class Predictions:
    """Losses are sums. `predicted` and `units` are (frames that were hidden,)."""

    masked_loss: Tensor
    unmasked_loss: Tensor  # mean over the frames that were not hidden; 0 where its weight is
    feature_square: Tensor  # mean; 0 without learnt convolutions
    predicted: Tensor
    units: Tensor


class MaskedPrediction(nn.Module):
    def __init__(self, encoder: SpeechEncoder, cfg: PredictionConfig):
        super().__init__()
        cfg.check()
        if encoder.cfg.subsampling != "none":
            raise UsageError(f"encoder.subsampling {encoder.cfg.subsampling}: units are predicted at the full frame "
                             "rate; choose it when the encoder is fine-tuned")
        self.encoder, self.cfg = encoder, cfg
        self.mask_frames = max(1, round(cfg.mask_seconds * SAMPLE_RATE / encoder.samples_per_frame))
        self.projection = nn.Linear(encoder.output_dim, cfg.code_dim)
        self.codes = nn.Parameter(torch.empty(cfg.clusters, cfg.code_dim).uniform_())

    def forward(self, waveforms: Tensor, lengths: Tensor, units: Sequence[Sequence[int]]) -> Predictions:
        """(B, N), (B,) on the CPU, and a unit for each frame of each utterance."""
        frame_lengths = self.encoder.layer_lengths(lengths)
        if [len(row) for row in units] != frame_lengths.tolist():
            raise ValueError(f"{[len(row) for row in units]} units for {frame_lengths.tolist()} frames")
        hidden, padded = self._hidden(frame_lengths), _pad(units)
        seen = valid_positions(frame_lengths, hidden.shape[1]) & ~hidden
        size = int(self.encoder.layer_lengths(torch.tensor(waveforms.shape[1])))  # of the encoder's output, padding too
        with _feature_squares(self.encoder, frame_lengths) as squares:
            frames, _ = self.encoder(
                waveforms, lengths, time_mask=F.pad(hidden, (0, max(size, 1) - hidden.shape[1]))
            )
        frames = frames[:, : hidden.shape[1]]

        logits, targets = self._logits(frames[hidden.to(frames.device)]), padded[hidden].to(frames.device)
        unmasked = frames.new_zeros(())
        if self.cfg.unmasked_weight > 0 and bool(seen.any()):
            unmasked = F.cross_entropy(self._logits(frames[seen.to(frames.device)]), padded[seen].to(frames.device))
        return Predictions(
            masked_loss=F.cross_entropy(logits, targets, reduction="sum"),
            unmasked_loss=unmasked,
            feature_square=squares[0] if squares else frames.new_zeros(()),
            predicted=logits.detach().argmax(dim=1),
            units=targets,
        )

    def _hidden(self, frame_lengths: Tensor) -> Tensor:
        """(B, longest utterance): what is drawn does not depend on further padding."""
        return span_mask(frame_lengths, max(int(frame_lengths.max()), 1), self.cfg.mask_prob, self.mask_frames)

    def _logits(self, frames: Tensor) -> Tensor:
        """(M, D) -> (M, clusters), in single precision: a cosine over 0.1 needs more digits than bfloat16 has."""
        with torch.autocast(frames.device.type, enabled=False):
            projected = F.normalize(self.projection(frames.float()), dim=1)
            return projected @ F.normalize(self.codes.float(), dim=1).T / self.cfg.temperature


def _pad(units: Sequence[Sequence[int]]) -> Tensor:
    padded = torch.zeros(len(units), max(1, *map(len, units)), dtype=torch.int64)
    for row, sequence in zip(padded, units):
        row[: len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
    return padded


@contextmanager
def _feature_squares(encoder: SpeechEncoder, frame_lengths: Tensor) -> Iterator[list[Tensor]]:
    """Gains the mean square of the convolutions' output, without padding, as it passes to the projection."""
    squares: list[Tensor] = []

    def listen(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        (features,) = arguments  # (B, T, C)
        valid = valid_positions(frame_lengths.to(features.device), features.shape[1]).unsqueeze(2)
        total = features.float().square().masked_fill(~valid, 0.0).sum()
        squares.append(total / (max(int(frame_lengths.sum()), 1) * features.shape[2]))

    learnt = any(True for _ in encoder.backbone.feature_extractor.parameters())
    hook = encoder.backbone.feature_projection.register_forward_pre_hook(listen) if learnt else None
    try:
        yield squares
    finally:
        if hook is not None:
            hook.remove()
