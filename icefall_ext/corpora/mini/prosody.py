"""The melody of an utterance: F0 in Hz for every millisecond from the contours of its syllables.

A contour sets five targets across the rime, in Chao digits (1 low, 5 high) on a scale of the speaker's own; between
rimes the target moves in a straight line. The phrase declines and starts anew after a pause. What the folds do lags
behind what they aim at: the targets pass a causal filter, so that a syllable begins where the one before it ended
(carry-over).
"""

from __future__ import annotations

import numpy as np

from icefall_ext.corpora.mini.articulation import Aligned, Spoken
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.phones import CONSONANTS

_TARGETS = np.linspace(0, 1, 5)
_DECLINATION = 2.6  # semitones over a phrase of usual length
_PHRASE_PAUSE = 0.12  # s
_LAG = 0.014  # s, of each of the two stages of the filter
_ANTICIPATION = 20  # ms: the targets are aimed at this much ahead
_AFTER_VOICELESS, _AFTER_VOICED = 0.7, -0.5  # semitones on the first target


def _lag_filter() -> np.ndarray:
    time = np.arange(100) / 1000
    response = time * np.exp(-time / _LAG)
    return response / response.sum()


_FILTER = _lag_filter()


def melody(
    spoken: list[Spoken], aligned: list[Aligned], seconds: float, pitch: float, span: float, dice: Dice
) -> np.ndarray:
    """`pitch` in Hz is Chao 3, `span` the semitones between 1 and 5."""
    times, targets = [0.0], [0.0]
    register = dice.bell(0.0, 0.7)
    for phrase in _phrases(spoken):
        start, end = aligned[phrase[0]].start, aligned[phrase[-1]].end
        fall = _DECLINATION * min(1.0, (end - start) / 2.0)
        for place in phrase:
            syllable, (onset, offset) = spoken[place], aligned[place].rime
            moments = onset + _TARGETS * (offset - onset)
            contour = np.interp(_TARGETS, np.linspace(0, 1, len(syllable.contour)), syllable.contour)
            heights = (contour - 3) / 4 * span * dice.between(0.92, 1.08) + register + dice.bell(0.0, 0.35)
            heights += fall * (0.5 - (moments - start) / (end - start))
            heights[0] += _perturbation(syllable)
            times.extend(moments)
            targets.extend(heights)
    # The filter starts on the first target, and holds the last one.
    grid = (np.arange(int(seconds * 1000) + len(_FILTER)) - len(_FILTER) + 1 + _ANTICIPATION) / 1000
    aimed = np.interp(grid, times[1:], targets[1:])
    return pitch * 2 ** (np.convolve(aimed, _FILTER, mode="valid") / 12)


def _phrases(spoken: list[Spoken]) -> list[list[int]]:
    phrases: list[list[int]] = [[]]
    for place, syllable in enumerate(spoken):
        if syllable.pause_s > _PHRASE_PAUSE and phrases[-1]:
            phrases.append([])
        phrases[-1].append(place)
    return phrases


def _perturbation(syllable: Spoken) -> float:
    if not syllable.onset:
        return 0.0
    onset = CONSONANTS[syllable.onset[-1]]
    if onset.is_sonorant:
        return 0.0
    return _AFTER_VOICED if onset.voiced else _AFTER_VOICELESS
