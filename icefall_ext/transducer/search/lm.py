"""Language models for shallow fusion: n-grams from an ARPA file, and any neural network given as a function.

A search adds `scale * log p(token | tokens before)` to every emission. Several models can be added at once; with a
negative scale on a bigram of the training text that is LODR (https://arxiv.org/abs/2203.16776).

Both give the log-probabilities of all tokens at once (N, V) and follow the protocol `Stepper`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UserError
from icefall_ext.files import read_lines
from icefall_ext.transducer.predictor import State

ROWS_KEPT = 4096
UNSEEN = -99.0  # what ARPA files write for log10(0)
Context = tuple[int, ...]


class NgramLm:
    """A back-off n-gram model over tokens.

    p(v | context) is the n-gram's own probability where the model has one, else backoff(context) * p(v | context
    without its first token). So the scores of all tokens are the row of the shorter context, plus the back-off weight,
    with the n-grams of this context written over it; each row is made when it is first asked for.
    """

    def __init__(self, log_probs: dict[Context, dict[int, float]], backoffs: dict[Context, float], start: Context,
                 vocab_size: int, unseen: float, device: torch.device | str = "cpu"):
        """Natural logarithms: per context those of its tokens, and its back-off weight."""
        self._log_probs, self._backoffs, self._start = log_probs, backoffs, start
        self._vocab_size, self._unseen, self._device = vocab_size, unseen, device
        self._contexts: list[Context] = [()]
        self._numbers: dict[Context, int] = {(): 0}
        self._row = lru_cache(maxsize=ROWS_KEPT)(self._make_row)
        self.context_size = max(1, *(len(context) for context in log_probs))

    @classmethod
    def from_arpa(cls, path: str | Path, tokens: Sequence[str], device: torch.device | str = "cpu") -> NgramLm:
        """`tokens` are the model's tokens by number, as in tokens.txt; n-grams with others are left out."""
        numbers = {token: number for number, token in enumerate(tokens)}
        numbers["<s>"] = -1
        log_probs: dict[Context, dict[int, float]] = {(): {}}
        backoffs: dict[Context, float] = {}
        unseen = UNSEEN
        for log_prob, ngram, backoff in _arpa_entries(path):
            if ngram == ["<unk>"]:
                unseen = log_prob
            if any(token not in numbers for token in ngram):
                continue
            ids = tuple(numbers[token] for token in ngram)
            log_probs.setdefault(ids[:-1], {})[ids[-1]] = log_prob * math.log(10)
            if backoff is not None:
                backoffs[ids] = backoff * math.log(10)
        if not any(token >= 0 for token in log_probs[()]):
            raise UserError(f"{path}: none of its unigrams is a token of this model; it must be an n-gram model over "
                            "the tokens of tokens.txt, not over words")
        return cls(log_probs, backoffs, (-1,), len(tokens), unseen * math.log(10), device)

    def start(self, batch: int) -> tuple[Tensor, State]:
        return self._look_up([self._longest_known(self._start)] * batch)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        contexts = [self._contexts[number] for number in state[0].tolist()]
        longer = [(*context, token) for context, token in zip(contexts, tokens.tolist())]
        return self._look_up([self._longest_known(context) for context in longer])

    def _longest_known(self, context: Context) -> Context:
        while context and context not in self._log_probs and context not in self._backoffs:
            context = context[1:]
        return context

    def _look_up(self, contexts: list[Context]) -> tuple[Tensor, State]:
        for context in contexts:
            if context not in self._numbers:
                self._numbers[context] = len(self._contexts)
                self._contexts.append(context)
        numbers = torch.tensor([self._numbers[context] for context in contexts], device=self._device)
        return torch.from_numpy(np.stack([self._row(context) for context in contexts])).to(self._device), (numbers,)

    def _make_row(self, context: Context) -> np.ndarray:
        if not context:
            row = np.full(self._vocab_size, self._unseen, dtype=np.float32)
        else:
            row = self._row(context[1:]) + np.float32(self._backoffs.get(context, 0.0))
        for token, log_prob in self._log_probs.get(context, {}).items():
            if token >= 0:
                row[token] = log_prob
        return row


class NeuralLm:
    """A network as a function: (tokens (N,), state) -> (logits (N, V), state). The state is a tuple of tensors
    (N, ...), and None before the first token."""

    context_size = None

    def __init__(self, function: Callable[[Tensor, Any], tuple[Tensor, State]], start_token: int,
                 device: torch.device | str = "cpu"):
        self._function, self._start_token, self._device = function, start_token, device

    def start(self, batch: int) -> tuple[Tensor, State]:
        return self.step(torch.full((batch,), self._start_token, device=self._device), None)

    def step(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        logits, state = self._function(tokens, state)
        return logits.float().log_softmax(-1), state


def _arpa_entries(path: str | Path) -> Iterator[tuple[float, list[str], float | None]]:
    """(log10 p, n-gram, log10 back-off weight or None)"""
    order = 0
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith("\\"):
            section = line.strip().strip("\\:")
            order = int(section[:-6]) if section.endswith("-grams") and section[:-6].isdigit() else 0
            if section == "end":
                return
        elif order and line.strip():
            try:
                log_prob, *fields = line.split()
                ngram, weights = fields[:order], [float(weight) for weight in fields[order:]]
                if len(ngram) < order or len(weights) > 1:
                    raise ValueError
                entry = float(log_prob), ngram, weights[0] if weights else None
            except ValueError:
                raise UserError(f"{path}: line {number} is not a {order}-gram of an ARPA file: {line!r}") from None
            yield entry
    raise UserError(f"{path}: no \\end\\ line; this is not an ARPA file, or it was cut short")
