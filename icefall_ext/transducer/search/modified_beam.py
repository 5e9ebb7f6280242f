"""Modified beam search: at most one token per frame, and the probabilities of all alignments of a text added up.

Per frame, a beam of hypotheses times the vocabulary gives the candidates; those with the same tokens are merged by
log-add, then the best `beam` are kept. Two candidates can have the same tokens in one way only: a hypothesis that stays
(blank) and its parent, one token shorter, that emits the token between them. So merging is a comparison of sequence
numbers within the beam. (icefall prunes first and merges what is left, and so loses hypotheses and probability.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.predictor import BLANK, Stepper
from icefall_ext.transducer.search.base import FrameSynchronousSearch, PerStream, SearchState
from icefall_ext.transducer.search.memory import Emissions, Outputs, Sequences, to_device
from icefall_ext.transducer.search.types import Hypothesis, Result

IMPOSSIBLE = float("-inf")
NOBODY = -2  # the sequence number of a place in the beam that holds no hypothesis
SEQUENCE, PARENT, LAST, EMISSION, FRAME, ROWS = range(6)  # columns of Beam.ids; from ROWS on one per Outputs


@dataclass
class Beam(PerStream):
    score: Tensor  # (streams, beam) float64, best first
    ids: np.ndarray  # (streams, beam, ROWS + outputs); PARENT is the sequence without its last token

    @property
    def rows(self) -> np.ndarray:
        return self.ids[:, :, ROWS:]


@dataclass
class BeamState(SearchState):
    sequences: Sequences
    emissions: Emissions


@dataclass
class ModifiedBeamSearch(FrameSynchronousSearch):
    beam: int = 4
    lms: Sequence[tuple[Stepper, float]] = ()  # models of log-probabilities and their scales, added to every emission

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam < 1 or self.nbest > self.beam:
            raise UsageError(f"modified beam search: beam {self.beam} must be positive and at least nbest {self.nbest}")

    @property
    def width(self) -> int:
        return self.beam

    def outputs(self) -> list[Outputs]:
        predictor = Outputs(self.predictor, self.vocab_size, self.joiner.decoder_proj)
        return [predictor, *(Outputs(lm, self.vocab_size) for lm, _ in self.lms)]

    @torch.inference_mode()
    def start(self, batch: int) -> BeamState:
        outputs = self.outputs()
        score = torch.full((batch, self.width), IMPOSSIBLE, dtype=torch.float64, device=self.device)
        score[:, 0] = 0.0
        ids = np.zeros((batch, self.width, ROWS + len(outputs)), dtype=np.int64)
        ids[:, 0, PARENT] = -1  # the empty sequence has none
        ids[:, 1:, : PARENT + 1] = NOBODY
        return BeamState(Beam(score, ids), outputs, Sequences(self.vocab_size), Emissions())

    def advance(self, beam: Beam, am: Tensor, state: BeamState) -> Beam:
        candidates, best = self.candidates(beam, am, state)
        merge(candidates, beam.ids)
        values, indices = candidates.flatten(1).topk(self.beam)
        return Beam(best + values, extend(beam.ids, values, indices, self.vocab_size, state))

    def candidates(self, beam: Beam, am: Tensor, state: BeamState) -> tuple[Tensor, Tensor]:
        """Scores (streams, beam, V) of hypothesis and next token, less the best score (streams, 1) before the frame: the
        differences are small, so float32 will do."""
        candidates = self._log_probs(am, beam.ids[:, :, ROWS], state.outputs[0])
        for i, (_, scale) in enumerate(self.lms, start=1):
            candidates[:, :, 1:] += scale * state.outputs[i][beam.ids[:, :, ROWS + i]][:, :, 1:]
        best = beam.score[:, :1]
        candidates += (beam.score - best).float().unsqueeze(2)
        return candidates, best

    def _log_probs(self, am: Tensor, rows: np.ndarray, outputs: Outputs) -> Tensor:
        """(streams, beam, V), computed once per context in a stream."""
        count, width = rows.shape
        first = (rows[:, :, None] == rows[:, None, :]).argmax(2) + np.arange(0, rows.size, width)[:, None]
        is_first = first.ravel() == np.arange(rows.size)
        distinct, places = np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first.ravel()]
        frames = am.index_select(0, to_device(distinct // width, am.device))
        log_probs = self.log_probs(frames, outputs[rows.ravel()[distinct]])
        return log_probs.index_select(0, to_device(places, am.device)).view(count, width, -1)

    @torch.inference_mode()
    def result(self, state: BeamState) -> list[Result]:
        scores, emissions = state.streams.score.tolist(), state.streams.ids[:, :, EMISSION].tolist()
        return [self.rank(state, zip(*stream)) for stream in zip(scores, emissions)]

    def rank(self, state: BeamState, hypotheses: Iterable[tuple[float, int]]) -> Result:
        best = sorted(hypotheses, reverse=True)[: self.nbest]
        best = best[:1] + [other for other in best[1:] if other[0] > IMPOSSIBLE]
        return Result([Hypothesis(*state.emissions.trace(emission), score) for score, emission in best])


def merge(candidates: Tensor, ids: np.ndarray) -> None:
    """Add up, in place, a child that stays and the emission of its parent. The sum goes to the more probable of the two,
    whose time stamps it keeps, and the other is struck out."""
    stream, child, parent = (ids[:, :, PARENT, None] == ids[:, None, :, SEQUENCE]).nonzero()
    if not len(stream):
        return
    base, vocab_size = stream * ids.shape[1], candidates.shape[2]
    stays, emits = (base + child) * vocab_size + BLANK, (base + parent) * vocab_size + ids[stream, child, LAST]
    places = to_device(np.concatenate((stays, emits)), candidates.device)
    stay, emit = candidates.view(-1).index_select(0, places).cpu().numpy().reshape(2, -1)
    merged, moves = np.logaddexp(stay, emit), emit > stay
    merged = np.concatenate((np.where(moves, IMPOSSIBLE, merged), np.where(moves, merged, IMPOSSIBLE)))
    candidates.view(-1).index_copy_(0, places, to_device(merged, candidates.device))


def extend(ids: np.ndarray, values: Tensor, indices: Tensor, vocab_size: int, state: BeamState) -> np.ndarray:
    """The ids of the chosen candidates: `indices` count hypothesis times token, `values` are their scores."""
    slot, token = np.divmod(indices.cpu().numpy(), vocab_size)
    ids = ids[np.arange(len(ids))[:, None], slot]
    dead = values.cpu().numpy() == IMPOSSIBLE  # there were fewer candidates than places
    ids[dead, : PARENT + 1] = NOBODY
    emitting = ((token != BLANK) & ~dead).nonzero()
    if len(emitting[0]):
        sequences, _, _, before, frames, *rows = ids[emitting].T.tolist()
        tokens = token[emitting].tolist()
        ids[emitting] = np.array([
            state.sequences.extend(sequences, tokens),
            sequences,
            tokens,
            state.emissions.add(before, tokens, frames),
            frames,
            *(outputs.extend(row, tokens) for outputs, row in zip(state.outputs, rows)),
        ]).T
    ids[:, :, FRAME] += 1
    return ids
