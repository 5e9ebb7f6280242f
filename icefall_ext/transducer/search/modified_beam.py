"""Modified beam search: at most one token per frame, and the probabilities of all alignments of a text added up.

Per frame every hypothesis in the beam takes blank or a token; candidates with the same tokens are merged by log-add,
and the best `beam` are kept. Two candidates can have the same tokens in one way only: a hypothesis that stays (blank)
and its parent, one token shorter, that emits the token between them. So merging is a comparison of sequence numbers
within the beam. (icefall prunes first and merges what is left, and so loses hypotheses and probability.)

Of a hypothesis only the `beam` best tokens can matter: the device finds them, the host does the rest in float64.
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
    score: np.ndarray  # (streams, width) float64
    ids: np.ndarray  # (streams, width, ROWS + outputs); PARENT is the sequence without its last token

    @property
    def rows(self) -> np.ndarray:
        return self.ids[:, :, ROWS:]


@dataclass
class BeamState(SearchState):
    sequences: Sequences
    emissions: Emissions


@dataclass
class Scored:
    """Log-probabilities of all tokens after the hypotheses, fused with the language models', once per context."""

    scores: Tensor  # (contexts, V)
    context: np.ndarray  # (streams, width) which of them is a hypothesis's


@dataclass
class Choice:
    """All (streams, places)."""

    slot: np.ndarray  # the hypothesis
    column: np.ndarray  # of Candidates
    score: np.ndarray  # -inf where there were fewer candidates than places


