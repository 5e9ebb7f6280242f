"""Fast beam search, native: what k2's RnntDecodingStreams finds on the trivial graph, without k2.

At most one token per frame. Hypotheses with the same context (the last `context_size` tokens) are merged, and the
better score kept: a Viterbi search over contexts. Per frame and stream, with B the best score before it:
 1. every context takes blank, and the tokens v with score + log p(v) >= B - beam;
 2. of the contexts reached, those within `beam` of the best are kept, at most `max_contexts`;
 3. and of k2's states at most `max_states`. A context c has up to two: (c, 0), and (c, final), where the graph's final
    arc leads from (c, 0), at the price of blank. Nothing leaves (c, final): it only takes up room.
On its last frame a stream can take only the final arc, at no price: the last frame's own scores decide only which
contexts survive it, under these rules. Where none does the reading is empty, unless `allow_partial`, which then lets
every context end. Scores are float64, log-probabilities float32, as in k2.

Before the last frame only the `max_contexts` best tokens of a context matter: each leads to another context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.predictor import BLANK
from icefall_ext.transducer.search.base import FrameSynchronousSearch, PerStream, SearchState
from icefall_ext.transducer.search.lattice import Arc, Lattice
from icefall_ext.transducer.search.memory import Emissions, Outputs, to_device
from icefall_ext.transducer.search.types import Hypothesis, Result

IMPOSSIBLE = float("-inf")
NOW, BEFORE = range(2)
CONTEXT, EMISSION, NODE, ROW = range(4)  # columns of Contexts.ids; CONTEXT is a number in base vocab_size


@dataclass
class Contexts(PerStream):
    """The surviving contexts, best first, NOW and BEFORE the last frame; unused places have the score -inf."""

    score: np.ndarray  # (streams, 2, max_contexts) float64
    ids: np.ndarray  # (streams, 2, max_contexts, 4)
    am: Tensor  # (streams, joiner_dim) the last frame
    frame: np.ndarray  # (streams,) frames consumed
    stream: np.ndarray  # (streams,) which stream of the batch this is

    @property
    def rows(self) -> np.ndarray:
        return self.ids[..., ROW:]


@dataclass
class FastBeamState(SearchState):
    emissions: Emissions
    lattices: list[Lattice]  # filled only for n-best output
    firsts: np.ndarray  # room for _first_of_each


@dataclass
class Arrivals:
    """The ways to the contexts reached, (streams, ways), best first."""

    score: np.ndarray
    arc: np.ndarray  # an index into contexts times tokens, then into contexts (blank)
    code: np.ndarray  # equal for equal contexts of a stream
    best: np.ndarray  # it is the best way to its context
    kept: np.ndarray  # and the context survives


@dataclass
class FastBeamSearch(FrameSynchronousSearch):
    beam: float = 20.0
    max_contexts: int = 8
    max_states: int = 64
    allow_partial: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fast_beam(self)

    @torch.inference_mode()
    def start(self, batch: int) -> FastBeamState:
        score = np.full((batch, 2, self.max_contexts), IMPOSSIBLE)
        score[:, NOW, 0] = 0.0
        ids = np.zeros((batch, 2, self.max_contexts, ROW + 1), dtype=np.int64)
        outputs = Outputs(self.predictor, self.vocab_size, self.joiner.decoder_proj)
        am = self.joiner.encoder_proj.weight.new_zeros(batch, self.joiner.encoder_proj.out_features)
        contexts = Contexts(score, ids, am, np.zeros(batch, dtype=np.int64), np.arange(batch))
        firsts = np.empty(batch * self.max_contexts * self.vocab_size, dtype=np.int64)
        return FastBeamState(contexts, [outputs], Emissions(), [Lattice() for _ in range(batch)], firsts)

    def advance(self, contexts: Contexts, am: Tensor, state: FastBeamState) -> Contexts:
        score, ids = contexts.score[:, NOW], contexts.ids[:, NOW]
        alive = score > IMPOSSIBLE
        log_probs = self._log_probs(alive, ids, am, state)
        values, tokens = _best_tokens(log_probs, min(self.max_contexts, self.vocab_size - 1))
        token = np.ones((*score.shape, tokens.shape[1]), dtype=np.int64)
        token[alive] = tokens
        arrivals = self._arrive(score, ids[:, :, CONTEXT], alive, values, token, log_probs[:, BLANK], state)

        stream, way = arrivals.kept.nonzero()
        place = arrivals.kept.cumsum(1)[stream, way] - 1
        arc, emitting = arrivals.arc[stream, way], token[0].size
        emits = arc < emitting
        source = np.where(emits, arc // token.shape[2], arc - emitting)
        next_score, next_ids = np.full_like(score, IMPOSSIBLE), np.zeros_like(ids)
        next_score[stream, place] = arrivals.score[stream, way]
        grown = ids[stream, source]
        if emits.any():
            said = token.reshape(len(token), -1)[stream[emits], arc[emits]]
            before, rows, tokens = grown[emits, EMISSION].tolist(), grown[emits, ROW].tolist(), said.tolist()
            frames = contexts.frame[stream[emits]].tolist()
            grown[emits, CONTEXT] = self._suffix(grown[emits, CONTEXT]) * self.vocab_size + said
            grown[emits, EMISSION] = state.emissions.add(before, tokens, frames)
            grown[emits, ROW] = state.outputs[0].extend(rows, tokens)
        next_ids[stream, place] = grown
        if self.nbest > 1:
            self._record(contexts, alive, log_probs, next_score, next_ids, state)
        return Contexts(np.stack((next_score, score), 1), np.stack((next_ids, ids), 1), am, contexts.frame + 1,
                        contexts.stream)

    def _log_probs(self, alive: np.ndarray, ids: np.ndarray, am: Tensor, state: FastBeamState) -> Tensor:
        """(contexts alive, V)"""
        frames = am.index_select(0, to_device(alive.nonzero()[0], am.device))
        return self.log_probs(frames, state.outputs[0][ids[alive, ROW]])

    def _suffix(self, context: np.ndarray) -> np.ndarray:
        """The context without its first token."""
        return context % self.vocab_size ** (self.predictor.context_size - 1)

    def _arrive(self, score: np.ndarray, context: np.ndarray, alive: np.ndarray, values: Tensor, token: np.ndarray,
                blank: Tensor, state: FastBeamState) -> Arrivals:
        """Take the arcs that leave all contexts, merge by destination, prune.

        score, context, alive (streams, contexts); token (streams, contexts, tokens): the tokens considered, and
        values (contexts alive, tokens) their log-probabilities; blank (contexts alive,).
        """
        emit, stay = np.full(token.shape, IMPOSSIBLE), np.full(score.shape, IMPOSSIBLE)
        emit[alive] = score[alive, None] + values.cpu().numpy()
        stay[alive] = score[alive] + blank.cpu().numpy()
        emit[emit < score.max(1)[:, None, None] - self.beam] = IMPOSSIBLE
        scores = np.concatenate((emit.reshape(len(emit), -1), stay), axis=1)
        codes = self._codes(context, token)
        arc = np.argsort(-scores, axis=1, kind="stable")
        stream = np.arange(len(arc))[:, None]
        scores, codes = scores[stream, arc], codes[stream, arc]

        best = _first_of_each(codes, state.firsts) & (scores > IMPOSSIBLE)
        rank = best.cumsum(1) - 1
        kept = best & (rank < self.max_contexts) & (scores >= scores[:, :1] - self.beam)
        if self.max_states < 2 * self.max_contexts:  # otherwise there is room for both states of every context
            kept &= rank + (stay[:, None, :] > scores[:, :, None]).sum(2) < self.max_states
        return Arrivals(scores, arc, codes, best, kept)

    def _codes(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        """(streams, contexts * tokens + contexts): small numbers for the contexts that emission, then blank, lead to;
        equal within a stream where the contexts are, and different across streams.

        A context is named by its last token and by the first context in the stream whose suffix it continues; one that
        continues none can be reached by blank alone, and is named by its place and blank.
        """
        streams, width = context.shape
        suffix, last = self._suffix(context), context % self.vocab_size
        base = np.arange(streams)[:, None] * width
        first = base + (suffix[:, :, None] == suffix[:, None, :]).argmax(2)
        emit = first[:, :, None] * self.vocab_size + token
        continues = suffix[:, None, :] * self.vocab_size + last[:, :, None] == context[:, :, None]
        own = (base + np.arange(width)) * self.vocab_size + BLANK
        stay = np.where(continues.any(2), (base + continues.argmax(2)) * self.vocab_size + last, own)
        return np.concatenate((emit.reshape(streams, -1), stay), axis=1)

    def _record(self, contexts: Contexts, alive: np.ndarray, log_probs: Tensor, next_score: np.ndarray,
                next_ids: np.ndarray, state: FastBeamState) -> None:
        """Add the new contexts and all arcs that lead to them to the lattices."""
        score, ids = contexts.score[:, NOW], contexts.ids[:, NOW]
        old, new = ids[:, :, CONTEXT, None], next_ids[:, None, :, CONTEXT]
        possible = alive[:, :, None] & (next_score > IMPOSSIBLE)[:, None, :]
        last = np.broadcast_to(new % self.vocab_size, possible.shape)
        emit = possible & (self._suffix(old) * self.vocab_size + last == new) & (last != BLANK)
        row = np.cumsum(alive).reshape(alive.shape) - 1
        arcs: list[list[list[Arc]]] = [[[] for _ in stream] for stream in next_score]
        for which, token in ((possible & (old == new), np.zeros_like(last)), (emit, last)):
            stream, source, place = which.nonzero()
            said = token[which]
            rows = to_device(np.stack((row[stream, source], said)), log_probs.device)
            gained = log_probs[rows[0], rows[1]].cpu().numpy()
            within = (said == BLANK) | (score[stream, source] + gained >= score.max(1)[stream] - self.beam)
            for n, node, d, label, gain in zip(stream[within].tolist(), ids[stream, source, NODE][within].tolist(),
                                               place[within].tolist(), said[within].tolist(), gained[within].tolist()):
                arcs[n][d].append(Arc(node, label, (), gain))
        for n, (number, frame) in enumerate(zip(contexts.stream.tolist(), contexts.frame.tolist())):
            for d in np.flatnonzero(next_score[n] > IMPOSSIBLE).tolist():
                next_ids[n, d, NODE] = state.lattices[number].add(float(next_score[n, d]), frame + 1, arcs[n][d])

    @torch.inference_mode()
    def result(self, state: FastBeamState) -> list[Result]:
        score, ids = state.streams.score[:, BEFORE], state.streams.ids[:, BEFORE]
        results = []
        for n, ends in enumerate(self._ends(state)):
            places = np.flatnonzero(ends)
            if not state.streams.frame[n]:
                readings = [Hypothesis([], [], 0.0)]
            elif not len(places):
                readings = [Hypothesis([], [], IMPOSSIBLE)]
            elif self.nbest > 1:
                arcs = [Arc(node, BLANK, (), 0.0) for node in ids[n, places, NODE].tolist()]
                readings = state.lattices[n].readings(arcs, self.nbest)
            else:
                best = places[score[n, places].argmax()]
                readings = [Hypothesis(*state.emissions.trace(ids[n, best, EMISSION]), float(score[n, best]))]
            results.append(Result(readings))
        return results

    def _ends(self, state: FastBeamState) -> np.ndarray:
        """(streams, contexts) which contexts before the last frame can end there."""
        score, ids = state.streams.score[:, BEFORE], state.streams.ids[:, BEFORE]
        context, alive = ids[:, :, CONTEXT], score > IMPOSSIBLE
        log_probs = self._log_probs(alive, ids, state.streams.am, state)
        token = np.broadcast_to(np.arange(1, self.vocab_size), (*score.shape, self.vocab_size - 1))
        arrivals = self._arrive(score, context, alive, log_probs[:, 1:], token, log_probs[:, BLANK], state)
        survives = np.isin(arrivals.code, arrivals.code[arrivals.kept]) & (arrivals.score > IMPOSSIBLE)

        is_stay = arrivals.arc >= token[0].size
        stream, way = (survives & is_stay).nonzero()
        place, final = arrivals.arc[stream, way] - token[0].size, arrivals.score[stream, way]
        finals = np.where(is_stay, arrivals.score, IMPOSSIBLE)[stream]
        ahead = (arrivals.score[stream] >= final[:, None]) & arrivals.best[stream]
        rank = ahead.sum(1) + (finals > final[:, None]).sum(1)
        ends = np.zeros(score.shape, dtype=bool)
        ends[stream, place] = (rank < self.max_states) & (final >= arrivals.score[stream, 0] - self.beam)
        if self.allow_partial:
            stream, way = (survives & ~ends.any(1, keepdims=True)).nonzero()
            arc = arrivals.arc[stream, way]
            ends[stream, np.where(arc < token[0].size, arc // token.shape[2], arc - token[0].size)] = True
        return ends


def check_fast_beam(search) -> None:
    """What holds for the native search and for k2's."""
    size = search.predictor.context_size
    if size is None:
        raise UsageError("fast beam search merges hypotheses by context, which an LSTM predictor does not have; take "
                         "modified_beam_search or greedy_search")
    if search.vocab_size**size >= 1 << 62:
        raise UsageError(f"fast beam search: contexts of {size} tokens out of {search.vocab_size} do not fit 64 bits")
    if not search.beam > 0 or search.max_contexts < 1 or search.max_states < 1:
        raise UsageError(f"fast beam search: beam {search.beam}, max_contexts {search.max_contexts} and max_states "
                         f"{search.max_states} must be positive")


def _first_of_each(codes: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Where a code appears for the first time; `room` has a place for every code, of any content."""
    places = np.arange(codes.size).reshape(codes.shape)
    room[codes] = codes.size
    np.minimum.at(room, codes, places)
    return room[codes] == places


def _best_tokens(log_probs: Tensor, number: int) -> tuple[Tensor, np.ndarray]:
    """The most probable tokens other than blank, (rows, number), and their log-probabilities."""
    width = max(log_probs.shape[1], 64 * number)  # from that width on, topk on a CPU takes a path three times as fast
    padded = log_probs.new_full((len(log_probs), width), IMPOSSIBLE)
    padded[:, 1 : log_probs.shape[1]] = log_probs[:, 1:]
    values, tokens = padded.topk(number)
    return values, tokens.cpu().numpy()
