"""POJ (白話字), an older spelling of the same syllables, to Tai-lo with diacritics and back."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from icefall_ext.text import tailo_spelling as spelling
from icefall_ext.text.tailo import Problem, Syllable, Word
from icefall_ext.text.tailo_scan import PIECES, SCANNER, fold_width, why_unreadable

# In this order, on NFD in lower case (NFKC would turn ⁿ into n). o͘ is oo unless a coda follows: o͘ⁿ is onn, o͘k is ok.
_FROM_POJ = [
    (re.compile(pattern), tailo)
    for pattern, tailo in (
        ("ch", "ts"),
        ("hⁿ", "nnh"),
        ("ⁿ", "nn"),
        ("ou", "oo"),
        ("o\u0358(?=[ptkmn])", "o"),
        ("o\u0358", "oo"),
        ("o(?=[ae])", "u"),
        ("e(?=(ng|k)$)", "i"),
    )
]
_BREVE = "\u0306"  # tone 9; the other marks are the same
_TONE_OF_MARK = {**spelling.TONE_OF_MARK, _BREVE: 9}
_DIGITS = "123456789"
_TO_POJ = (("^ts", "ch"), ("oo", "o\u0358"), ("nnh$", "hⁿ"), ("nn$", "ⁿ"), ("u(?=[ae])", "o"), ("i(?=(ng|k)$)", "e"))


@lru_cache(maxsize=1 << 16)
def _convert(piece: str) -> str | None:
    decomposed = unicodedata.normalize("NFD", fold_width(piece)).replace("ᴺ", "ⁿ")
    stem = decomposed.rstrip(_DIGITS)
    tones = [_TONE_OF_MARK[c] for c in stem if c in _TONE_OF_MARK] + [int(c) for c in decomposed[len(stem) :]]
    letters = "".join(c for c in stem if c not in _TONE_OF_MARK)
    base = letters.lower()
    for pattern, tailo in _FROM_POJ:
        base = pattern.sub(tailo, base)
    split = spelling.split_base(base)
    if not split or len(tones) > 1:
        return None
    tone = tones[0] if tones else spelling.unmarked_tone(split[1])
    if not spelling.tone_can_be_written(split[1], tone):
        return None
    written = spelling.spell_with_mark(base, tone)
    cased = [c.isupper() for c in letters if c.isascii()]
    if len(cased) > 1 and all(cased):
        return written.upper()
    return written.capitalize() if cased[0] else written


def from_poj(text: str) -> tuple[str, list[Problem]]:
    """`text` with its POJ syllables in Tai-lo; the rest is left as it is, and what looks like a word is reported."""
    parts, problems = [], []
    for match in SCANNER.finditer(text):
        if match.lastgroup != "chunk":
            parts.append(match.group())
            continue
        for piece in PIECES.finditer(match.group()):
            start, (join, syllable) = match.start() + piece.start(2), piece.groups()
            converted = _convert(syllable)
            if converted is None:
                reason = "not a POJ syllable" if any(c.isalpha() for c in syllable) else why_unreadable(syllable)
                problems.append(Problem(start, syllable, reason))
            parts.append(join + (converted or syllable))
    return "".join(parts), problems


def to_poj(word: Word) -> str:
    """Of the capitals, the first letter of each syllable."""
    return "".join(
        join + (_poj_syllable(syllable).capitalize() if capitals & 1 else _poj_syllable(syllable))
        for join, syllable, capitals in zip(word.joins, word.syllables, word.capitals)
    )


@lru_cache(maxsize=1 << 12)
def _poj_syllable(syllable: Syllable) -> str:
    base = syllable.base
    for pattern, poj in _TO_POJ:
        base = re.sub(pattern, poj, base)
    place = _poj_mark_position(base) + 1
    mark = _BREVE if syllable.tone == 9 else spelling.MARKS.get(syllable.tone, "")
    return unicodedata.normalize("NFC", base[:place] + mark + base[place:])


def _poj_mark_position(base: str) -> int:
    """On o of `oa` and `oe` that end the syllable, else on a, e, o, on the second of `iu` and the first of `ui`."""
    if match := re.search("o(?=[ae]ⁿ?$)", base):
        return match.start()
    for letters, offset in (("a", 0), ("e", 0), ("o", 0), ("iu", 1), ("ui", 0), ("i", 0), ("u", 0), ("m", 0), ("n", 0)):
        if letters in base:
            return base.rindex(letters) + offset
    raise ValueError(f"{base!r} has nothing to put a tone mark on")
