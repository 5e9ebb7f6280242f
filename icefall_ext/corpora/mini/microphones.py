"""What a microphone makes of a voice: distance and room, frequency response, and noise of its own.

Room and response are one filter, applied to blocks in the frequency domain (overlap-save). The noise of a session
is made once, four seconds that close into a circle, and every utterance begins somewhere else in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from icefall_ext.corpora.mini.dice import Dice, seed_of, white_noise
from icefall_ext.corpora.mini.synth import RATE, VOWEL_LEVEL


@dataclass(frozen=True)
class Microphone:
    name: str  # the folder
    channel: str  # NN in the file names
    low_cut: float  # Hz
    peak: tuple[float, float, float]  # Hz, width in Hz, dB
    high_cut: float  # Hz
    noise_db: float  # relative to a vowel
    hum_db: float  # relative to the noise
    room_db: float  # reverberation relative to the direct sound


MICROPHONES = (
    Microphone("condenser", "03", 70, (5000, 3000, 2.0), 7800, noise_db=-48, hum_db=-14, room_db=-16),
    Microphone("lavalier", "02", 110, (750, 350, 5.0), 6200, noise_db=-34, hum_db=-10, room_db=-11),
)
_BLOCK, _TAIL = 16384, 4096  # samples of a block, and of the filter
_AHEAD = 256  # samples of the filter before its peak: responses without phase reach both ways
_HOP = _BLOCK - _TAIL
_NOISE = 1 << 16
_LOUDEST = 0.9


@dataclass(frozen=True)
class Session:
    """One speaker in one room, in front of all microphones at once."""

    seed: int
    reverberation_s: float  # until the sound has fallen by 60 dB
    room: float  # level of the reverberation, 1 is usual
    noise: float  # 1 is usual
    gain: float


def make_session(seed: int, folder: str) -> Session:
    dice = Dice(seed, "session", folder)
    return Session(
        seed=seed_of(seed, "room", folder),
        reverberation_s=dice.between(0.08, 0.22),
        room=2 ** dice.bell(0.0, 0.7),
        noise=2 ** dice.bell(0.0, 0.7),
        gain=2 ** dice.bell(0.0, 0.35),
    )


def record(speech: np.ndarray, session: Session, microphones: tuple[Microphone, ...], seed: int) -> list[np.ndarray]:
    """16-bit samples for each microphone, as long as `speech`."""
    blocks = -(-len(speech) // _HOP)
    padded = np.zeros(_TAIL + blocks * _HOP)
    padded[_TAIL - _AHEAD : _TAIL - _AHEAD + len(speech)] = speech * session.gain
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _BLOCK)[::_HOP])
    recorded = []
    for microphone in microphones:
        heard = np.fft.irfft(spectra * _response(microphone, session), _BLOCK)[:, _TAIL:].ravel()[: len(speech)]
        start = Dice(seed, microphone.name).below(_NOISE)
        noise = np.resize(np.roll(_noise(microphone, session), -start), len(speech))
        recorded.append(_sixteen_bits(heard + noise))
    return recorded


def _sixteen_bits(signal: np.ndarray) -> np.ndarray:
    """A level that would clip is turned down, as the person at the desk would have done."""
    loudest = np.abs(signal).max(initial=0.0)
    return np.rint(signal * (32767 * min(1.0, _LOUDEST / max(loudest, 1e-9)))).astype("<i2")


@lru_cache(maxsize=4)
def _response(microphone: Microphone, session: Session) -> np.ndarray:
    """Direct sound, then from 4 ms on noise that dies away; through the capsule."""
    time = np.arange(_TAIL) / RATE
    room = white_noise(session.seed + int(microphone.channel), _TAIL) * 10 ** (-3 * time / session.reverberation_s)
    room[: RATE * 4 // 1000] = 0
    room *= 10 ** (microphone.room_db / 20) * session.room / np.sqrt(np.sum(room**2))
    room[0] = 1
    heard = np.fft.irfft(np.fft.rfft(room, _BLOCK) * _capsule(microphone), _BLOCK)
    return np.fft.rfft(np.roll(heard, _AHEAD)[:_TAIL], _BLOCK)


@cache
def _capsule(microphone: Microphone) -> np.ndarray:
    hertz = np.fft.rfftfreq(_BLOCK, 1 / RATE)
    low = hertz / microphone.low_cut
    low_cut = -(low**2) / (1 - low**2 + 1j * np.sqrt(2) * low)
    centre, width, gain_db = microphone.peak
    return low_cut * 10 ** (gain_db / 20 / (1 + ((hertz - centre) / width) ** 2)) * _high_cut(microphone, hertz)


@lru_cache(maxsize=4)
def _noise(microphone: Microphone, session: Session) -> np.ndarray:
    shape, hum = _noise_of_its_own(microphone)
    white = white_noise(session.seed - int(microphone.channel), 2 * len(shape)).reshape(2, -1)
    noise = np.fft.irfft((white[0] + 1j * white[1]) * shape, _NOISE) + hum
    return noise * (VOWEL_LEVEL * session.noise * 10 ** (microphone.noise_db / 20))


@cache
def _noise_of_its_own(microphone: Microphone) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of the noise, so scaled that its RMS is 1, and samples of the hum of the mains."""
    hertz = np.fft.rfftfreq(_NOISE, 1 / RATE)
    shape = ((200 / np.maximum(hertz, 30)) ** 0.5 + 0.15) * _high_cut(microphone, hertz)
    turns = 2 * np.pi * np.arange(_NOISE) / _NOISE
    hum = sum(np.sin(round(harmonic * _NOISE / RATE) * turns) for harmonic in (60, 120, 180))
    return shape * (_NOISE / 2 / np.sqrt(np.sum(shape**2))), hum * 10 ** (microphone.hum_db / 20)


def _high_cut(microphone: Microphone, hertz: np.ndarray) -> np.ndarray:
    return 1 / (1 + (hertz / microphone.high_cut) ** 8)
