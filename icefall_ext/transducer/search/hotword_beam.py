"""Modified beam search with hotwords, which adds hotwords and does not lose other text.

The usual way lets a hotword under way raise a hypothesis and takes that back when the hotword fails. Blank never fails:
a hypothesis in the middle of a hotword does best to fall silent, keeps its bonus, and pushes the true continuation out of
the beam; text is deleted. Here three groups share the work:
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
from icefall_ext.transducer.search.hotwords import HotwordGraph
from icefall_ext.transducer.search.memory import Outputs, to_device
from icefall_ext.transducer.search.modified_beam import (
    EMISSION, IMPOSSIBLE, NOBODY, PARENT, SEQUENCE, Beam, BeamState, ModifiedBeamSearch, extend, merge)
from icefall_ext.transducer.search.types import Result


@dataclass
class HotwordBeam(Beam):
    """The plain beam, then the places for completed hotwords, then those for hotwords under way."""

    bonus: Tensor  # (streams, width), of the text


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
        beam = state.streams
        state.streams = HotwordBeam(beam.score, beam.ids, torch.zeros_like(beam.score, dtype=torch.float32))
        return state

    def advance(self, beam: HotwordBeam, am: Tensor, state: BeamState) -> HotwordBeam:
        candidates, best = self.candidates(beam, am, state)
        plain, plain_ids = candidates[:, : self.beam].clone(), beam.ids[:, : self.beam]
        merge(plain, plain_ids)
        values, indices = plain.flatten(1).topk(self.beam)

        ids, others = beam.ids.copy(), beam.ids[:, self.beam :]
        also_plain = (others[:, :, None, SEQUENCE] == plain_ids[:, None, :, SEQUENCE]).any(2)
        ids[:, self.beam :, : PARENT + 1][also_plain] = NOBODY
        candidates[:, self.beam :].masked_fill_(to_device(also_plain, am.device).unsqueeze(2), IMPOSSIBLE)
        merge(candidates, ids)
        completes, prospect = state.outputs[-1][beam.ids[:, :, -1]].split(self.vocab_size, dim=2)
        bonus = (beam.bonus.unsqueeze(2) + completes).flatten(1)
        prospect = prospect.flatten(1)
        scores = candidates.flatten(1)
        for rank, belongs in ((bonus, bonus > 0), (bonus + prospect, prospect > 0)):
            scores.scatter_(1, indices, IMPOSSIBLE)  # they have a place already
            ranked, more = (scores + rank).masked_fill(~belongs, IMPOSSIBLE).topk(self._places)
            gained = scores.gather(1, more).masked_fill(ranked == IMPOSSIBLE, IMPOSSIBLE)
            values, indices = torch.cat((values, gained), dim=1), torch.cat((indices, more), dim=1)
        ids = extend(beam.ids, values, indices, self.vocab_size, state)
        return HotwordBeam(best + values, ids, bonus.gather(1, indices))

    @torch.inference_mode()
    def result(self, state: BeamState) -> list[Result]:
        beam, results = state.streams, []
        scores = (beam.score + beam.bonus).tolist()
        texts = (beam.bonus > 0).cpu().numpy()  # under way alone is no text
        texts[:, : self.beam] = True
        for n, of_stream in enumerate(scores):
            best: dict[int, tuple[float, int]] = {}
            for place in np.flatnonzero(texts[n]).tolist():
                sequence = int(beam.ids[n, place, SEQUENCE])
                best[sequence] = max(best.get(sequence, (IMPOSSIBLE, 0)), (of_stream[place], int(beam.ids[n, place, EMISSION])))
            results.append(self.rank(state, best.values()))
        return results
