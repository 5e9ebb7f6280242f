"""How much of a batch is computed at once: all of it, until memory runs out.

The loss of a batch is a sum over its utterances and padding changes nothing, so the gradients of its parts, one after
another, are those of the whole. (Not so of losses between words: train_tone takes batches whole. Those of syllables,
beside a transducer, find their partners in the part and in what was heard before.) Which utterances make which batch,
and which batches make a step, stays as it was planned: nothing is lost, nothing comes twice, and other processes need
not wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from icefall_ext.data.loading import SAMPLE_RATE, SpeechBatch

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "Unable to allocate", "ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """The allocator of a GPU has an error of its own, that of a CPU and the libraries on a GPU only their texts."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


class Portions:
    """`most`, in seconds with padding, is learnt when memory runs out, and is part of a checkpoint."""

    def __init__(self, smaller: str, device: torch.device):
        """`smaller` says what makes batches smaller."""
        self._smaller, self._device = smaller, device
        self.most = math.inf
        self.shrunk = False  # since someone looked
        self._tried: SpeechBatch | None = None

    def of(self, batch: SpeechBatch) -> Iterator[SpeechBatch]:
        if seconds(batch) > self.most and len(batch) > 1:
            middle = len(batch) // 2
            yield from self.of(batch.part(0, middle))
            yield from self.of(batch.part(middle, len(batch)))
        else:
            self._tried = batch
            yield batch

    def shrink(self) -> bool:
        """Memory ran out at what was given last: half of that from now on, if there is a half."""
        if self._tried is None or len(self._tried) < 2:
            return False
        self.most, self.shrunk = seconds(self._tried) / 2, True
        return True

    def tidy(self) -> None:
        """Outside of the `except`, whose error holds on to what was computed: free memory in one piece again."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def why(self) -> str:
        """What did not fit, and what would have prevented it."""
        if self._tried is None:
            return f"{self._device}: out of memory before the first batch; take a smaller model, or another device"
        if len(self._tried) < 2:
            return (f"{self._device}: out of memory at one utterance ({self._tried.ids[0]}, {shape(self._tried)}); "
                    "lower --max-seconds, or set --encoder.gradient-checkpointing")
        return (f"{self._device}: out of memory at a batch of {shape(self._tried)}; set "
                f"--encoder.gradient-checkpointing, {self._smaller}")


def seconds(batch: SpeechBatch) -> float:
    """With padding."""
    return batch.waveforms.numel() / SAMPLE_RATE


def shape(batch: SpeechBatch) -> str:
    """For people."""
    longest = batch.waveforms.shape[1] / SAMPLE_RATE
    return f"{len(batch)} x {longest:.1f} s, {max(map(len, batch.tokens), default=0)} tokens"
