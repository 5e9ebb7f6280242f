"""A text as the units that are scored: the same normalisation for reference and hypothesis, and no character lost.

Unicode form, case, punctuation and, in Tai-lo, the two ways to write a tone (tâi, tai5) make no difference. What is not
Tai-lo in a Tai-lo text (Han, numbers, foreign words) is counted and not skipped: a system could hide its errors there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from icefall_ext.score.alignment import Places, align_syllables
from icefall_ext.text import hanlo, tailo
from icefall_ext.text.tailo import Syllable, Word
from icefall_ext.text.tailo_sandhi import sandhi_of_words


class HanloPair:
    """Reference and hypothesis in Han-Lo text."""

    def __init__(self, ref: str, hyp: str):
        self.texts = hanlo.normalize(ref), hanlo.normalize(hyp)

    def characters(self) -> tuple[list[str], list[str]]:
        ref, hyp = map(hanlo.characters, self.texts)
        return ref, hyp

    def tokens(self) -> tuple[list[str], list[str]]:
        ref, hyp = map(hanlo.tokens, self.texts)
        return ref, hyp


@dataclass(frozen=True)
class TailoText:
    """Words in the order of the text; a string is one unit that is not Tai-lo."""

    parts: tuple[Word | str, ...]

    @classmethod
    def read(cls, text: str) -> TailoText:
        parts: list[Word | str] = []
        for token in tailo.parse(hanlo.normalize(text, punctuation="keep")).tokens:
            if token.word:
                parts.append(token.word)
            elif token.kind == tailo.UNKNOWN:
                parts += _foreign_units(token.text)
        return cls(tuple(parts))

    def words(self) -> list[str]:
        return [part if isinstance(part, str) else part.number() for part in self.parts]

    @cached_property
    def syllables(self) -> list[Syllable | str]:
        return [s for part in self.parts for s in ([part] if isinstance(part, str) else part.syllables)]

    def tones(self) -> list[str | None]:
        """As written; None for what is no syllable."""
        return [None if isinstance(s, str) else str(s.tone) for s in self.syllables]

    def surface_tones(self, tone5: str) -> list[str | None]:
        """As spoken if the whole text were one tone group; 0 is neutral."""
        spoken = iter(sandhi_of_words((part for part in self.parts if isinstance(part, Word)), tone5=tone5))
        return [None if isinstance(s, str) else str(next(spoken)) for s in self.syllables]


def _foreign_units(text: str) -> list[str]:
    """Han and other wide characters one by one, anything else whole: a part of it might read as Tai-lo."""
    return [
        unit
        for piece in hanlo.normalize(text).split()
        for unit in (hanlo.tokens(piece) if unicodedata.east_asian_width(piece[0]) == "W" else [piece])
    ]


class TailoPair:
    """Reference and hypothesis in Tai-lo."""

    def __init__(self, ref: str, hyp: str):
        self.texts = TailoText.read(ref), TailoText.read(hyp)

    def words(self) -> tuple[list[str], list[str]]:
        ref, hyp = (text.words() for text in self.texts)
        return ref, hyp

    def syllables(self) -> tuple[list[str], list[str]]:
        ref, hyp = ([s if isinstance(s, str) else s.number() for s in text.syllables] for text in self.texts)
        return ref, hyp

    def bases(self) -> tuple[list[str], list[str]]:
        ref, hyp = ([s if isinstance(s, str) else s.base for s in text.syllables] for text in self.texts)
        return ref, hyp

    @cached_property
    def _places(self) -> list[Places]:
        ref, hyp = self.texts
        return align_syllables(ref.syllables, hyp.syllables)

    def aligned_tones(self) -> list[tuple[str | None, str | None]]:
        return self._aligned(*(text.tones() for text in self.texts))

    def aligned_surface_tones(self, tone5: str) -> list[tuple[str | None, str | None]]:
        return self._aligned(*(text.surface_tones(tone5) for text in self.texts))

    def _aligned(self, ref: Sequence[str | None], hyp: Sequence[str | None]) -> list[tuple[str | None, str | None]]:
        """A syllable recognised as something that has no tone is a tone that was lost, and the other way round."""
        pairs = [(None if i is None else ref[i], None if j is None else hyp[j]) for i, j in self._places]
        return [pair for pair in pairs if pair != (None, None)]
