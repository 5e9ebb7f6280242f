"""Random decisions that are the same on every Python and numpy: seeded by name, one independent stream per name.

Decisions draw on `random.Random.random`, whose stream Python promises to keep, and noise on the raw words of PCG64,
whose stream numpy promises to keep; numpy's distributions and Python's `choice` and `shuffle` carry no such
promise.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_UNIT_VARIANCE = math.sqrt(3) / 32768  # of int16 noise, which is uniform


def seed_of(*names: object) -> int:
    return int.from_bytes(hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest(), "big")


class Dice:
    def __init__(self, *names: object):
        self._names = names
        self._random = random.Random(seed_of(*names)).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def bell(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Nearly Gaussian and never further than 3.5 deviations out: a voice is unusual, not impossible."""
        total = self._random() + self._random() + self._random() + self._random()
        return mean + deviation * math.sqrt(3) * (total - 2)

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def happens(self, probability: float) -> bool:
        return self._random() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in items]


def white_noise(seed: int, samples: int) -> np.ndarray:
    """Uniform noise of unit variance."""
    words = np.random.PCG64(seed).random_raw(-(-samples // 4))
    return words.view(np.int16)[:samples] * _UNIT_VARIANCE
