"""One sentence of one speaker: planned (text, sandhi, timing, everything but samples), then rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from icefall_ext.corpora.mini.articulation import Aligned, Spoken, articulate
from icefall_ext.corpora.mini.dice import Dice, seed_of
from icefall_ext.corpora.mini.grammar import Sentence, make_sentence
from icefall_ext.corpora.mini.hokkien import Said, say
from icefall_ext.corpora.mini.lexicon import NICKNAME_PREFIX
from icefall_ext.corpora.mini.microphones import Microphone, Session, record
from icefall_ext.corpora.mini.prosody import melody
from icefall_ext.corpora.mini.speakers import Speaker
from icefall_ext.corpora.mini.synth import RATE, Score, render, samples_of

_SILENCE = (0.25, 0.6)  # s, before and after


@dataclass(frozen=True)
class Performance:
    """What any language comes down to: syllables in time, and a seed for everything that is left to chance."""

    name: str
    spoken: list[Spoken]
    aligned: list[Aligned]
    score: Score

    @property
    def samples(self) -> int:
        return samples_of(self.score)

    @property
    def seconds(self) -> float:
        return self.samples / RATE


@dataclass(frozen=True)
class Utterance:
    sentence: Sentence
    said: Said
    performance: Performance


def plan_utterance(seed: int, speaker: Speaker, number: int) -> Utterance:
    name = f"{seed}/{speaker.folder}/{number}"
    dice = Dice(name)
    sentence = make_sentence(dice)
    said = say(sentence, speaker.tone5, speaker.rate * dice.bell(1.0, 0.05), dice)
    return Utterance(sentence, said, perform(name, said.spoken, speaker, dice))


def perform(
    name: str, spoken: list[Spoken], speaker: Speaker, dice: Dice, silence: tuple[float, float] = _SILENCE
) -> Performance:
    for syllable in spoken:
        syllable.loudness *= speaker.loudness
    score, aligned = articulate(spoken, dice.between(*silence), dice.between(*silence))
    return Performance(name, spoken, aligned, score)


def melody_of(performance: Performance, speaker: Speaker) -> np.ndarray:
    """F0 in Hz for every millisecond."""
    dice = Dice(performance.name, "melody")
    seconds = performance.score.seconds
    return melody(performance.spoken, performance.aligned, seconds, speaker.voice.pitch, speaker.span, dice)


def recordings(
    performance: Performance, speaker: Speaker, session: Session, microphones: tuple[Microphone, ...]
) -> list[np.ndarray]:
    """16-bit samples, one array for each microphone."""
    pitch = melody_of(performance, speaker)
    speech = render(performance.score, pitch, speaker.voice, seed_of(performance.name, "noise"))
    return record(speech, session, microphones, seed_of(performance.name, "microphones"))


def truth(utterance: Utterance) -> dict[str, Any]:
    """What was really said: tones after sandhi, tone groups, the time of every syllable and phone, and the slots."""
    said, aligned = utterance.said, utterance.performance.aligned
    return {
        "samples": utterance.performance.samples,
        "syllables": [
            {
                "tailo": syllable.number(),
                "neutral": syllable.neutral,
                "surface": surface,
                "group": group,
                "rime": [round(time, 3) for time in times.rime],
                "phones": [[name, round(start, 3), round(end, 3)] for name, start, end in times.phones],
            }
            for syllable, surface, group, times in zip(said.syllables, said.surface, said.group, aligned)
        ],
        "slots": slots(utterance.sentence),
    }


def slots(sentence: Sentence) -> list[dict[str, Any]]:
    """Where nothing but the tone decides: the place in the Han-Lo text (code points) and among the syllables."""
    found, syllable = [], 0
    places = [i + 1 for i, character in enumerate(sentence.hanlo()) if character == NICKNAME_PREFIX]
    for group in sentence.groups:
        for place, entry in enumerate(group.words):
            if place == group.slot:
                name = entry.word.syllables[1]
                found.append({"syllable": syllable + 1, "tailo": name.number(), "han": entry.han[1]})
            syllable += len(entry.word.syllables)
    return [{"character": place, **slot} for place, slot in zip(places, found)]
