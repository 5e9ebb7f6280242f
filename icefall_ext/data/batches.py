"""Which utterances make which batch: a function of lengths, limits, seed and epoch alone.

Nothing is drawn while training runs, so there is no sampler state to save or to replay: batch n of epoch e is what it
always was, on any number of processes, however often the training was stopped.

An epoch takes every utterance exactly once. Utterances of similar length come together (lengths are shaken by a tenth
first, or every epoch would have the same batches), then the batches are shuffled. With `world_size` processes, process
r takes batches r, r + world_size, ...; their number is made divisible by halving the largest, never by leaving one out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icefall_ext.cli import option
from icefall_ext.errors import UsageError, UserError

_SHAKE = 0.1


@dataclass
class BatchLimits:
    """Padding counts: a batch is as large as its longest utterance, and its longest text, times their number."""

    max_duration: float = option(200.0, "seconds of audio in a batch, padding included")
    max_tokens: int = option(4000, "tokens in a batch, padding included")
    max_utterances: int = option(0, "utterances in a batch; 0: no limit")

    def check(self) -> None:
        if self.max_duration <= 0 or self.max_tokens < 1 or self.max_utterances < 0:
            raise UsageError(f"max_duration {self.max_duration}, max_tokens {self.max_tokens}, max_utterances "
                             f"{self.max_utterances}: the first two above 0, the last not below")

    def allow(self, count: int, longest: float, most_tokens: int) -> bool:
        return (
            count * longest <= self.max_duration
            and count * most_tokens <= self.max_tokens
            and (not self.max_utterances or count <= self.max_utterances)
        )


def epoch_batches(
    durations: np.ndarray, token_counts: np.ndarray, limits: BatchLimits, seed: int, epoch: int, world_size: int = 1
) -> list[np.ndarray]:
    """The batches of one epoch, in order, for all processes; an utterance beyond the limits is a batch of its own."""
    random = np.random.default_rng((seed, epoch))
    shaken = durations * random.uniform(1 - _SHAKE, 1 + _SHAKE, len(durations))
    batches = fill(np.argsort(shaken, kind="stable"), durations, token_counts, limits)
    _make_divisible(batches, world_size)
    return [batches[i] for i in random.permutation(len(batches))]


def in_order(durations: np.ndarray, token_counts: np.ndarray, limits: BatchLimits) -> list[np.ndarray]:
    """Batches for validation and decoding, the longest first, the same every time."""
    return fill(np.argsort(-durations, kind="stable"), durations, token_counts, limits)


def fill(order: np.ndarray, durations: np.ndarray, token_counts: np.ndarray, limits: BatchLimits) -> list[np.ndarray]:
    """Batches of neighbours in `order`, each as large as the limits allow."""
    batches, start = [], 0
    longest, most_tokens = 0.0, 0
    for position, (seconds, tokens) in enumerate(zip(durations[order].tolist(), token_counts[order].tolist())):
        with_this = max(longest, seconds), max(most_tokens, tokens)
        if position > start and not limits.allow(position - start + 1, *with_this):
            batches.append(order[start:position])
            start, with_this = position, (seconds, tokens)
        longest, most_tokens = with_this
    if len(order):
        batches.append(order[start:])
    return batches


def worst_batches(durations: np.ndarray, token_counts: np.ndarray, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Those that need the most memory: by padded audio, by padded tokens, by their product, and with the longest
    utterance; to be tried before training starts."""
    def largest(size) -> int:
        return max(range(len(batches)), key=lambda n: size(len(batches[n]), durations[batches[n]].max(),
                                                           token_counts[batches[n]].max()))

    chosen = [
        largest(lambda count, seconds, tokens: count * seconds),
        largest(lambda count, seconds, tokens: count * tokens),
        largest(lambda count, seconds, tokens: count * seconds * tokens),
        largest(lambda count, seconds, tokens: seconds),
    ]
    return [batches[n] for n in dict.fromkeys(chosen)]


def padding_share(durations: np.ndarray, batches: list[np.ndarray]) -> float:
    """Of the audio that a model is given, how much is padding."""
    padded = sum(len(batch) * float(durations[batch].max()) for batch in batches)
    return 1.0 - float(durations.sum()) / padded if padded else 0.0


def _make_divisible(batches: list[np.ndarray], parts: int) -> None:
    """Halve the largest until their number divides; in place."""
    while len(batches) % parts:
        number = max(range(len(batches)), key=lambda n: len(batches[n]))
        batch = batches[number]
        if len(batch) < 2:
            raise UserError(f"{sum(map(len, batches))} utterances are too few for {parts} processes; use fewer")
        batches[number : number + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
