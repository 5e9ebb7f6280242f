"""What all searches share: scoring pairs of frame and context, and feeding streams of unequal length.

    search = ModifiedBeamSearch(predictor, joiner, beam=4)
    results = search(encoder_out, lengths)                   # a batch at once, or

    state = search.start(batch=2)                            # chunk by chunk, with the same results
    for chunk, chunk_lengths in stream:
        search.feed(state, chunk, chunk_lengths)             # a stream may have no frames in a chunk
        partial = search.result(state)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError, UserError
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.predictor import BLANK, Stepper
from icefall_ext.transducer.search.memory import Outputs
from icefall_ext.transducer.search.types import Result

H = TypeVar("H", bound="PerStream")
BLOCK = 64  # frames between two looks at the memory
MAX_ROWS = 4_000  # contexts remembered, about what a CPU's cache holds; beyond, only those that a hypothesis holds


@dataclass
class TransducerSearch(ABC):
    """A decoding method with its options; all methods are called alike."""

    predictor: Stepper
    joiner: Joiner
    blank_penalty: float = 0.0  # taken off the logit of blank: more tokens, fewer deletions
    temperature: float = 1.0  # divides the logits: above 1 flattens the distribution
    nbest: int = 1

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.nbest < 1:
            raise UsageError(f"temperature {self.temperature}, nbest {self.nbest}: both must be positive")

    @abstractmethod
    def start(self, batch: int) -> Any:
        """The state of `batch` streams before their first frame."""

    @abstractmethod
    def feed(self, state: Any, encoder_out: Tensor, lengths: Tensor) -> None:
        """Advance stream b by the first lengths[b] frames of encoder_out (B, T, encoder_dim)."""

    @abstractmethod
    def result(self, state: Any) -> list[Result]:
        """The readings if the streams ended here; they may go on."""

    def __call__(self, encoder_out: Tensor, lengths: Tensor) -> list[Result]:
        state = self.start(len(encoder_out))
        self.feed(state, encoder_out, lengths)
        return self.result(state)

    @cached_property
    def vocab_size(self) -> int:
        return self.joiner.output_linear.out_features

    @property
    def device(self) -> torch.device:
        return self.joiner.output_linear.weight.device

    def prepare(self, streams: int, encoder_out: Tensor, lengths: Tensor) -> tuple[Tensor, np.ndarray]:
        """Projected frames (B, T, joiner_dim) and lengths, checked: NaN would end as an empty or absurd text."""
        counts = torch.as_tensor(lengths, dtype=torch.int64).cpu().numpy()
        if len(encoder_out) != streams:
            raise UsageError(f"an encoder output of {len(encoder_out)} streams does not fit a state of {streams}; a "
                             "stream without frames in a chunk has length 0 there")
        if counts.shape != (streams,) or (counts < 0).any() or (counts > encoder_out.shape[1]).any():
            raise UsageError(f"lengths {counts.tolist()} do not fit an encoder output of "
                             f"{tuple(encoder_out.shape[:2])} (streams, frames)")
        am = self.joiner.encoder_proj(encoder_out)
        finite = am.sum(-1, dtype=torch.float32).isfinite().cpu().numpy() | (np.arange(am.shape[1]) >= counts[:, None])
        if not finite.all():
            stream, frame = np.argwhere(~finite)[0]
            raise UserError(f"the encoder output holds NaN or infinity, first in utterance {stream} of the batch at "
                            f"frame {frame}; look for it in the features and in the checkpoint")
        return am, counts

    def log_probs(self, am: Tensor, lm: Tensor) -> Tensor:
        """(..., V) float32 from projected frames and projected predictor outputs."""
        logits = self.joiner(am, lm, project_input=False).float()
        if self.blank_penalty:
            logits[..., BLANK] -= self.blank_penalty
        if self.temperature != 1.0:
            logits /= self.temperature
        return logits.log_softmax(-1)


@dataclass
class PerStream:
    """Arrays whose first dimension is the stream. What takes arithmetic on all tokens are tensors on the device; the
    book-keeping is numpy arrays on the host, where an operation costs a tenth of a kernel launch."""

    def map(self: H, function: Callable) -> H:
        return type(self)(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def first(self: H, count: int) -> H:
        return self.map(lambda array: array[:count])

    def replace_first(self: H, other: H) -> None:
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            mine[: len(theirs)] = theirs


@dataclass
class SearchState:
    """Where the streams are, and what the search remembers for all of them."""

    streams: Any  # PerStream, with a property `rows` (..., outputs)
    outputs: list[Outputs]  # of the predictor, then of whatever else follows the tokens

    def trim(self) -> None:
        """Forget contexts that no hypothesis holds, when there are many."""
        for i, outputs in enumerate(self.outputs):
            if len(outputs) > MAX_ROWS:
                self.streams.rows[..., i] = outputs.forget_all_but(self.streams.rows[..., i])


class FrameSynchronousSearch(TransducerSearch):
    """Searches in which all streams take each frame together; a subclass says what happens on one frame."""

    @abstractmethod
    def advance(self, streams: Any, am: Tensor, state: SearchState) -> Any:
        """`streams` after one more frame, am (streams, joiner_dim)."""

    @torch.inference_mode()
    def feed(self, state: SearchState, encoder_out: Tensor, lengths: Tensor) -> None:
        am, lengths = self.prepare(len(state.streams.score), encoder_out, lengths)
        order = np.argsort(-lengths, kind="stable")
        if (lengths[:-1] < lengths[1:]).any():
            am = am[order]
        state.streams = state.streams.map(lambda array: array[order])
        for count, start, stop in segments(lengths[order].tolist()):
            live = state.streams.first(count)
            for frame in range(start, stop):
                live = self.advance(live, am[:count, frame], state)
            state.streams.replace_first(live)
            state.trim()
        state.streams = state.streams.map(lambda array: array[np.argsort(order)])


def segments(lengths: list[int], block: int = BLOCK) -> Iterator[tuple[int, int, int]]:
    """(streams, first frame, end frame) of stretches over which the same streams are alive; longest stream first."""
    start = 0
    for streams in range(len(lengths), 0, -1):
        while start < lengths[streams - 1]:
            stop = min(start + block, lengths[streams - 1])
            yield streams, start, stop
            start = stop
