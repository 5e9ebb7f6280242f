"""Tai-lo to POJ (白話字), for the labels that carry both."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from icefall_ext.text.tailo import Syllable, Word
from icefall_ext.text.tailo_spelling import MARKS

_BREVE = "\u0306"  # tone 9; the other marks are the same
_SPELLING = (("^ts", "ch"), ("oo", "o\u0358"), ("nnh$", "hⁿ"), ("nn$", "ⁿ"), ("u(?=[ae])", "o"), ("i(?=(ng|k)$)", "e"))


def to_poj(word: Word) -> str:
    return "".join(
        join + (_syllable(syllable).capitalize() if capitals & 1 else _syllable(syllable))
        for join, syllable, capitals in zip(word.joins, word.syllables, word.capitals)
    )


@lru_cache(maxsize=1 << 12)
def _syllable(syllable: Syllable) -> str:
    base = syllable.base
    for pattern, poj in _SPELLING:
        base = re.sub(pattern, poj, base)
    place = _mark_position(base) + 1
    mark = _BREVE if syllable.tone == 9 else MARKS.get(syllable.tone, "")
    return unicodedata.normalize("NFC", base[:place] + mark + base[place:])


def _mark_position(base: str) -> int:
    """On o of `oa` and `oe` that end the syllable, else on a, e, o, on the second of `iu` and the first of `ui`."""
    if match := re.search("o(?=[ae]ⁿ?$)", base):
        return match.start()
    for letters, offset in (("a", 0), ("e", 0), ("o", 0), ("iu", 1), ("ui", 0), ("i", 0), ("u", 0), ("m", 0), ("n", 0)):
        if letters in base:
            return base.rindex(letters) + offset
    raise ValueError(f"{base!r} has nothing to put a tone mark on")
