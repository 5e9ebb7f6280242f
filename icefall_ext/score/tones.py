"""Tones recognised as other tones, counted from the alignments of a tone rate (`Scored` of `tone`, `surface-tone`).

Citation tones are those written in Tai-lo. Surface tones are what sandhi makes of them, on both sides alike, with each
utterance taken as one tone group: transcripts do not mark tone groups, and punctuation, which could stand for their
ends, is in the references only. So an utterance of several groups has a changed tone at the inner ends, where a speaker
keeps the citation tone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from icefall_ext.score.error_rates import Scored

TONES = "0123456789"  # 0 is neutral, of surface tones only
NOTHING = len(TONES)  # row of the inserted tones, column of the lost ones
_USUAL = {1, 2, 3, 4, 5, 7, 8}
CONFUSABLE = (5, 7, 8)  # which systems for Hokkien confuse most


@dataclass(frozen=True)
class ToneConfusion:
    scored: Scored

    @property
    def kind(self) -> str:
        return "citation tones" if self.scored.rate.key == "tone" else "surface tones"

    @cached_property
    def counts(self) -> np.ndarray:
        """[11, 11]: reference tone or NOTHING, recognised tone or NOTHING."""
        counts = np.zeros((NOTHING + 1, NOTHING + 1), dtype=np.int64)
        for alignment in self.scored.alignments.values():
            for ref, hyp in alignment:
                counts[_place(ref), _place(hyp)] += 1
        return counts

    @property
    def shares(self) -> np.ndarray:
        """Each row of `counts` in percent of its sum; a row without any is 0."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return 100 * self.counts / np.maximum(totals, 1)

    @property
    def tones(self) -> list[int]:
        """Those that occur, and those that every variety has."""
        met = self.counts.sum(axis=0) + self.counts.sum(axis=1)
        return [tone for tone in range(NOTHING) if met[tone] or tone in _USUAL]

    @cached_property
    def of_confusable(self) -> ConfusableTones:
        """What became of the reference tones 5, 7 and 8."""
        rows = []
        for alignment in self.scored.alignments.values():
            outcomes = [(int(ref), _place(hyp)) for ref, hyp in alignment if ref and int(ref) in CONFUSABLE]
            among = sum(ref != hyp and hyp in CONFUSABLE for ref, hyp in outcomes)
            lost = sum(hyp == NOTHING for _, hyp in outcomes)
            right = sum(ref == hyp for ref, hyp in outcomes)
            rows.append((len(outcomes), among, len(outcomes) - among - lost - right, lost))
        return ConfusableTones(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


@dataclass(frozen=True)
class ConfusableTones:
    """Syllables with the reference tones 5, 7, 8 in each utterance, [utterances] each."""

    syllables: np.ndarray
    among: np.ndarray  # recognised as another of these three
    other: np.ndarray  # recognised as any other tone
    lost: np.ndarray  # no tone recognised

    def percent(self, part: str) -> float | None:
        """Of these syllables; None when the references have none."""
        syllables = int(self.syllables.sum())
        return 100 * int(getattr(self, part).sum()) / syllables if syllables else None


def _place(tone: str | None) -> int:
    return NOTHING if tone is None else int(tone)
