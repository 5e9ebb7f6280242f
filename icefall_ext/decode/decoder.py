"""Batches of audio to readings, by one or several searches over one run of the encoder; and how long each took."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence

import torch

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.errors import UserError
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.search import Result, TransducerSearch


class Decoder:
    def __init__(self, model: TransducerModel, searches: Sequence[TransducerSearch], device: torch.device):
        self.model, self.searches, self.device = model, searches, device
        self.encoder_seconds, self.search_seconds = 0.0, [0.0] * len(searches)

    @torch.inference_mode()
    def __call__(self, batch: SpeechBatch) -> list[list[Result]]:
        """For each search the readings of the batch."""
        try:
            return self._decode(batch)
        except torch.cuda.OutOfMemoryError:
            much = f"{batch.seconds:.0f} s of audio"
            raise UserError(f"out of memory with {much} in a batch; lower --max-duration") from None

    def _decode(self, batch: SpeechBatch) -> list[list[Result]]:
        start = self._now()
        frames, lengths = self.model.encode(batch.waveforms.to(self.device), batch.lengths)
        self.encoder_seconds += self._now() - start
        self._stop_at_nan(frames, lengths, batch.ids)
        readings = []
        for number, search in enumerate(self.searches):
            start = self._now()
            readings.append(search(frames, lengths))
            self.search_seconds[number] += self._now() - start
        return readings

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @staticmethod
    def _stop_at_nan(frames: torch.Tensor, lengths: torch.Tensor, ids: Sequence[str]) -> None:
        """Padding is 0. The audio was finite, so it is the model that is not."""
        finite = frames.sum((1, 2), dtype=torch.float32).isfinite().tolist()
        if not all(finite):
            raise UserError(f"{ids[finite.index(False)]}: the encoder gives NaN or infinity for it; the checkpoint is "
                            "damaged or its training diverged: take an earlier one")

    def peak_memory_mb(self) -> float:
        """On a GPU of its tensors, else of the whole process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
