"""The loss that a transducer is trained with, as a sum over a batch.

    loss = s simple + p pruned + c ctc        s falls from 1 to its scale, p rises from 0.1 to 1, over `warm_batches`

At first the joiner knows nothing, and the ranges it is pruned to come from the simple loss, which has to learn first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.train.config import LossConfig
from icefall_ext.train.objective import Loss
from icefall_ext.transducer.model import TransducerLosses


class TransducerObjective:
    unit = "token"

    def __init__(self, model: Callable[..., TransducerLosses], cfg: LossConfig):
        cfg.check()
        self.model, self.cfg = model, cfg

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        losses = self.model(batch.waveforms, batch.lengths, batch.tokens)
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
