"""A source-filter synthesizer: what the vocal folds and the tract do over time, turned into samples.

Excitation: a glottal pulse read from a band-limited table at the phase of F0, and noise at the glottis. Both pass a
cascade of five formants and a nasal pole and zero, which move every 10 ms: frames of 20 ms are filtered in the
frequency domain by `H = numerator / rfft(denominator polynomial)` and overlap-added, with 10 ms of room for the
filter to ring. Noise made in the mouth (bursts, frication) passes a fixed spectrum per place of articulation
instead and joins before the inverse FFT. Frames without excitation cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from icefall_ext.corpora.mini.dice import white_noise

RATE = 16_000
TICK = RATE // 1000  # amplitudes and F0 are given every millisecond and interpolated between
HOP, WINDOW, FFT = 160, 320, 480
NASAL_POLE = 270.0  # Hz; a zero on the same frequency cancels it: an oral sound
_FORMANT_WIDTHS = np.array([70.0, 90.0, 130.0, 200.0, 280.0])
_NASAL_WIDTH = 90.0
_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # two of them, a hop apart, sum to one
_DELAY = np.exp(-2j * np.pi * np.arange(FFT // 2 + 1) / FFT)  # z^-1
_BLOCK = 96  # frames at a time: what they need stays near the processor
_TABLE = 1024
VOWEL_LEVEL = 0.05  # RMS of a vowel of loudness 1, where full scale is 1


@dataclass(frozen=True)
class Voice:
    """The physics of one speaker."""

    pitch: float  # Hz, the middle of the speaker's range
    tract: float  # formant frequencies relative to a man's; 1.17 for a typical woman
    formant_offsets: tuple[float, float, float] = (1.0, 1.0, 1.0)
    open_quotient: float = 0.6  # of the glottal cycle: pressed 0.4, breathy 0.8
    tilt: float = 2500.0  # Hz, where the source begins to fall off more steeply
    breath: float = 0.03  # noise beside the pulse
    jitter: float = 0.006
    width: float = 1.0  # formant bandwidths


class Track:
    """A level that steps from phone to phone over short ramps."""

    def __init__(self) -> None:
        self.times, self.levels = [0.0], [0.0]

    def step(self, time: float, level: float, ramp: float) -> None:
        """Be half way to `level` at `time`."""
        start = max(time - ramp / 2, self.times[-1])
        self.times += (start, max(time + ramp / 2, start))
        self.levels += (self.levels[-1], level)

    def every(self, times: np.ndarray) -> np.ndarray:
        return np.interp(times, self.times, self.levels)


@dataclass
class Score:
    """What to play."""

    seconds: float = 0.0
    voice: Track = field(default_factory=Track)
    breath: Track = field(default_factory=Track)
    hiss: Track = field(default_factory=Track)
    # From a time on, the spectrum of the hiss: centre in Hz, width in Hz, floor.
    shapes: list[tuple[float, tuple[float, float, float]]] = field(default_factory=list)
    formants: list[tuple[float, ...]] = field(default_factory=list)  # time, F1, F2, F3, nasal zero

    def tract_at(self, time: float, f1: float, f2: float, f3: float, nasal_zero: float = NASAL_POLE) -> None:
        last = self.formants[-1][0] if self.formants else 0.0
        self.formants.append((max(time, last), f1, f2, f3, nasal_zero))


def samples_of(score: Score) -> int:
    """How many samples `render` makes of it: whole hops."""
    return int(score.seconds * 1000) * TICK // HOP * HOP


def render(score: Score, pitch: np.ndarray, voice: Voice, seed: int) -> np.ndarray:
    """Samples of the lips' pressure wave. `pitch` is F0 in Hz at every millisecond of the score."""
    ticks = samples_of(score) // TICK
    times = np.arange(ticks) / 1000
    voiced, breath, hiss = (track.every(times) for track in (score.voice, score.breath, score.hiss))
    noise = white_noise(seed, ticks * TICK + ticks)
    noise, wobble = noise[: ticks * TICK], noise[ticks * TICK :]
    sounding = voiced + np.append(voiced[1:], 0) > 0
    source = _smooth(voiced) * _pulses(pitch[:ticks] * (1 + voice.jitter * wobble), sounding, voice)
    source += _smooth(breath + voice.breath * voiced) * noise
    mouth_noise = _in_hops(_smooth(hiss) * noise)
    source = _in_hops(source)
    is_speech, is_hiss = _active_frames(voiced + breath), _active_frames(hiss)
    frames = ticks * TICK // HOP
    output = np.zeros((frames + FFT // HOP, HOP))
    for start in range(0, frames, _BLOCK):
        speech, frication = (start + np.flatnonzero(active[start : start + _BLOCK]) for active in (is_speech, is_hiss))
        spectra = np.zeros((_BLOCK, FFT // 2 + 1), complex)
        if len(speech):
            spectra[speech - start] = _spectra(source, speech) * _tract_response(score, speech, voice)
        if len(frication):
            spectra[frication - start] += _spectra(mouth_noise, frication) * _shape_response(score, frication, voice)
        _overlap_add(output, spectra, start + np.flatnonzero((is_speech | is_hiss)[start : start + _BLOCK]), start)
    return output.ravel()[: frames * HOP] * VOWEL_LEVEL


def _smooth(per_tick: np.ndarray) -> np.ndarray:
    """From one value a millisecond to one a sample, along straight lines."""
    following = np.append(per_tick[1:], per_tick[-1])
    return (per_tick[:, None] + (following - per_tick)[:, None] * (np.arange(TICK) / TICK)).ravel()


def _active_frames(amplitude: np.ndarray) -> np.ndarray:
    blocks = np.append(amplitude.reshape(-1, HOP // TICK).max(axis=1), 0.0)
    return np.maximum(blocks[:-1], blocks[1:]) > 1e-4


def _in_hops(signal: np.ndarray) -> np.ndarray:
    return np.append(signal, np.zeros(WINDOW - HOP)).reshape(-1, HOP)


@lru_cache(maxsize=4)
def _pulse_tables(open_quotient: float, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """One cycle of the glottal flow's derivative (flow = t^2 - t^3 while open) for rising numbers of harmonics.

    Returns the F0 up to which each row's harmonics stay below half the sampling rate, descending, and the rows.
    """
    phase = np.arange(_TABLE) / _TABLE
    opening = np.clip(phase / open_quotient, 0, 1)
    harmonics = np.fft.rfft((2 * opening - 3 * opening**2) * (opening < 1))
    harmonics[0] = 0
    limits, rows = [], []
    for count in sorted({round(16 * 2 ** (step / 3)) for step in range(12)}):
        f0 = 0.49 * RATE / count
        kept = harmonics / (1 + 1j * f0 * np.arange(len(harmonics)) / tilt)
        kept[count + 1 :] = 0
        row = np.fft.irfft(kept, _TABLE)
        limits.append(f0)
        rows.append(np.append(row, row[0]) / np.sqrt(np.mean(row**2)))
    return np.array(limits), np.array(rows)


def _pulses(pitch: np.ndarray, voiced: np.ndarray, voice: Voice) -> np.ndarray:
    """The glottal wave at F0 `pitch`; zero in the milliseconds that are not `voiced`.

    The row of the table changes between two cycles only: there the folds are closed and no click is heard.
    """
    limits, rows = _pulse_tables(voice.open_quotient, voice.tilt)
    cycles = (np.cumsum(_smooth(pitch)) * (1 / RATE)).reshape(-1, TICK)
    starts = np.searchsorted(cycles[:, 0], np.arange(int(cycles[-1, -1]) + 1))
    row = np.clip(len(limits) - 1 - np.searchsorted(limits[::-1], pitch[np.maximum(starts - 1, 0)]), 0, len(limits) - 1)
    cycles = cycles[voiced]
    number = cycles.astype(np.int64)
    place = (cycles - number) * _TABLE
    whole = place.astype(np.int64)
    place -= whole
    whole += (row * (_TABLE + 1))[number]
    flat = rows.ravel()
    low = flat[whole]
    wave = np.zeros((len(pitch), TICK))
    wave[voiced] = low + (flat[whole + 1] - low) * place
    return wave.ravel()


def _spectra(signal: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """`signal` as (frames + 1, HOP), so that a frame and its successor make a window."""
    windows = np.concatenate((signal[frames], signal[frames + 1]), axis=1)
    return np.fft.rfft(windows * _WINDOW, FFT)


def _section(frequency: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The polynomial 1 + b z + c z^2 of a resonance (Hz, Hz)."""
    radius = np.exp(-math.pi / RATE * width)
    return -2 * radius * np.cos(2 * math.pi / RATE * frequency), radius * radius


def _tract_response(score: Score, frames: np.ndarray, voice: Voice) -> np.ndarray:
    """(frames, FFT // 2 + 1): the cascade, each resonance with unit gain at 0 Hz, as in Klatt's synthesizer."""
    centres = (frames * HOP + WINDOW / 2) / RATE
    keys = np.array(score.formants)
    f1, f2, f3, zero = (np.interp(centres, keys[:, 0], keys[:, column]) for column in range(1, 5))
    nasality = np.minimum((zero - NASAL_POLE) / 200, 1.0)
    offsets, widths = voice.formant_offsets, _FORMANT_WIDTHS * voice.width
    resonances = [
        (f1 * voice.tract * offsets[0], widths[0] * (1 + nasality)),
        (f2 * voice.tract * offsets[1], widths[1] * (1 + 0.5 * nasality)),
        (f3 * voice.tract * offsets[2], widths[2]),
        (np.full_like(f1, 3500 * voice.tract**0.8), widths[3]),
        (np.full_like(f1, 4600 * voice.tract**0.8), widths[4]),
        (np.full_like(f1, NASAL_POLE), _NASAL_WIDTH),
    ]
    denominator, gain = np.zeros((len(frames), 13)), 1.0
    denominator[:, 0] = 1
    for frequency, width in resonances:
        b, c = _section(np.minimum(frequency, 0.47 * RATE), width)
        longer = denominator.copy()
        longer[:, 1:] += b[:, None] * denominator[:, :-1]
        longer[:, 2:] += np.reshape(c, (-1, 1)) * denominator[:, :-2]
        denominator, gain = longer, gain * (1 + b + c)
    b, c = _section(zero, _NASAL_WIDTH)
    antiresonance = 1 + b[:, None] * _DELAY + c * _DELAY**2
    return (gain / (1 + b + c))[:, None] * antiresonance / np.fft.rfft(denominator, FFT)


def _shape_response(score: Score, frames: np.ndarray, voice: Voice) -> np.ndarray:
    distinct = sorted({shape for _, shape in score.shapes})
    hertz = np.arange(FFT // 2 + 1) * (RATE / FFT)
    scale = voice.tract**0.7
    rows = np.array([1 / (1 + ((hertz - f * scale) / width) ** 2) ** 1.5 + floor for f, width, floor in distinct])
    starts = np.array([start for start, _ in score.shapes])
    centres = (frames * HOP + WINDOW / 2) / RATE
    playing = np.clip(np.searchsorted(starts, centres, side="right") - 1, 0, len(starts) - 1)
    return rows[np.array([distinct.index(shape) for _, shape in score.shapes])[playing]]


def _overlap_add(output: np.ndarray, spectra: np.ndarray, frames: np.ndarray, start: int) -> None:
    parts = FFT // HOP
    pieces = np.fft.irfft(spectra[frames - start], FFT).reshape(-1, parts, HOP)
    for part in range(parts):
        output[frames + part] += pieces[:, part]
