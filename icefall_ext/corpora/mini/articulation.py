"""From a sequence of syllables to a score for the synthesizer, with the time at which each phone sounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from icefall_ext.corpora.mini.phones import CONSONANTS, VOWELS, Consonant
from icefall_ext.corpora.mini.synth import NASAL_POLE, Score

_GLIDE = 0.045  # s: formants move from a consonant to a vowel
_NASAL_VOWEL_ZERO = 430.0
_HOLD = 0.06  # s: the silence of an unreleased stop
_CREAK = "q"  # glottal closure


@dataclass
class Spoken:
    """One syllable as it will be said; its pitch is in Chao digits, 1 low and 5 high."""

    onset: tuple[str, ...]
    nucleus: tuple[tuple[str, float], ...]  # vowel (or m, N) and its share of the rime
    coda: tuple[str, ...]  # p t k q are unreleased if `clipped`
    rime_s: float
    contour: tuple[float, ...]
    nasal: bool = False
    clipped: bool = False
    loudness: float = 1.0
    onset_scale: float = 1.0
    pause_s: float = 0.0  # silence before it


@dataclass
class Aligned:
    """Where a syllable lies in the audio, in seconds."""

    phones: list[tuple[str, float, float]] = field(default_factory=list)
    rime: tuple[float, float] = (0.0, 0.0)  # the part that carries the tone

    @property
    def start(self) -> float:
        return self.phones[0][1]

    @property
    def end(self) -> float:
        return self.phones[-1][2]


def articulate(syllables: list[Spoken], lead_s: float, tail_s: float) -> tuple[Score, list[Aligned]]:
    mouth = _Mouth(lead_s)
    aligned = [mouth.say(syllable, is_last=syllable is syllables[-1]) for syllable in syllables]
    mouth.rest(tail_s)
    return mouth.score, aligned


class _Mouth:
    def __init__(self, lead_s: float):
        self.score = Score()
        self.now = lead_s
        self._after_silence = True

    def rest(self, seconds: float) -> None:
        if seconds > 0:
            self.score.voice.step(self.now, 0.0, 0.06)
            self._after_silence = True
            self.now += seconds
        self.score.seconds = self.now

    def say(self, syllable: Spoken, is_last: bool) -> Aligned:
        self.rest(syllable.pause_s)
        aligned = Aligned()
        first = _target(syllable.nucleus[0][0])
        for name in syllable.onset:
            self._sound(aligned, name, syllable, first, syllable.onset_scale)
        start = self.now
        last = self._vowels(aligned, syllable)
        if syllable.clipped:
            aligned.rime = (start, self.now)
            self._clip(aligned, syllable.coda[-1], last, is_last)
        else:
            for name in syllable.coda:
                self._coda(aligned, name, syllable, last)
            aligned.rime = (start, self.now)
        return aligned

    def _sound(self, aligned: Aligned, name: str, syllable: Spoken, vowel: tuple, scale: float) -> None:
        """A consonant before a vowel, or a released one after it: hold, burst, frication, aspiration."""
        phone, score, start = CONSONANTS[name], self.score, self.now
        f1, f2, f3 = _yield(phone, vowel)
        zero = phone.nasal_zero or NASAL_POLE
        score.tract_at(start, f1, f2, f3, zero)
        score.voice.step(start, phone.voiced * syllable.loudness, 0.012)
        silent_hold = phone.closure and not phone.voiced
        self.now += phone.closure * (0.4 if silent_hold and self._after_silence else scale)
        if phone.closure:
            score.tract_at(self.now - 0.008, f1, f2, f3, zero)
        if phone.burst or phone.hiss:
            back = phone.back_noise is not None and vowel[1] < 1150
            score.shapes.append((self.now - 0.012, phone.back_noise if back else phone.noise))
        if phone.burst:
            score.hiss.step(self.now, phone.burst * syllable.loudness, 0.002)
            score.hiss.step(self.now + 0.009, phone.hiss * syllable.loudness, 0.01)
        if phone.hiss:
            if not phone.burst:
                score.hiss.step(self.now + 0.015, phone.hiss * syllable.loudness, 0.03)
            self.now += phone.hiss_s * scale
            score.tract_at(self.now - 0.01, f1, f2, f3, zero)
            score.hiss.step(self.now, 0.0, 0.02)
        if phone.aspiration_s:
            score.breath.step(self.now + 0.004, 0.6 * syllable.loudness, 0.012)
            if phone.follows == 1:
                score.tract_at(self.now, *vowel)
            self.now += phone.aspiration_s * scale
            score.breath.step(self.now + 0.006, 0.0, 0.03)
        elif phone.burst and not phone.voiced and not phone.hiss:
            self.now += 0.012
        aligned.phones.append((name, start, self.now))
        self._after_silence = False

    def _vowels(self, aligned: Aligned, syllable: Spoken) -> tuple:
        score = self.score
        sonorant_codas = sum(0.3 for name in syllable.coda if not syllable.clipped and CONSONANTS[name].nasal_zero)
        seconds = syllable.rime_s * (1 - min(sonorant_codas, 0.4))
        score.voice.step(self.now + 0.004, syllable.loudness, 0.016)
        target = (0.0, 0.0, 0.0)
        for position, (name, share) in enumerate(syllable.nucleus):
            start, self.now = self.now, self.now + seconds * share
            target = _target(name)
            zero = _NASAL_VOWEL_ZERO if syllable.nasal else NASAL_POLE
            if name in CONSONANTS:
                zero = CONSONANTS[name].nasal_zero
                score.voice.step(start + 0.01, 0.75 * syllable.loudness, 0.02)
            glide = min(_GLIDE if position == 0 else 0.09, 0.5 * (self.now - start))
            score.tract_at(start + glide, *target, zero)
            score.tract_at(self.now - min(0.03, 0.25 * (self.now - start)), *target, zero)
            aligned.phones.append((name, start, self.now))
        return target

    def _coda(self, aligned: Aligned, name: str, syllable: Spoken, vowel: tuple) -> None:
        phone = CONSONANTS[name]
        if not phone.nasal_zero:
            self._sound(aligned, name, syllable, vowel, 0.8)
            return
        start, self.now = self.now, self.now + syllable.rime_s * 0.3
        f1, f2, f3 = _yield(phone, vowel)
        self.score.voice.step(start, phone.voiced * syllable.loudness, 0.02)
        self.score.tract_at(start + 0.02, f1, f2, f3, phone.nasal_zero)
        self.score.tract_at(self.now - 0.01, f1, f2, f3, phone.nasal_zero)
        aligned.phones.append((name, start, self.now))

    def _clip(self, aligned: Aligned, name: str, vowel: tuple, is_last: bool) -> None:
        """p t k close the mouth without a release and q the glottis: the vowel ends at once."""
        score = self.score
        if name != _CREAK:
            score.tract_at(self.now, *_yield(CONSONANTS[name], vowel))
        score.voice.step(self.now - 0.004, 0.0, 0.012)
        hold = 0.02 if is_last else _HOLD if name != _CREAK else 0.035
        aligned.phones.append((name, self.now, self.now + hold))
        self.now += hold
        self._after_silence = False


def _target(name: str) -> tuple[float, float, float]:
    return VOWELS[name] if name in VOWELS else CONSONANTS[name].locus


def _yield(phone: Consonant, vowel: tuple[float, float, float]) -> tuple[float, float, float]:
    """Where the formants are when the consonant meets this vowel."""
    f1 = phone.locus[0] if phone.follows < 1 else vowel[0]
    return f1, *(own + phone.follows * (neighbour - own) for own, neighbour in zip(phone.locus[1:], vowel[1:]))
