"""Han-Lo output as Tai-lo, so that its tones can be counted: each character by its reading.

A character that was recognised has the syllable that its reference has at that place; any other has the reading that it
has most often in text with both scripts (the training supervisions). So a homophone is no tone error, and an error
between two characters is one only if their readings differ. Where the two scripts of a reference differ in length, its
characters cannot be told their syllables, and the utterance is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from icefall_ext.score.alignment import align_places
from icefall_ext.score.error_rates import Utterance
from icefall_ext.score.units import TailoText
from icefall_ext.text import hanlo
from icefall_ext.text.tailo import Syllable


def _slots(text: str) -> list[str]:
    """One for each syllable: a Han character, or a romanised syllable with its tone as a digit."""
    read = (TailoText.read(token) for token in hanlo.tokens(hanlo.normalize(text)))
    return [unit if isinstance(unit, str) else unit.number() for token in read for unit in token.syllables]


def _syllables(romanised: str) -> list[tuple[str, Syllable]] | None:
    """Each with what stands before it: a space, `-` or `--`. None if some of the text is not Tai-lo."""
    words = TailoText.read(romanised).parts
    if any(isinstance(word, str) for word in words):
        return None
    return [(join or " ", syllable) for word in words for join, syllable in zip(word.joins, word.syllables)]


class Readings:
    def __init__(self, texts: Iterable[tuple[str, str]]):
        """From sentences in both scripts, (Han-Lo, Tai-lo)."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for han, romanised in texts:
            slots, syllables = _slots(han), _syllables(romanised)
            if syllables and len(slots) == len(syllables):
                for slot, (_, syllable) in zip(slots, syllables):
                    counts[slot][syllable.number()] += 1
        # Of two that are equally frequent the first by name, so that the order of sentences plays no part.
        self._reading = {slot: min(found, key=lambda r: (-found[r], r)) for slot, found in counts.items()}

    def __len__(self) -> int:
        return len(self._reading)

    def as_tailo(self, utterance: Utterance, romanised: str) -> Utterance | None:
        """The utterance in Tai-lo; `romanised` is that of its reference. None if the two do not fit each other."""
        refs, hyps, syllables = _slots(utterance.ref), _slots(utterance.hyp), _syllables(romanised)
        if syllables is None or len(refs) != len(syllables):
            return None
        spoken: list[str] = []
        follows = 0  # the place in the reference after the one that the last slot answers
        for i, j in align_places(refs, hyps):
            if j is None:
                continue
            if i is None:
                spoken.append(f" {self._read(hyps[j])}")
                follows = -1
            else:
                join, syllable = syllables[i]
                reading = syllable.number() if refs[i] == hyps[j] else self._read(hyps[j])
                spoken.append((join if i == follows else " ") + reading)
                follows = i + 1
        return Utterance(utterance.id, romanised, "".join(spoken))

    def _read(self, slot: str) -> str:
        """What has never been seen with a reading stays as it is, and counts as a syllable without a tone."""
        return self._reading.get(slot, slot)
