"""The spelling of one Tai-lo syllable: which initials, finals and tones there are, and where the tone mark goes.

Tones 1 and 4 are both unmarked and differ by the final alone: 4 when it ends in p, t, k or h, 1 otherwise. So these two
are bound to their finals, or the written form could not be read back. The other tones are marked and safe on any final;
those that the phonology does not know (8 in sia̍ng, 3 in hònnh: contractions, particles, loans) are told from the usual
ones by `tone_is_usual`.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

INITIALS = ("p", "ph", "b", "m", "t", "th", "n", "l", "k", "kh", "ng", "g", "ts", "tsh", "s", "j", "h", "")

# Vowels, then the codas each is found with ("" is none). The last group is dialectal.
_RIMES = {
    "a": ("", "h", "p", "t", "k", "m", "n", "ng", "nn", "nnh"),
    "i": ("", "h", "p", "t", "k", "m", "n", "ng", "nn", "nnh"),
    "u": ("", "h", "t", "n"),
    "e": ("", "h", "nn", "nnh"),
    "oo": ("", "h"),
    "o": ("", "h", "p", "k", "m", "ng", "nn", "nnh"),  # with a coda: the vowel of oo
    "ai": ("", "h", "nn", "nnh"),
    "au": ("", "h", "nn", "nnh"),
    "ia": ("", "h", "p", "t", "k", "m", "n", "ng", "nn", "nnh"),
    "io": ("", "h", "k", "ng", "nn"),
    "iu": ("", "h", "t", "nn", "nnh"),
    "iau": ("", "h", "nn", "nnh"),
    "ua": ("", "h", "t", "k", "n", "nn", "nnh"),
    "ue": ("", "h", "nn", "nnh"),
    "ui": ("", "h", "nn", "nnh"),
    "uai": ("", "h", "nn", "nnh"),
    "m": ("", "h"),
    "ng": ("", "h"),
}
_DIALECT_RIMES = {
    "ir": ("", "h", "p", "t", "k", "m", "n", "ng"),
    "irinn": ("",),
    "er": ("", "h", "m"),
    "or": ("", "h"),
    "ior": ("", "h"),
    "ere": ("", "h"),
    "ee": ("", "h"),
    "uee": ("",),
    "e": ("ng", "k"),
    "ie": ("",),
    "oi": ("", "h"),
    "oo": ("nn", "nnh"),
    "ioo": ("", "h"),
    "iai": ("", "h"),
    "ua": ("ng",),
}


def _finals(rimes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(vowel + coda for vowel, codas in rimes.items() for coda in codas)


DIALECT_FINALS = _finals(_DIALECT_RIMES)
FINALS = _finals(_RIMES) + DIALECT_FINALS
_FINALS = frozenset(FINALS)
SYLLABIC_M, SYLLABIC_NG = ("m", "mh"), ("ng", "ngh")

TONES = range(1, 10)
MARKS = {2: "\u0301", 3: "\u0300", 5: "\u0302", 6: "\u030c", 7: "\u0304", 8: "\u030d", 9: "\u030b"}
TONE_OF_MARK = {mark: tone for tone, mark in MARKS.items()}


def is_checked(final: str) -> bool:
    return final[-1] in "ptkh"


def unmarked_tone(final: str) -> int:
    return 4 if is_checked(final) else 1


def base_exists(initial: str, final: str) -> bool:
    if final in SYLLABIC_M:
        return initial in ("", "h")
    if final in SYLLABIC_NG:
        return initial in INITIALS and initial != "ng"
    return initial in INITIALS and final in _FINALS


@cache
def _all_bases() -> dict[str, tuple[str, str]]:
    # No base has two splits: finals do not begin with a letter that lengthens an initial (h, s, g).
    return {i + f: (i, f) for i in INITIALS for f in FINALS if base_exists(i, f)}


def split_base(base: str) -> tuple[str, str] | None:
    """`tshng` -> (`tsh`, `ng`), `nng` -> (`n`, `ng`), `ngoo` -> (`ng`, `oo`); None when there is no such syllable."""
    return _all_bases().get(base)


def tone_can_be_written(final: str, tone: int) -> bool:
    return tone in MARKS or tone == unmarked_tone(final)


def tone_is_usual(final: str, tone: int) -> bool:
    """Checked finals carry 4 and 8 (9 in tripling), the others everything but these two."""
    return tone in (4, 8, 9) if is_checked(final) else tone not in (4, 8)


@cache
def mark_position(base: str) -> int:
    """Index of the letter that carries the mark: a, then oo, e, o, i, u, m, n; the second of `iu`, `ui` and `ere`."""
    initial, final = _all_bases()[base]
    for letters, offset in (("a", 0), ("oo", 0), ("ere", 2), ("e", 0), ("o", 0), ("iri", 2), ("iu", 1), ("ui", 1)):
        if letters in final:
            return len(initial) + final.index(letters) + offset
    return len(initial) + min(final.index(letter) for letter in "iumn" if letter in final)


@lru_cache(maxsize=1 << 17)
def spell_with_mark(base: str, tone: int, capitals: int = 0, unicode_form: str = "NFC") -> str:
    """`base` with the mark of `tone`; bit i of `capitals` says that letter i is a capital."""
    letters = list(capitalise(base, capitals))
    letters[mark_position(base)] += MARKS.get(tone, "")
    return unicodedata.normalize(unicode_form, "".join(letters))


@lru_cache(maxsize=1 << 17)
def capitalise(base: str, capitals: int) -> str:
    if not capitals:
        return base
    return "".join(letter.upper() if capitals >> i & 1 else letter for i, letter in enumerate(base))
