"""When what was said: token emissions as times of characters, syllables and segments.

A transducer says at which frame it emitted a token: somewhere in the character, a tenth of a second off as a rule. It
does not say when the character ended; its end is taken to be the start of the next one, or `LONGEST_UNIT` after its
own, if that is sooner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.transducer.search import Hypothesis

LONGEST_UNIT = 0.5  # seconds
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003fffd\ue000-\uf8ff"
_UNIT = re.compile(rf"[{_WIDE}]|[^\s{_WIDE}-]+")  # a character, or a syllable or word without its hyphens


@dataclass(frozen=True)
class Unit:
    text: str
    start: float  # seconds
    end: float


@dataclass(frozen=True)
class Segment:
    """Text between two pauses."""

    text: str
    start: float
    end: float
    units: list[Unit] = field(default_factory=list)

    def respelt(self, spell: Callable[[str], str]) -> Segment:
        units = [replace(unit, text=spell(unit.text)) for unit in self.units]
        return replace(self, text=spell(self.text), units=units)


def units_of(
    bpe: ByteBPE, hypothesis: Hypothesis, seconds_per_frame: float, offset: float = 0.0, limit: float = math.inf
) -> tuple[str, list[Unit], list[tuple[int, int]]]:
    """The text of a reading of what lies between `offset` and `limit`, its units, and their places in the text."""
    text, starts = character_starts(bpe, hypothesis)
    places = [match.span() for match in _UNIT.finditer(text)]
    seconds = [offset + starts[first] * seconds_per_frame for first, _ in places]
    ends = [min(start + LONGEST_UNIT, following) for start, following in zip(seconds, [*seconds[1:], limit])]
    return text, [Unit(text[slice(*place)], *times) for place, *times in zip(places, seconds, ends)], places


def segments_of(
    bpe: ByteBPE, hypothesis: Hypothesis, seconds_per_frame: float, offset: float, limit: float, pause: float,
    longest: float,
) -> list[Segment]:
    """A reading parted where no unit begins for `pause` seconds, and before it would last longer than `longest`, but
    never within a word."""
    text, units, places = units_of(bpe, hypothesis, seconds_per_frame, offset, limit)
    firsts: list[int] = []  # the unit that each segment begins with
    for i, unit in enumerate(units):
        if not firsts:
            firsts.append(i)
        elif "-" not in text[places[i - 1][1] : places[i][0]]:
            if unit.start - units[i - 1].start > pause or unit.start - units[firsts[-1]].start > longest:
                firsts.append(i)
    cuts = [0, *(places[i][0] for i in firsts[1:]), len(text)]  # what stands before the first unit belongs to it
    segments = []
    for number, (first, following) in enumerate(zip(firsts, [*firsts[1:], len(units)])):
        said, inside = text[cuts[number] : cuts[number + 1]], units[first:following]
        segments.append(Segment(" ".join(said.split()), inside[0].start, inside[-1].end, inside))
    return segments


def character_starts(bpe: ByteBPE, hypothesis: Hypothesis) -> tuple[str, list[int]]:
    """The text, and of each of its characters the frame of the token that began it."""
    text, starts, begun = "", [], None  # begun: the frame of the first token since a character was complete
    for count, frame in enumerate(hypothesis.frames, start=1):
        begun = frame if begun is None else begun
        longer = bpe.decode(hypothesis.tokens[:count])
        new = len(longer) - len(text)
        if new:
            starts += [begun] + [frame] * (new - 1)
            text, begun = longer, None
    return text, starts


def joined(texts: Iterable[str]) -> str:
    """Texts one after another, with a space where both neighbours are letters."""
    whole = ""
    for text in filter(None, texts):
        apart = whole and not (re.match(f"[{_WIDE}]", text) and re.match(f"[{_WIDE}]", whole[-1]))
        whole += (" " if apart else "") + text
    return whole


def as_objects(units: Sequence[Unit]) -> list[dict[str, object]]:
    return [{"text": unit.text, "start": round(unit.start, 3), "end": round(unit.end, 3)} for unit in units]
