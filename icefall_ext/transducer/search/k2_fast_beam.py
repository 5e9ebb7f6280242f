"""Fast beam search through k2's RnntDecodingStreams, on the trivial graph or on any other, such as LG.

k2 is imported when the search is made. The rules are those in fast_beam.py.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.k2_here import why_no_k2
from icefall_ext.transducer.search.base import TransducerSearch, segments
from icefall_ext.transducer.search.fast_beam import IMPOSSIBLE, check_fast_beam
from icefall_ext.transducer.search.lattice import Arc, Lattice
from icefall_ext.transducer.search.types import Hypothesis, Result


@dataclass
class K2State:
    streams: list[Any]  # k2.RnntDecodingStream
    frames: list[int]
    last_fed: list[tuple[Any, int] | None]  # the k2.RnntDecodingStreams that fed a stream last, and its place there


@dataclass
class K2FastBeamSearch(TransducerSearch):
    beam: float = 20.0
    max_contexts: int = 8
    max_states: int = 64
    allow_partial: bool = True
    graph: Any = None  # k2.Fsa over tokens; with aux_labels, readings carry words

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fast_beam(self)
        if missing := why_no_k2():
            way_out = "a decoding graph needs it" if self.graph is not None else "backend torch gives the same readings"
            raise UsageError(f"fast beam search, backend k2: {missing}; {way_out}")
        self._k2 = k2 = importlib.import_module("k2")
        self.by_words = self.graph is not None and hasattr(self.graph, "aux_labels")
        self._config = k2.RnntDecodingConfig(
            vocab_size=self.vocab_size, decoder_history_len=self.predictor.context_size, beam=self.beam,
            max_states=self.max_states, max_contexts=self.max_contexts)
        if self.graph is None:
            self.graph = k2.trivial_graph(self.vocab_size - 1, device=self.device)

    def start(self, batch: int) -> K2State:
        self.predictor.start(1)  # its table is that of its weights now
        streams = [self._k2.RnntDecodingStream(self.graph) for _ in range(batch)]
        return K2State(streams, [0] * batch, [None] * batch)

    @torch.inference_mode(False)  # k2 asks tensors for their version
    @torch.no_grad()
    def feed(self, state: K2State, encoder_out: Tensor, lengths: Tensor) -> None:
        am, lengths = self.prepare(len(state.streams), encoder_out, lengths)
        order = np.argsort(-lengths, kind="stable")
        am = am[order]
        for count, start, stop in segments(lengths[order].tolist(), block=encoder_out.shape[1]):
            decoding = self._k2.RnntDecodingStreams([state.streams[b] for b in order[:count]], self._config)
            for frame in range(start, stop):
                shape, contexts = decoding.get_contexts()
                frames = am[:count, frame].index_select(0, shape.row_ids(1).to(torch.int64))
                lm = self.joiner.decoder_proj(self.predictor.from_contexts(contexts))
                decoding.advance(self.log_probs(frames, lm))
            decoding.terminate_and_flush_to_streams()
            for place, stream in enumerate(order[:count].tolist()):
                state.frames[stream] += stop - start
                state.last_fed[stream] = decoding, place

    @torch.inference_mode(False)
    @torch.no_grad()
    def result(self, state: K2State) -> list[Result]:
        results = [Result([Hypothesis([], [], 0.0)])] * len(state.streams)
        together: dict[int, list[int]] = {}  # streams fed last by the same object: only that one has their arcs
        for stream, last in enumerate(state.last_fed):
            if last is not None:
                together.setdefault(id(last[0]), []).append(stream)
        for streams in together.values():
            decoding = state.last_fed[streams[0]][0]
            frames = [1] * decoding.num_streams  # of streams that went on elsewhere, ignored here
            for stream in streams:
                frames[state.last_fed[stream][1]] = state.frames[stream]
            lattices = decoding.format_output(frames, self.allow_partial)
            readings = self._nbest(lattices) if self.nbest > 1 else self._one_best(lattices)
            for stream in streams:
                results[stream] = Result(readings[state.last_fed[stream][1]] or [Hypothesis([], [], IMPOSSIBLE)])
        return results

    def _one_best(self, lattices: Any) -> list[list[Hypothesis]]:
        paths = self._k2.shortest_path(lattices, use_double_scores=True)
        readings = []
        for n, score in enumerate(paths.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()):
            labels = paths[n].labels.tolist()
            tokens = [(label, frame) for frame, label in enumerate(labels) if label > 0]
            hypothesis = Hypothesis([t for t, _ in tokens], [f for _, f in tokens], score, self._words(paths[n]))
            readings.append([hypothesis] if labels else [])
        return readings

    def _words(self, path: Any) -> list[int] | None:
        return [word for words in _word_lists(path) for word in words] if self.by_words else None

    def _nbest(self, lattices: Any) -> list[list[Hypothesis]]:
        best_scores = lattices.get_forward_scores(use_double_scores=True, log_semiring=False).tolist()
        readings, first_state = [], 0
        for n in range(lattices.shape[0]):
            fsa = lattices[n]
            states = fsa.shape[0]
            lattice, ends = self._lattice(fsa, best_scores[first_state : first_state + states])
            readings.append(lattice.readings(ends, self.nbest))
            first_state += states
        return readings

    def _lattice(self, fsa: Any, best_scores: list[float]) -> tuple[Lattice, list[Arc]]:
        """k2 numbers states by frame, every arc takes one frame, and the label -1 ends a path."""
        ends, arriving = [], [[] for _ in best_scores]
        frame = [0] * len(best_scores)
        words = _word_lists(fsa) if self.by_words else [[]] * fsa.num_arcs
        for (source, to, label), score, said in zip(fsa.arcs.values()[:, :3].tolist(), fsa.scores.tolist(), words):
            if label == -1:
                ends.append(Arc(source, 0, tuple(said), score))
            else:
                arriving[to].append(Arc(source, label, tuple(said), score))
                frame[to] = frame[source] + 1
        return Lattice(best_scores, frame, arriving, self.by_words), ends


def _word_lists(fsa: Any) -> list[list[int]]:
    """The words on each arc, whether the graph has one or several there."""
    labels = fsa.aux_labels.tolist()
    return [[word for word in (label if isinstance(label, list) else [label]) if word > 0] for label in labels]
