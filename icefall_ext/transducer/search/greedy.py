"""Greedy search: the most probable token or blank, frame by frame.

While a stream meets blanks, its predictor output stays as it is, so several of its frames are scored at once, up to its
next token; each stream goes at its own pace through its frames. With one token per frame the frame ends with the token
(the topology of the beam searches); with more, a frame ends with its blank, or with its last token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.predictor import BLANK
from icefall_ext.transducer.search.base import PerStream, SearchState, TransducerSearch
from icefall_ext.transducer.search.memory import Emissions, Outputs, to_device
from icefall_ext.transducer.search.types import Hypothesis, Result

# Pairs of frame and context scored at once, and frames of one stream among them. What lies behind a token is scored for
# nothing, but every round costs a fixed time: at these sizes the two are even.
LOOK_AHEAD_CPU, LOOK_AHEAD_GPU = (64, 8), (1024, 32)


@dataclass
class GreedyStreams(PerStream):
    """All (streams,)."""

    score: np.ndarray
    row: np.ndarray
    emission: np.ndarray
    frame: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        return self.row[:, None]


@dataclass
class GreedyState(SearchState):
    emissions: Emissions


@dataclass
class GreedySearch(TransducerSearch):
    max_symbols: int = 1  # tokens per frame

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_symbols < 1 or self.nbest > 1:
            raise UsageError(f"greedy search: max_symbols {self.max_symbols} must be positive, and nbest "
                             f"{self.nbest} can only be 1; take modified_beam_search for more")

    @torch.inference_mode()
    def start(self, batch: int) -> GreedyState:
        outputs = Outputs(self.predictor, self.vocab_size, self.joiner.decoder_proj)
        zeros = np.zeros(batch, dtype=np.int64)
        return GreedyState(GreedyStreams(np.zeros(batch), zeros, zeros, zeros), [outputs], Emissions())

    @torch.inference_mode()
    def feed(self, state: GreedyState, encoder_out: Tensor, lengths: Tensor) -> None:
        frames, lengths = self.prepare(len(state.streams.score), encoder_out, lengths)
        streams = state.streams.map(np.copy)
        position, symbols = np.zeros_like(lengths), np.zeros_like(lengths)
        pairs_at_once, furthest = LOOK_AHEAD_CPU if self.device.type == "cpu" else LOOK_AHEAD_GPU
        while len(alive := np.flatnonzero(position < lengths)):
            ahead = min(max(pairs_at_once // len(alive), 1), furthest)
            wanted = position[alive, None] + np.arange(ahead)
            best, token = self._best(frames, alive, wanted, state.outputs[0][streams.row[alive]])
            stops = np.ones((len(alive), ahead + 1), dtype=bool)
            stops[:, :-1] = (token != BLANK) | (wanted >= lengths[alive, None])
            blanks = stops.argmax(1)
            position[alive] += blanks
            symbols[alive[blanks > 0]] = 0
            speaks = (blanks < ahead) & (position[alive] < lengths[alive])
            streams.score[alive] += np.where(np.arange(ahead) < (blanks + speaks)[:, None], best, 0.0).sum(1)

            speakers, tokens = alive[speaks], token[speaks, blanks[speaks]]
            self._emit(state, streams, speakers, tokens.tolist(), streams.frame[speakers] + position[speakers])
            symbols[speakers] += 1
            full = speakers[symbols[speakers] == self.max_symbols]
            position[full] += 1
            symbols[full] = 0
        streams.frame += lengths
        state.streams = streams
        state.trim()

    def _best(self, frames: Tensor, alive: np.ndarray, wanted: np.ndarray, lm: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The best log-probability and token of each stream's `wanted` frames, both (alive, frames)."""
        places = np.minimum(wanted, frames.shape[1] - 1) + alive[:, None] * frames.shape[1]
        am = frames.flatten(0, 1).index_select(0, to_device(places.ravel(), frames.device))
        best, token = self.log_probs(am.view(*wanted.shape, -1), lm.unsqueeze(1)).max(-1)
        return best.cpu().numpy(), token.cpu().numpy()

    def _emit(self, state: GreedyState, streams: GreedyStreams, speakers: np.ndarray, tokens: list[int],
              frames: np.ndarray) -> None:
        streams.row[speakers] = state.outputs[0].extend(streams.row[speakers].tolist(), tokens)
        streams.emission[speakers] = state.emissions.add(streams.emission[speakers].tolist(), tokens, frames.tolist())

    def result(self, state: GreedyState) -> list[Result]:
        paths = (state.emissions.trace(emission) for emission in state.streams.emission.tolist())
        return [Result([Hypothesis(*path, score)]) for path, score in zip(paths, state.streams.score.tolist())]