@dataclass
class Candidates:
    """What may follow each hypothesis: some tokens, and in the last column blank; -inf where there is nothing."""

    score: np.ndarray  # (streams, width, tokens + 1)
    token: np.ndarray  # (streams, width, tokens + 1)
    source: np.ndarray  # (streams, width) the hypothesis that the last column continues: see merge

    def best(self, rank: np.ndarray, number: int) -> Choice:
        """Those of the highest rank, best first; where that is -inf, nothing."""
        order = np.argsort(-rank.reshape(len(rank), -1), axis=1, kind="stable")[:, :number]
        slot, column = np.divmod(order, rank.shape[2])
        place = np.arange(len(rank))[:, None], slot, column
        return Choice(slot, column, np.where(rank[place] == IMPOSSIBLE, IMPOSSIBLE, self.score[place]))

    def beside(self, other: Candidates) -> Candidates:
        """These, and behind them, as of further hypotheses, the others."""
        arrays = (self.score, other.score), (self.token, other.token), (self.source, other.source + self.score.shape[1])
        return Candidates(*(np.concatenate(pair, axis=1) for pair in arrays))


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
        lms = [Outputs(lm, self.vocab_size) for lm, _ in self.lms]
        for lm in lms:
            if lm.dim != self.vocab_size:
                raise UsageError(f"a language model over {lm.dim} tokens does not fit a model of {self.vocab_size}")
        return [Outputs(self.predictor, self.vocab_size, self.joiner.decoder_proj), *lms]

    @torch.inference_mode()
    def start(self, batch: int) -> BeamState:
        outputs = self.outputs()
        score = np.full((batch, self.width), IMPOSSIBLE)
        score[:, 0] = 0.0
        ids = np.zeros((batch, self.width, ROWS + len(outputs)), dtype=np.int64)
        ids[:, 0, PARENT] = -1  # the empty sequence has none
        ids[:, 1:, : PARENT + 1] = NOBODY
        return BeamState(Beam(score, ids), outputs, Sequences(self.vocab_size), Emissions())

    def advance(self, beam: Beam, am: Tensor, state: BeamState) -> Beam:
        scored = self.score(beam, am, state)
        values, tokens = scored.scores.topk(min(self.beam, self.vocab_size))  # one may be blank: fewer others count
        candidates = follow_up(beam, scored, values, tokens)
        return follow(beam.ids, candidates, candidates.best(candidates.score, self.beam), state)

    def score(self, beam: Beam, am: Tensor, state: BeamState) -> Scored:
        count, width, _ = beam.rows.shape
        first = (beam.rows[:, :, None] == beam.rows[:, None, :]).all(3).argmax(2)
        first = (first + np.arange(0, count * width, width)[:, None]).ravel()
        is_first = first == np.arange(count * width)
        chosen = is_first.nonzero()[0]
        rows = beam.rows.reshape(count * width, -1)[chosen]
        scores = self.log_probs(am.index_select(0, to_device(chosen // width, am.device)), state.outputs[0][rows[:, 0]])
        for i, (_, scale) in enumerate(self.lms, start=1):
            scores[:, 1:] += scale * state.outputs[i][rows[:, i]][:, 1:].to(scores)
        return Scored(scores, (is_first.cumsum() - 1)[first].reshape(count, width))

    @torch.inference_mode()
    def result(self, state: BeamState) -> list[Result]:
        scores, emissions = state.streams.score.tolist(), state.streams.ids[:, :, EMISSION].tolist()
        return [self.rank(state, zip(*stream)) for stream in zip(scores, emissions)]

    def rank(self, state: BeamState, hypotheses: Iterable[tuple[float, int]]) -> Result:
        best = sorted(hypotheses, reverse=True)[: self.nbest]
        best = best[:1] + [other for other in best[1:] if other[0] > IMPOSSIBLE]
        return Result([Hypothesis(*state.emissions.trace(emission), score) for score, emission in best])


def follow_up(beam: Beam, scored: Scored, values: Tensor, tokens: Tensor) -> Candidates:
    """Continue every hypothesis with blank and with the tokens (contexts, tokens) of its context, and merge.

    A child that stays and the emission of its parent become one candidate, in the child's last column. It continues
    whichever gave it more, so that time stamps follow the better alignment.
    """
    vocab_size, considered = scored.scores.shape[1], tokens.shape[1]
    token = np.zeros((*beam.score.shape, considered + 1), dtype=np.int64)
    token[:, :, :-1] = tokens.cpu().numpy()[scored.context]
    score = np.empty(token.shape)
    score[:, :, :-1] = np.where(token[:, :, :-1] == BLANK, IMPOSSIBLE, values.cpu().numpy()[scored.context])
    score[:, :, -1] = scored.scores[:, BLANK].cpu().numpy()[scored.context]
    score += beam.score[:, :, None]
    source = np.broadcast_to(np.arange(token.shape[1]), token.shape[:2])

    stream, child, parent = (beam.ids[:, :, None, PARENT] == beam.ids[:, None, :, SEQUENCE]).nonzero()
    if len(stream):
        last = beam.ids[stream, child, LAST]
        places = to_device(scored.context[stream, parent] * vocab_size + last, tokens.device)
        gained = beam.score[stream, parent] + scored.scores.view(-1).index_select(0, places).cpu().numpy()
        stayed = score[stream, child, -1]
        score[stream, child, -1] = np.logaddexp(stayed, gained)
        pair, column = (token[stream, parent, :-1] == last[:, None]).nonzero()
        score[stream[pair], parent[pair], column] = IMPOSSIBLE
        moves = gained > stayed
        source = source.copy()
        source[stream[moves], child[moves]] = parent[moves]
        token[stream[moves], child[moves], -1] = last[moves]
    return Candidates(score, token, source)


def follow(ids: np.ndarray, candidates: Candidates, choice: Choice, state: BeamState) -> Beam:
    """The beam of the chosen candidates; `ids` are those of the hypotheses they continue."""
    stream = np.arange(len(ids))[:, None]
    token = candidates.token[stream, choice.slot, choice.column]
    is_last = choice.column == candidates.token.shape[2] - 1
    ids = ids[stream, np.where(is_last, candidates.source[stream, choice.slot], choice.slot)]
    dead = choice.score == IMPOSSIBLE
    emits = ((token != BLANK) & ~dead).nonzero()
    if len(emits[0]):
        sequences, _, _, before, frames, *rows = ids[emits].T.tolist()
        tokens = token[emits].tolist()
        ids[emits] = np.array([
            state.sequences.extend(sequences, tokens),
            sequences,
            tokens,
            state.emissions.add(before, tokens, frames),
            frames,
            *(outputs.extend(row, tokens) for outputs, row in zip(state.outputs, rows)),
        ]).T
    ids[:, :, FRAME] += 1
    ids[dead, : PARENT + 1] = NOBODY
    return Beam(choice.score, ids)
