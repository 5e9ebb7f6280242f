"""The text of a cut that a model learns: Han-Lo, or Tai-lo in the tones that are written or those that are spoken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from icefall_ext.text import tailo
from icefall_ext.text.tailo_sandhi import NEUTRAL, sandhi_of_words
from icefall_ext.text.tailo_spelling import tone_can_be_written

SCRIPTS = ("tailo", "hanlo")
TONES = ("citation", "surface")


def text_of(cut: dict[str, Any], script: str, tones: str = "citation", tone5: str = "south") -> str | None:
    """Of a cut as in the manifest after the text stage; None where it has no text in that script."""
    supervisions = cut["supervisions"] if "tracks" not in cut else cut["tracks"][0]["cut"]["supervisions"]
    texts = [s.get("text") if script == "hanlo" else (s.get("custom") or {}).get("tailo") for s in supervisions]
    if not texts or not all(texts):
        return None
    text = " ".join(texts)
    return surface_text(text, tone5) if script == "tailo" and tones == "surface" else text


def surface_text(text: str, tone5: str = "south") -> str:
    """`gua2 si7 tai5-uan5-lang5` -> `gua1 si3 tai7-uan7-lang5`; an utterance is one tone group.

    A neutral syllable keeps what is written. A changed one keeps the -h that is not spoken (`tsih2`), so that it is
    known by its spelling; tone 1 cannot be written beside one, so there it goes (`toh4-a2` -> `to1-a2`).
    """
    words = tailo.parse(text).words
    spoken = iter(sandhi_of_words(words, tone5=tone5))
    return " ".join(_in_tones(word, [next(spoken) for _ in word.syllables]).number() for word in words)


def _in_tones(word: tailo.Word, tones: list[int]) -> tailo.Word:
    return replace(word, syllables=tuple(map(_in_tone, word.syllables, tones)))


def _in_tone(syllable: tailo.Syllable, tone: int) -> tailo.Syllable:
    if tone == NEUTRAL:
        return syllable
    final = syllable.final if tone_can_be_written(syllable.final, tone) else syllable.final.removesuffix("h")
    return replace(syllable, final=final, tone=tone)
