"""Modified beam search with hotwords, which adds hotwords and does not lose other text.

The usual way lets a hotword under way raise a hypothesis and takes that back when the hotword fails. Blank never fails:
a hypothesis in the middle of a hotword does best to fall silent; it keeps its bonus, and pushes the true continuation
out of the beam; text is deleted. Here three groups share the work:
 - the plain beam: the search without hotwords, untouched;
 - completed: hypotheses with a hotword in them, ranked with its bonus, which no continuation takes back;
 - under way: hypotheses in a hotword, ranked with its prospect, which counts for nothing but staying in this group.
In the end a hypothesis of the first two groups scores its log-probability plus the bonus of its text. Therefore:
 - a reading without a hotword is the reading of the search without hotwords;
 - a reading with hotwords is less probable than that one by at most their bonus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.predictor import BLANK
from icefall_ext.transducer.search.hotwords import HotwordGraph
from icefall_ext.transducer.search.memory import Outputs
from icefall_ext.transducer.search.modified_beam import (
    EMISSION,
    IMPOSSIBLE,
    NOBODY,
    PARENT,
    SEQUENCE,
    Beam,
    BeamState,
    Choice,
    ModifiedBeamSearch,
    Scored,
    follow,
    follow_up,
)
from icefall_ext.transducer.search.types import Result


@dataclass
class HotwordBeam(Beam):
    """The plain beam, then the places for completed hotwords, then those for hotwords under way."""

    bonus: np.ndarray  # (streams, width), of the text


@dataclass
class HotwordBeamSearch(ModifiedBeamSearch):
    hotwords: HotwordGraph | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hotwords is None or self.hotwords.vocab_size != self.vocab_size:
            raise UsageError(f"hotwords over {getattr(self.hotwords, 'vocab_size', 'no')} tokens do not fit a model of "
                             f"{self.vocab_size}")
        self._places = (self.beam + 1) // 2  # in each of the two groups

    @property
    def width(self) -> int:
        return self.beam + 2 * self._places

    def outputs(self) -> list[Outputs]:
        return [*super().outputs(), Outputs(self.hotwords, self.vocab_size)]

    @torch.inference_mode()
    def start(self, batch: int) -> BeamState:
        state = super().start(batch)
        state.streams = HotwordBeam(state.streams.score, state.streams.ids, np.zeros_like(state.streams.score))
        return state

    def advance(self, beam: HotwordBeam, am: Tensor, state: BeamState) -> HotwordBeam:
        scored = self.score(beam, am, state)
        tokens, completes, prospect = self._consider(beam, scored, state)
        values = scored.scores.gather(1, tokens)
        bonus, stream = beam.bonus[:, :, None] + completes, np.arange(len(completes))[:, None]

        plain, others = Beam(beam.score[:, : self.beam], beam.ids[:, : self.beam]), self._without_plain(beam)
        followers = follow_up(plain, Scored(scored.scores, scored.context[:, : self.beam]), values, tokens)
        groups = [followers.best(followers.score, self.beam)]
        continued = follow_up(others, scored, values, tokens)
        for rank, belongs in ((bonus, bonus > 0), (bonus + prospect, prospect > 0)):
            continued.score[stream, groups[-1].slot, groups[-1].column] = IMPOSSIBLE  # they have a place already
            groups.append(continued.best(np.where(belongs, continued.score + rank, IMPOSSIBLE), self._places))
        slot, column, score = (
            np.concatenate([getattr(group, name) for group in groups], axis=1) for name in ("slot", "column", "score"))
        bonus = bonus[stream, slot, column]
        slot[:, self.beam :] += self.beam
        ids = np.concatenate((plain.ids, beam.ids), axis=1)
        followed = follow(ids, followers.beside(continued), Choice(slot, column, score), state)
        return HotwordBeam(followed.score, followed.ids, bonus)

    def _consider(self, beam: HotwordBeam, scored: Scored, state: BeamState) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Per context the most probable tokens, those that complete a hotword and those that leave one under way, each
        once (contexts, tokens); and for every hypothesis and those tokens, blank last, what they complete and leave."""
        row = np.empty(len(scored.scores), dtype=np.int64)
        row[scored.context] = beam.ids[:, :, -1]
        completes, prospect = state.outputs[-1][row].to(scored.scores.device).split(self.vocab_size, dim=1)
        ranks = (
            (scored.scores, self.beam),
            ((scored.scores + completes).masked_fill(completes == 0, IMPOSSIBLE), self._places),
            ((scored.scores + completes + prospect).masked_fill(prospect == 0, IMPOSSIBLE), self._places),
        )
        tokens = torch.cat([rank.topk(min(number, self.vocab_size)).indices for rank, number in ranks], dim=1)
        repeated = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).tril(-1).any(2)
        tokens = tokens.masked_fill(repeated, BLANK)
        columns = torch.cat((tokens, torch.full_like(tokens[:, :1], BLANK)), dim=1)
        completed, left = (part.gather(1, columns).cpu().numpy()[scored.context] for part in (completes, prospect))
        return tokens, completed, left

    def _without_plain(self, beam: HotwordBeam) -> Beam:
        """The beam, less those hypotheses beyond the plain beam that are in it too."""
        plain, others = beam.ids[:, : self.beam], beam.ids[:, self.beam :]
        score, ids = beam.score.copy(), beam.ids.copy()
        also_plain = (others[:, :, None, SEQUENCE] == plain[:, None, :, SEQUENCE]).any(2)
        score[:, self.beam :][also_plain] = IMPOSSIBLE
        ids[:, self.beam :, : PARENT + 1][also_plain] = NOBODY
        return Beam(score, ids)

    @torch.inference_mode()
    def result(self, state: BeamState) -> list[Result]:
        beam, results = state.streams, []
        is_text = beam.bonus > 0  # a hotword under way alone is none
        is_text[:, : self.beam] = True
        for texts, scores, ids in zip(is_text, beam.score + beam.bonus, beam.ids):
            best: dict[int, tuple[float, int]] = {}
            columns = ids[texts][:, (SEQUENCE, EMISSION)].T.tolist()
            for score, sequence, emission in zip(scores[texts].tolist(), *columns):
                best[sequence] = max(best.get(sequence, (IMPOSSIBLE, 0)), (score, emission))
            results.append(self.rank(state, best.values()))
        return results
