"""Common Voice sentences in nan-tw: Han text with its reading in parentheses, `我欲去 (guá beh khì)`.

Parentheses are ASCII or full-width, and one kind may close the other. `(a | b)` or `(a / b)` gives readings by accent,
of which the first is taken. The reading is Tai-lo or POJ, and the sentence seldom says which: the spelling does.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from icefall_ext.corpora import reasons

_OPEN, _CLOSE, _GROUP = "(（", ")）", "\0"
_LATIN = ("LATIN", "MODIFIER", "SUPERSCRIPT")  # beginnings of the names of its letters, `ⁿ` among them
_POJ_ONLY = re.compile(r"\u0358|\u207f|ch|o[ae]|e(?:ng|k)(?![a-z])")
_TAILO_ONLY = re.compile(r"ts|oo|nn|u[ae]|i(?:ng|k)(?![a-z])")


class Sentence(NamedTuple):
    text: str  # what stands outside the parentheses
    reading: str  # the first reading, "" without one
    problem: str  # one of the reasons, "" if there is none


def split_sentence(sentence: str) -> Sentence:
    """An unbalanced sentence comes back whole: what is text and what is reading cannot be told."""
    outside, inside, depth, deepest = "", "", 0, 0
    for character in sentence:
        if character in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
            if depth == 1:
                inside += _GROUP
        elif character in _CLOSE:
            depth -= 1
            outside += " "
            if depth < 0:
                break
        elif depth:
            inside += character
        else:
            outside += character
    if depth:
        return Sentence(sentence, "", reasons.UNBALANCED_PARENTHESES)
    text = " ".join(outside.split())
    if not deepest:
        return Sentence(text, "", reasons.NO_ROMANISATION)
    if deepest > 1:
        return Sentence(text, "", reasons.NESTED_PARENTHESES)
    groups = [" ".join(re.split(r"[|｜/／]", group)[0].split()) for group in inside.split(_GROUP)[1:]]
    if not all(map(_is_romanised, groups)):
        return Sentence(sentence, "", reasons.NOT_ROMANISATION)
    return Sentence(text, " ".join(groups), "")


def _is_romanised(group: str) -> bool:
    """Letters of the Latin script and no other letters."""
    letters = [c for c in group if unicodedata.category(c)[0] == "L"]
    return bool(letters) and all(unicodedata.name(c, "").startswith(_LATIN) for c in letters)


def looks_like_poj(reading: str, variant: str = "") -> bool:
    """By what the sentence is declared to be, else by letters that only one of the two uses, else Tai-lo."""
    if "pehoeji" in variant.lower():
        return True
    if "tailo" in variant.lower():
        return False
    bare = "".join(
        c for c in unicodedata.normalize("NFD", reading.lower()) if c == "\u0358" or not unicodedata.combining(c)
    )
    return len(_POJ_ONLY.findall(bare)) > len(_TAILO_ONLY.findall(bare))
