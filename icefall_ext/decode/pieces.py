"""Long audio in pieces that a model can take, cut in its pauses. Nothing is left out.

How long they are matters more than where they are cut: a model deletes in audio that is longer than what it learnt from
(docs/decoding.md has figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from icefall_ext.encoders.spec import SAMPLE_RATE

UNKNOWN = 15.0  # seconds, where nobody knows what the model learnt from
_STEP = SAMPLE_RATE // 100
_BELOW_SPEECH = 25.0  # dB that a pause lies under loud speech
_PAUSE = 25  # steps that it lasts at least: shorter silences are the closures of plosives
_PAUSES_FROM, _QUIETEST_FROM = 0.25, 0.4  # of the longest piece: shorter ones lack context


def usual_length(exp_dir: Path) -> float:
    """Seconds that 19 of 20 of the utterances that a model was trained on do not exceed."""
    durations = exp_dir / "data" / "train" / "durations.npy"
    return float(np.quantile(np.load(durations), 0.95)) if durations.is_file() else UNKNOWN


def in_pieces(blocks: Iterable[np.ndarray], longest: float) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples), one after another, each of at most `longest` seconds; audio no longer stays whole."""
    limit = int(longest * SAMPLE_RATE)
    waiting: list[np.ndarray] = []
    count = start = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        while count > limit:
            whole = np.concatenate(waiting)
            cut = best_cut(whole[:limit])
            yield start, whole[:cut]
            waiting, count, start = [whole[cut:]], count - cut, start + cut
    if count:
        yield start, np.concatenate(waiting)


def best_cut(samples: np.ndarray) -> int:
    """The middle of the longest pause; without a pause, of the quietest quarter of a second."""
    steps = len(samples) // _STEP
    energy = np.square(samples[: steps * _STEP].reshape(steps, _STEP), dtype=np.float64).mean(axis=1)
    level = np.convolve(10 * np.log10(energy + 1e-10), np.full(5, 0.2), mode="same")
    starts, ends = _runs(level < np.quantile(level, 0.9) - _BELOW_SPEECH)
    middles = (starts + ends) // 2
    fitting = (ends - starts >= _PAUSE) & (middles >= _PAUSES_FROM * steps) & (middles < steps)
    if fitting.any():
        return int(middles[fitting][(ends - starts)[fitting].argmax()]) * _STEP
    sums = np.concatenate(([0.0], energy.cumsum()))
    around = sums[_PAUSE:] - sums[:-_PAUSE]
    first = int(_QUIETEST_FROM * len(around))
    return (first + int(around[first:].argmin()) + _PAUSE // 2) * _STEP


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where stretches of true values begin, and end."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return edges[::2], edges[1::2]
