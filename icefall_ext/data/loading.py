"""Batches of waveforms and tokens, loaded by worker processes while the model trains.

What a batch holds depends on its number alone, not on the worker that loads it or on the batches before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from icefall_ext.data.index import CutIndex
from icefall_ext.errors import UserError

SAMPLE_RATE = 16000


@dataclass
class SpeechBatch:
    """Some utterances. `waveforms` (B, N) padded with zeros, `lengths` (B,) samples; `tokens` may be empty lists."""

    waveforms: Tensor
    lengths: Tensor
    tokens: list[list[int]]
    ids: list[str]
    failed: list[tuple[str, str]] = field(default_factory=list)  # (id, reason) of utterances that could not be loaded

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / SAMPLE_RATE

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.tokens))

    def to(self, device: torch.device) -> SpeechBatch:
        """Lengths stay on the CPU, where the encoder can look at them without waiting for the device."""
        return replace(self, waveforms=self.waveforms.to(device, non_blocking=True))

    def pin_memory(self) -> SpeechBatch:
        return replace(self, waveforms=self.waveforms.pin_memory())


class BatchLoader(Dataset):
    """Batch n of a list of batches: picklable, light, and read from disk only when asked."""

    def __init__(self, index: CutIndex, batches: Sequence[np.ndarray]):
        self._folder, self._batches, self._index = index.folder, list(batches), None

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, n: int) -> SpeechBatch:
        if self._index is None:  # opened here, so that each worker has its own
            self._index = CutIndex.open(self._folder)
        waveforms, tokens, ids, failed = [], [], [], []
        for number, cut in zip(self._batches[n], self._index.cuts(self._batches[n])):
            try:
                waveforms.append(load_audio(cut))
            except UserError as error:
                failed.append((cut.id, str(error)))
                continue
            tokens.append(self._index.tokens(number))
            ids.append(cut.id)
        return collate(waveforms, tokens, ids, failed)


def load_audio(cut) -> np.ndarray:
    """(N,) float32 at 16 kHz, one channel."""
    try:
        audio = cut.load_audio()
    except Exception as error:  # lhotse asks several libraries, each with errors of its own
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        raise UserError(f"{cut.id}: its audio cannot be read ({reason}); mend it, or run stage 1 again") from None
    if cut.sampling_rate != SAMPLE_RATE:
        raise UserError(f"{cut.id}: {cut.sampling_rate} Hz, not {SAMPLE_RATE}; run stage 4 again")
    if not np.isfinite(audio).all():
        raise UserError(f"{cut.id}: its audio holds NaN or infinity; mend or remove it and run stage 1 again")
    return audio.mean(axis=0, dtype=np.float32) if len(audio) > 1 else audio[0].astype(np.float32, copy=False)


def collate(
    waveforms: Sequence[np.ndarray], tokens: list[list[int]], ids: list[str], failed: Sequence[tuple[str, str]] = ()
) -> SpeechBatch:
    lengths = torch.tensor([len(waveform) for waveform in waveforms], dtype=torch.int64)
    padded = torch.zeros(len(waveforms), max(lengths.tolist(), default=0))
    for row, waveform in zip(padded, waveforms):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return SpeechBatch(padded, lengths, tokens, ids, list(failed))


def load_batches(
    index: CutIndex, batches: Sequence[np.ndarray], workers: int = 0, pin_memory: bool = False
) -> Iterable[SpeechBatch]:
    """The batches in order; `workers` processes load ahead, none means that loading waits for training and back."""
    loader = BatchLoader(index, batches)
    if not workers or not batches:
        return (loader[n] for n in range(len(loader)))
    return DataLoader(
        loader,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4,
        worker_init_fn=_one_thread,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
