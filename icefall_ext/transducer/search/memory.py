"""What the searches remember: predictor outputs by context, token sequences by number, emissions by back-pointer.

A number means the same sequence wherever it appears, which makes merging hypotheses a comparison of integers, without
the false equalities of a hash.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from icefall_ext.transducer.predictor import Stepper


class Sequences:
    """Numbers for token sequences: the empty one is 0, and a sequence and a token always give the same number."""

    def __init__(self, vocab_size: int):
        self._vocab_size = vocab_size
        self._numbers: dict[int, int] = {}

    def extend(self, sequences: list[int], tokens: list[int]) -> list[int]:
        numbers, vocab_size = self._numbers, self._vocab_size
        return [numbers.setdefault(sequence * vocab_size + token, len(numbers) + 1)
                for sequence, token in zip(sequences, tokens)]


class Emissions:
    """Every token emitted by any hypothesis, with its frame and the emission before it; number 0 is the start."""

    def __init__(self) -> None:
        self._before, self._tokens, self._frames = [0], [0], [0]

    def add(self, before: list[int], tokens: list[int], frames: list[int]) -> range:
        count = len(self._before)
        self._before += before
        self._tokens += tokens
        self._frames += frames
        return range(count, len(self._before))

    def trace(self, emission: int) -> tuple[list[int], list[int]]:
        """The tokens and frames that led to an emission."""
        tokens, frames = [], []
        while emission:
            tokens.append(self._tokens[emission])
            frames.append(self._frames[emission])
            emission = self._before[emission]
        return tokens[::-1], frames[::-1]


class Outputs:
    """The outputs of a predictor or language model, one row per context that occurred, each computed once.

    Hypotheses hold row numbers. Contexts are the last `context_size` tokens, read as a number in base `vocab_size`;
    where the output depends on all tokens, a context is the row it grew from and its last token.
    """

    def __init__(self, stepper: Stepper, vocab_size: int, transform: Callable[[Tensor], Tensor] = lambda x: x):
        self._stepper, self._vocab_size, self._transform = stepper, vocab_size, transform
        self._limited = stepper.context_size is not None
        self._modulus = vocab_size ** (stepper.context_size - 1) if self._limited else 1 << 62
        values, self._states = stepper.start(1)
        self._values = transform(values)
        self._contexts = [0]  # of each row: its number, or without a limit the row itself
        self._row_of = {0: 0} if self._limited else {}

    def __len__(self) -> int:
        return len(self._contexts)

    @property
    def dim(self) -> int:
        return self._values.shape[1]

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """(..., dim)"""
        values = self._values.index_select(0, to_device(rows.ravel(), self._values.device))
        return values.view(*rows.shape, values.shape[1])

    def extend(self, rows: list[int], tokens: list[int]) -> list[int]:
        """The rows of the contexts in `rows`, each followed by its entry of `tokens`."""
        contexts, row_of, vocab_size, modulus = self._contexts, self._row_of, self._vocab_size, self._modulus
        known, before, last, reached = len(contexts), [], [], []
        for row, token in zip(rows, tokens):
            key = contexts[row] % modulus * vocab_size + token
            if key not in row_of:
                row_of[key] = len(contexts)
                contexts.append(key if self._limited else len(contexts))
                before.append(row)
                last.append(token)
            reached.append(row_of[key])
        if before:
            before, last = (to_device(np.array(part), self._values.device) for part in (before, last))
            values, states = self._stepper.step(last, tuple(part.index_select(0, before) for part in self._states))
            self._values = _write(self._values, known, self._transform(values))
            self._states = tuple(_write(part, known, new) for part, new in zip(self._states, states))
        return reached

    def forget_all_but(self, rows: np.ndarray) -> np.ndarray:
        """Drop the other rows; returns `rows` under their new numbers."""
        kept, renumbered = np.unique(rows, return_inverse=True)
        index = to_device(kept, self._values.device)
        for part in (self._values, *self._states):
            part[: len(kept)] = part[index]
        self._contexts = [self._contexts[row] for row in kept.tolist()] if self._limited else list(range(len(kept)))
        self._row_of = {context: row for row, context in enumerate(self._contexts)} if self._limited else {}
        return renumbered.reshape(rows.shape)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)


def _write(store: Tensor, start: int, new: Tensor) -> Tensor:
    """`new` as rows start.. of `store`, which grows by doubling."""
    if start + len(new) > len(store):
        larger = store.new_empty(2 * (start + len(new)), *store.shape[1:])
        larger[:start] = store[:start]
        store = larger
    store[start : start + len(new)] = new
    return store
