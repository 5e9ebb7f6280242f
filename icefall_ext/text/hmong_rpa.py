"""Hmong in the Romanized Popular Alphabet: syllables to (initial, vowel, tone) and back; White and Green Hmong.

A syllable ends in a vowel; the letter after it is no sound but the tone. `ee` and `oo` are nasal, so no final consonant
is missing. Tone d stands for m at the end of some phrases; it is kept as it is written.

>>> [(syllable.base, syllable.tone) for syllable in parse("Hmoob dawb")]
[('hmoo', 'b'), ('daw', 'b')]
>>> str(parse_syllable("ntxhais")), parse_syllable("ua").tone
('ntxhais', '-')
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MID = "-"  # the tone that is written with no letter
CONTOURS = {"b": "55", "j": "52", "v": "24", MID: "33", "s": "22", "g": "42", "m": "21", "d": "213"}  # Chao's digits
TONES = tuple(CONTOURS)
VOWELS = ("i", "e", "a", "o", "u", "w", "ai", "au", "aw", "ia", "ua", "ee", "oo", "aa")
_PLAIN = """
    p ph np nph pl plh npl nplh m hm ml hml nl hnl f v
    t th nt nth d dh dl dlh ndl ndlh n hn l hl tx txh ntx ntxh s x z
    r rh nr nrh ts tsh nts ntsh c ch nc nch ny hny y xy
    k kh nk nkh g ng q qh nq nqh h
"""
INITIALS = ("", *_PLAIN.split())
_LONGEST_FIRST = [sorted(spellings, key=len, reverse=True) for spellings in (INITIALS, VOWELS)]
_SYLLABLE = re.compile("({})({})([{}]?)".format(*map("|".join, _LONGEST_FIRST), "".join(TONES).replace(MID, "")))
_BETWEEN = re.compile(r"[\s-]+")


class NotRpa(ValueError):
    """Text that is no syllable in this spelling."""


@dataclass(frozen=True)
class Syllable:
    initial: str
    vowel: str
    tone: str = MID

    def __post_init__(self) -> None:
        for value, allowed in ((self.initial, INITIALS), (self.vowel, VOWELS), (self.tone, TONES)):
            if value not in allowed:
                raise NotRpa(f"{value!r} is not one of {' '.join(allowed).strip()}")

    @property
    def base(self) -> str:
        return self.initial + self.vowel

    def __str__(self) -> str:
        return self.base + self.tone.replace(MID, "")


def parse_syllable(text: str) -> Syllable:
    """In any case; nothing around it."""
    match = _SYLLABLE.fullmatch(unicodedata.normalize("NFKC", text).lower())
    if not match:
        raise NotRpa(f"{text!r} is not a syllable in RPA: an initial, a vowel ({', '.join(VOWELS)}), and a tone letter "
                     f"({', '.join(tone for tone in TONES if tone != MID)}) or none")
    initial, vowel, tone = match.groups()
    return Syllable(initial, vowel, tone or MID)


def parse(text: str) -> list[Syllable]:
    """Syllables between spaces or hyphens."""
    pieces = [piece for piece in _BETWEEN.split(text.strip()) if piece]
    if not pieces:
        raise NotRpa("no syllable")
    return [parse_syllable(piece) for piece in pieces]
