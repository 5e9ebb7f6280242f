"""Tone sandhi of Tai-lo syllables: from the citation tones that are written to the surface tones that are spoken.

In a tone group every syllable but the last changes; a syllable before a neutral one keeps its tone (`X--Y`), and the
neutral one loses its own. A final -h drops where its syllable changes, so the tone found there is an open one.

| final        | change                                       | before 仔                    |
|--------------|----------------------------------------------|------------------------------|
| open, nasal  | 1>7 7>3 3>2 2>1, 5>7 (south) or 5>3 (north)  | 1>7 2>1 3>1 5>7 7>7          |
| -p -t -k     | 4>8 8>4                                      | 4>8 8>4                      |
| -h           | 4>2 8>3                                      | 4>1 8>7                      |

First syllable of a tripled adjective: 1/5/7/8>9, the others as usual. A tone without a rule (6, 9, ...) stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from icefall_ext.text.tailo import Syllable, Word

NEUTRAL = 0
# Chao digits, 5 high to 1 low; a single one is short. Most of Taiwan has no 6: this is the level it keeps in Lo̍k-káng.
CONTOURS = {NEUTRAL: "21", 1: "44", 2: "53", 3: "21", 4: "32", 5: "24", 6: "22", 7: "33", 8: "4", 9: "35"}

Tone5 = Literal["south", "north"]

_SMOOTH = {1: 7, 7: 3, 3: 2, 2: 1}
_TONE5 = {"south": 7, "north": 3}
_STOP = {4: 8, 8: 4}
_GLOTTAL = {4: 2, 8: 3}
_SMOOTH_BEFORE_A = {1: 7, 2: 1, 3: 1, 5: 7, 7: 7}
_GLOTTAL_BEFORE_A = {4: 1, 8: 7}
_TRIPLED = {1: 9, 5: 9, 7: 9, 8: 9}


def changed_tone(syllable: Syllable, *, tone5: Tone5 = "south", before_a: bool = False, tripled: bool = False) -> int:
    """The tone of `syllable` in front of another one."""
    tone, last = syllable.tone, syllable.final[-1]
    if tripled and tone in _TRIPLED:
        return _TRIPLED[tone]
    if last == "h":
        return (_GLOTTAL_BEFORE_A if before_a else _GLOTTAL).get(tone, tone)
    if last in "ptk":
        return _STOP.get(tone, tone)
    if before_a:
        return _SMOOTH_BEFORE_A.get(tone, tone)
    return _TONE5[tone5] if tone == 5 else _SMOOTH.get(tone, tone)


def loses_glottal_stop(syllable: Syllable, surface: int) -> bool:
    """Whether the -h of `syllable` is not spoken: where it changed into a tone of the open syllables."""
    return syllable.final[-1] == "h" and surface not in (NEUTRAL, 4, 8)


def sandhi(
    group: Sequence[Syllable],
    *,
    tone5: Tone5 = "south",
    diminutives: Collection[int] = (),
    tripled: Collection[int] = (),
) -> list[int]:
    """Surface tones of one tone group, NEUTRAL for neutral syllables.

    `diminutives` are the places of 仔 (the syllable before it takes its own rule, 仔 itself changes as any tone 2);
    `tripled` are those of the first syllables of tripled adjectives.
    """
    if tone5 not in _TONE5:
        raise ValueError(f"tone5 is {tone5!r}; it is 'south' or 'north'")
    surface = []
    for i, syllable in enumerate(group):
        following = group[i + 1] if i + 1 < len(group) else None
        if syllable.neutral:
            surface.append(NEUTRAL)
        elif following is None or following.neutral:
            surface.append(syllable.tone)
        else:
            surface.append(changed_tone(syllable, tone5=tone5, before_a=i + 1 in diminutives, tripled=i in tripled))
    return surface


def diminutives_of(word: Word) -> list[int]:
    """Places of 仔 by the spelling: an á that is not the first syllable of its word."""
    return [i for i, s in enumerate(word.syllables) if i and s.base == "a" and s.tone == 2 and not s.neutral]


def tripled_of(word: Word) -> list[int]:
    """[0] when the word is one syllable said three times."""
    return [0] if len(word.syllables) == 3 and len(set(word.syllables)) == 1 else []


def sandhi_of_words(words: Iterable[Word], *, tone5: Tone5 = "south") -> list[int]:
    """`sandhi` of a tone group given as words; 仔 and tripled adjectives are found by their spelling."""
    group: list[Syllable] = []
    diminutives: set[int] = set()
    tripled: set[int] = set()
    for word in words:
        diminutives.update(len(group) + i for i in diminutives_of(word))
        tripled.update(len(group) + i for i in tripled_of(word))
        group.extend(word.syllables)
    return sandhi(group, tone5=tone5, diminutives=diminutives, tripled=tripled)
