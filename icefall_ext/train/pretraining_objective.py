"""The loss of masked prediction, how often it is right, and a watch over units that are no longer predicted."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.encoders.pretraining.masked_prediction import MaskedPrediction
from icefall_ext.train.objective import Loss
from icefall_ext.train.run_folder import says

_WATCH_EVERY = 200  # batches
_FEW = 0.1  # of the perplexity of the units themselves


class PretrainingObjective:
    unit = "masked frame"

    def __init__(self, model: MaskedPrediction):
        self.model = model
        self._predicted = torch.zeros(model.cfg.clusters, dtype=torch.int64)
        self._units = torch.zeros_like(self._predicted)
        self._batches = 0

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        cfg = self.model.cfg
        if not self.model.training:  # the same masks in every validation, wherever a batch is validated
            torch.manual_seed(zlib.crc32("\n".join(batch.ids).encode()))
        losses = self.model(batch.waveforms, batch.lengths, batch.tokens)
        masked = len(losses.units)
        terms = {
            "masked_loss": losses.masked_loss,
            "accuracy": (losses.predicted == losses.units).sum(),
            "perplexity": masked * perplexity(torch.bincount(losses.predicted, minlength=cfg.clusters)),
        }
        if cfg.unmasked_weight > 0:
            terms["unmasked_loss"] = masked * losses.unmasked_loss
        if float(losses.feature_square.detach()) > 0:
            terms["feature_square"] = masked * losses.feature_square
        if self.model.training:
            self._watch(losses.predicted, losses.units)
        extra = cfg.unmasked_weight * losses.unmasked_loss + cfg.feature_penalty * losses.feature_square
        return Loss(
            total=losses.masked_loss + masked * extra,
            terms={name: value.detach() for name, value in terms.items()},
            units=masked,
        )

    def _watch(self, predicted: Tensor, units: Tensor) -> None:
        self._predicted += torch.bincount(predicted, minlength=len(self._predicted)).cpu()
        self._units += torch.bincount(units, minlength=len(self._units)).cpu()
        self._batches += 1
        if self._batches < _WATCH_EVERY:
            return
        used, wanted = float(perplexity(self._predicted)), float(perplexity(self._units))
        if used < _FEW * wanted:
            says(f"warning: over {_WATCH_EVERY} batches the predictions had a perplexity of {used:.1f}, the units "
                 f"{wanted:.1f}: few units are ever named (normal at the start)")
        self._predicted.zero_()
        self._units.zero_()
        self._batches = 0


def perplexity(counts: Tensor) -> Tensor:
    """How many units there would be if all that occur were equally frequent."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return torch.exp(-(shares * shares.clamp(min=1e-300).log()).sum())
