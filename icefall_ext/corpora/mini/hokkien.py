"""How a Hokkien sentence is spoken: sandhi in each tone group, the phones of each syllable, and their durations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from icefall_ext.corpora.mini.articulation import Spoken
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.grammar import Sentence
from icefall_ext.text.tailo import Syllable
from icefall_ext.text.tailo_sandhi import NEUTRAL, loses_glottal_stop, sandhi_of_words

# Chao digits along the rime; finer than the usual two digits, as measured contours are.
CONTOURS: dict[int, tuple[float, ...]] = {
    NEUTRAL: (2.3, 1.9, 1.6, 1.3, 1.1),
    1: (4.7, 4.8, 4.8, 4.75, 4.7),
    2: (5.0, 4.9, 4.0, 2.6, 1.4),
    3: (2.0, 1.6, 1.3, 1.1, 1.0),
    4: (3.4, 3.2, 2.9, 2.6, 2.2),
    5: (2.1, 1.9, 2.3, 3.2, 4.2),
    6: (2.2, 2.1, 2.1, 2.0, 2.0),
    7: (3.1, 3.1, 3.0, 2.95, 2.9),
    8: (4.9, 5.0, 5.0, 4.9, 4.7),
    9: (3.0, 3.1, 3.9, 4.9, 5.4),
}
_RIME = 0.235  # s, of an open syllable within a tone group
_CLIPPED, _GLOTTAL, _NEUTRAL = 0.42, 0.5, 0.62  # of that
_END_OF_GROUP, _END_OF_PHRASE = 1.15, 1.4
_BEFORE_CLIP = 1.25  # final lengthening of a clipped syllable: it stays short
_COMMA = (0.22, 0.5)  # s
_HESITATION = 0.06  # a pause between two tone groups without a comma, in so many of them

_INITIALS = {"": (), "ng": ("N",), "j": ("dz",)}
_BEFORE_I = {"ts": "tc", "tsh": "tch", "s": "c", "j": "dj"}
_LETTERS = re.compile("oo|ir|er|or|ee|[aeiou]")
_VOWEL = {"oo": "O", "ir": "1", "er": "@", "or": "o", "ee": "E"}
_SHARES = {1: (1.0,), 2: (0.32, 0.68), 3: (0.22, 0.43, 0.35)}
_FALLING = {"ai": (0.6, 0.4), "au": (0.6, 0.4), "iu": (0.45, 0.55), "ui": (0.45, 0.55)}


@dataclass(frozen=True)
class Phones:
    onset: tuple[str, ...]
    nucleus: tuple[tuple[str, float], ...]
    coda: tuple[str, ...]
    nasal: bool


@dataclass(frozen=True)
class Said:
    """A sentence as one speaker says it. `surface` is the tone spoken, `group` the tone group, of each syllable."""

    syllables: list[Syllable]
    surface: list[int]
    group: list[int]
    spoken: list[Spoken]


@cache
def phones_of(initial: str, final: str) -> Phones:
    """Tai-lo initial and final to phones; a written -h is the glottal stop q."""
    nasal = "nn" in final
    letters, coda = final.replace("nn", ""), ""
    if letters not in ("m", "ng"):
        for coda in ("ng", "h", "p", "t", "k", "m", "n", ""):
            if letters.endswith(coda):
                letters = letters.removesuffix(coda) if coda else letters
                break
    if letters.removesuffix("h") in ("m", "ng"):  # syllabic, with or without a glottal stop
        letters, coda = letters.removesuffix("h"), "h" * final.endswith("h")
        nucleus: tuple[tuple[str, float], ...] = (("N" if letters == "ng" else "m", 1.0),)
    else:
        nucleus = _nucleus(letters, coda, nasal)
    front = nucleus[0][0] in ("i", "1")
    onset = (_BEFORE_I[initial],) if front and initial in _BEFORE_I else _INITIALS.get(initial, (initial,))
    closing = {"": (), "h": ("q",), "ng": ("N",)}.get(coda, (coda,))
    return Phones(onset, nucleus, closing, nasal or initial in ("m", "n", "ng"))


def _nucleus(letters: str, coda: str, nasal: bool) -> tuple[tuple[str, float], ...]:
    written = _LETTERS.findall(letters)
    vowels = [_VOWEL.get(vowel, vowel) for vowel in written]
    if coda not in ("", "h") or nasal:
        vowels = ["O" if vowel == "o" else vowel for vowel in vowels]
    if coda not in ("", "h"):
        if written == ["i", "a"] and coda in ("n", "t"):
            vowels = ["i", "E"]  # ian, iat
        if written == ["i"] and coda in ("ng", "k"):
            return ("i", 0.6), ("@", 0.4)  # ing, ik
    return tuple(zip(vowels, _FALLING.get(letters, _SHARES[len(vowels)])))


def say(sentence: Sentence, tone5: str, rate: float, dice: Dice) -> Said:
    """`rate` multiplies durations; `tone5` is the accent (south, north)."""
    said = Said([], [], [], [])
    pause = 0.0
    last_group = len(sentence.groups) - 1
    for number, group in enumerate(sentence.groups):
        syllables = [syllable for entry in group.words for syllable in entry.word.syllables]
        surface = sandhi_of_words([entry.word for entry in group.words], tone5=tone5)
        at_end = _END_OF_PHRASE if group.pause or number == last_group else _END_OF_GROUP
        for place, (syllable, tone) in enumerate(zip(syllables, surface)):
            lengthening = at_end if place == len(syllables) - 1 else 1.0
            said.spoken.append(_spoken(syllable, tone, lengthening, rate, dice, pause))
            pause = 0.0
        said.syllables.extend(syllables)
        said.surface.extend(surface)
        said.group.extend([number] * len(syllables))
        if group.pause:
            pause = dice.between(*_COMMA) * rate
        elif dice.happens(_HESITATION):
            pause = dice.between(0.04, 0.12) * rate
    return said


def say_alone(syllable: Syllable, rate: float, dice: Dice) -> Spoken:
    """A syllable by itself, in its citation tone."""
    return _spoken(syllable, syllable.tone, _END_OF_PHRASE, rate, dice, 0.0)


def _spoken(syllable: Syllable, tone: int, lengthening: float, rate: float, dice: Dice, pause: float) -> Spoken:
    phones = phones_of(syllable.initial, syllable.final)
    open_now = loses_glottal_stop(syllable, tone)
    clipped = syllable.checked and not open_now
    seconds = _RIME * rate * dice.bell(1.0, 0.09)
    if tone == NEUTRAL:
        seconds *= _NEUTRAL
    elif clipped:
        seconds *= (_GLOTTAL if phones.coda == ("q",) else _CLIPPED) * min(lengthening, _BEFORE_CLIP)
    else:
        seconds *= lengthening
    return Spoken(
        onset=phones.onset,
        nucleus=phones.nucleus,
        coda=() if open_now else phones.coda,
        rime_s=max(seconds, 0.06),
        contour=CONTOURS[tone],
        nasal=phones.nasal,
        clipped=clipped,
        loudness=dice.between(0.85, 1.1) * (0.7 if tone == NEUTRAL else 1.0),
        onset_scale=rate * dice.between(0.85, 1.15),
        pause_s=pause,
    )
