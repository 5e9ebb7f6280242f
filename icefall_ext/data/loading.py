"""Batches of waveforms and tokens, loaded by worker processes while the model trains.

What a batch holds depends on its number alone, not on the worker that loads it or on the batches before it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from icefall_ext.data.index import CutIndex
from icefall_ext.errors import UserError

SAMPLE_RATE = 16000
PATIENCE_S = 600  # for one batch; a file server may be slow
_IDLE, _UNBORN = -1, -2


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

    def part(self, start: int, end: int) -> SpeechBatch:
        """Some of its utterances, padded as far as they need."""
        lengths = self.lengths[start:end]
        return SpeechBatch(self.waveforms[start:end, : int(lengths.max())], lengths, self.tokens[start:end],
                           self.ids[start:end])

    def pin_memory(self) -> SpeechBatch:
        return replace(self, waveforms=self.waveforms.pin_memory())


class BatchLoader(Dataset):
    """Batch n of a list of batches: picklable, light, and read from disk only when asked."""

    def __init__(self, index: CutIndex, batches: Sequence[np.ndarray], workers: int = 0):
        self._folder, self._batches, self._index = index.folder, list(batches), None
        self.at_work = torch.full((max(workers, 1),), _UNBORN)  # the utterance that each worker reads
        if workers:
            self.at_work.share_memory_()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, n: int) -> SpeechBatch:
        if self._index is None:  # opened here, so that each worker has its own
            self._index = CutIndex.open(self._folder)
        info = get_worker_info()
        slot = info.id if info else 0
        waveforms, tokens, ids, failed = [], [], [], []
        for number, cut in zip(self._batches[n], self._index.cuts(self._batches[n])):
            self.at_work[slot] = int(number)
            try:
                waveforms.append(load_audio(cut))
            except UserError as error:
                failed.append((cut.id, str(error)))
                continue
            tokens.append(self._index.tokens(number))
            ids.append(cut.id)
        self.at_work[slot] = _IDLE
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


class BatchStream:
    """Batches in their order, once: `for batch in stream`.

    That a loading process has died is said with the utterance that it was reading. It may be noticed anywhere, so a
    loop that does more than take batches stands in a `with stream`, which also ends those processes when it is left.
    """

    def __init__(self, index: CutIndex, batches: Sequence[np.ndarray], workers: int, pin_memory: bool):
        self._cuts, self._workers, self._pin_memory = index, workers if batches else 0, pin_memory
        self._loader = BatchLoader(index, batches, workers)
        self._running: Any = None
        self._hang = False

    def __iter__(self) -> Iterator[SpeechBatch]:
        if not self._workers:
            yield from (self._loader[n] for n in range(len(self._loader)))
            return
        try:
            with _signals_held():
                self._running = iter(DataLoader(
                    self._loader, batch_size=None, shuffle=False, num_workers=self._workers, prefetch_factor=4,
                    pin_memory=self._pin_memory, worker_init_fn=_begin_worker,
                ))
        except RuntimeError as error:  # one has died before the last was made
            raise UserError(_none_begun(f"died ({str(error).splitlines()[0]})")) from None
        try:
            yield from self._watched()
        except RuntimeError as error:
            self.__exit__(None, error, None)
            raise

    def _watched(self) -> Iterator[SpeechBatch]:
        """Not by DataLoader's own `timeout`: with that it does not look whether the processes live, and one that dies
        before it is known there is waited for to the end."""
        while True:
            watch = threading.Timer(PATIENCE_S, self._end_those_at_work)
            watch.daemon = True
            watch.start()
            try:
                batch = next(self._running, None)
            finally:
                watch.cancel()
            if batch is None:
                return
            yield batch

    def _end_those_at_work(self) -> None:
        self._hang = True
        for process, number in zip(self._running._workers, self._loader.at_work.tolist()):
            if number != _IDLE:
                process.kill()

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        processes = running._workers
        lost = self._what_was_lost(processes) if isinstance(error, RuntimeError) else ""
        running._shutdown_workers()  # not left to the garbage collector: an exception keeps everything alive
        for process in processes:
            if process.is_alive():  # what hangs in a library does not listen
                process.kill()
        if lost:
            raise UserError(lost) from None

    def _what_was_lost(self, processes: Sequence[Any]) -> str:
        for process, number in zip(processes, self._loader.at_work.tolist()):
            if number == _IDLE or (not self._hang and not process.exitcode):
                continue
            fate = "" if self._hang else f"died ({_ended_by(process.exitcode)})"
            if number == _UNBORN:  # a fork beside threads may wait for a lock that nobody holds any more
                return _none_begun(fate or f"does not begin within {PATIENCE_S} s")
            (cut,) = self._cuts.cuts([number])
            what = fate or f"does not end within {PATIENCE_S} s"
            return (f"{cut.id}: the process that loads its audio {what}; mend or remove it and run stage 1 again, or "
                    "lower --workers if the machine ran out of memory")
        return ""


def _none_begun(fate: str) -> str:
    return f"a process that loads audio {fate}; run the same command again"


def load_batches(
    index: CutIndex, batches: Sequence[np.ndarray], workers: int = 0, pin_memory: bool = False
) -> BatchStream:
    """The batches in order; `workers` processes load ahead, none means that loading waits for training and back."""
    return BatchStream(index, batches, workers, pin_memory)


def _ended_by(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


# A cluster sends its signals to every process of a job, a terminal to all in the foreground. What they mean is for the
# training to say; its loading processes go on until it ends them.
_MEANT_FOR_THE_TRAINING = {signal.SIGINT, signal.SIGUSR1, signal.SIGTERM}


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process that is made inside is born without hearing them: no moment is left in which they would end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _MEANT_FOR_THE_TRAINING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(slot: int) -> None:
    get_worker_info().dataset.at_work[slot] = _IDLE
    torch.set_num_threads(1)
    threading.Thread(target=_end_when_the_training_says_so, args=(os.getppid(),), daemon=True).start()


def _end_when_the_training_says_so(training: int) -> None:
    """SIGTERM from the parent is its way to end a worker that does not come to its end."""
    while signal.sigwaitinfo(_MEANT_FOR_THE_TRAINING).si_pid != training:
        pass
    os._exit(0)
