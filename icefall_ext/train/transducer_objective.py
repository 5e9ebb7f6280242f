"""The loss that a transducer is trained with, as a sum over a batch.

    loss = s simple + p pruned + c ctc        s falls from 1 to its scale, p rises from 0.1 to 1, over `warm_batches`

At first the joiner knows nothing, and the ranges it is pruned to come from the simple loss, which has to learn first.
"""

from __future__ import annotations

import torch

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.train.config import LossConfig
from icefall_ext.train.objective import Loss
from icefall_ext.train.syllable_losses import SyllableLosses
from icefall_ext.transducer.model import TransducerLosses, TransducerModel


class TransducerObjective:
    unit = "token"

    def __init__(self, model: TransducerModel, cfg: LossConfig):
        cfg.check()
        self.model, self.cfg = model, cfg

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        return self.of_losses(self.model(batch.waveforms, batch.lengths, batch.tokens), batch, batch_number)

    def of_losses(self, losses: TransducerLosses, batch: SpeechBatch, batch_number: int) -> Loss:
        parts = {"simple_loss": losses.simple, "pruned_loss": losses.pruned}
        if losses.ctc is not None:
            parts["ctc_loss"] = losses.ctc
        # An utterance with more tokens than frames has no path: infinite, which must not spoil the others. NaN may.
        has_path = torch.stack([~torch.isinf(part) for part in parts.values()]).all(0)
        sums = {name: torch.where(has_path, part, torch.zeros_like(part)).sum() for name, part in parts.items()}
        scales = self.scales(batch_number)
        flags = has_path.tolist()
        return Loss(
            total=sum(scales[name] * value for name, value in sums.items()),
            terms={name: value.detach() for name, value in sums.items()},
            units=sum(len(tokens) for tokens, kept in zip(batch.tokens, flags) if kept),
            left_out=[id for id, kept in zip(batch.ids, flags) if not kept],
        )

    def scales(self, batch_number: int) -> dict[str, float]:
        warm = min(batch_number / self.cfg.warm_batches, 1.0) if self.cfg.warm_batches else 1.0
        return {
            "simple_loss": 1.0 + warm * (self.cfg.simple_scale - 1.0),
            "pruned_loss": 0.1 + 0.9 * warm,
            "ctc_loss": self.cfg.ctc_scale,
        }


class WithSyllables(TransducerObjective):
    """The same, and SITA's losses on the encoder's output. Alignments are those of the training cuts, so validation is
    without, and its losses compare with those of a training that is without altogether."""

    def __init__(self, model: TransducerModel, cfg: LossConfig, syllables: SyllableLosses):
        super().__init__(model, cfg)
        self.syllables = syllables
        self.check_epoch, self.state_dict = syllables.check_epoch, syllables.state_dict
        self.load_state_dict = syllables.load_state_dict

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        if not self.model.training:
            return super().__call__(batch, batch_number)
        frames, lengths = self.model.encode(batch.waveforms, batch.lengths)
        loss = self.of_losses(self.model.losses(frames, lengths, batch.tokens), batch, batch_number)
        of_syllables, loss.ratios = self.syllables(frames, lengths, batch.ids, batch_number)
        loss.total = loss.total + of_syllables
        return loss
