"""F0 measured from samples, without looking at what the synthesizer meant: a check, not a pitch tracker.

Normalised autocorrelation of 40 ms windows, divided by that of the window itself; the first peak near the highest
one, so that a multiple of the period does not win.
"""

from __future__ import annotations

import numpy as np

from icefall_ext.corpora.mini.synth import RATE

HOP_S = 0.005
_WINDOW = 640
_FFT = 2048
_VOICED = 0.45  # of the energy explained by one period
_SILENT = 0.02  # of the loudest window's amplitude


def measure_pitch(samples: np.ndarray, lowest: float = 60.0, highest: float = 420.0) -> np.ndarray:
    """Hz every 5 ms, NaN where there is no voice; frame i is centred on sample 80 i."""
    signal = np.pad(samples.astype(float), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[:: int(HOP_S * RATE)]
    window = np.hanning(_WINDOW)
    spectra = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * window, _FFT)) ** 2
    spectra[:, : int(50 * _FFT / RATE)] = 0  # hum and rumble
    spectra[:, int(1200 * _FFT / RATE) :] = 0
    similarity = np.fft.irfft(spectra)[:, : _WINDOW // 2 + 1]
    energy = similarity[:, 0].copy()
    similarity = similarity / np.maximum(energy[:, None], 1e-9)
    similarity /= np.fft.irfft(np.abs(np.fft.rfft(window, _FFT)) ** 2)[: _WINDOW // 2 + 1] / np.sum(window**2)
    shortest, longest = int(RATE / highest), min(int(RATE / lowest), _WINDOW // 2 - 1)
    lags = np.arange(shortest, longest)
    before, middle, after = (similarity[:, shortest + step : longest + step] for step in (-1, 0, 1))
    is_peak = (middle >= before) & (middle > after)
    best = np.where(is_peak, middle, -1).max(axis=1)
    first = (is_peak & (middle > 0.9 * best[:, None])).argmax(axis=1)
    row = np.arange(len(frames))
    left, peak, right = (similarity[row, lags[first] + step] for step in (-1, 0, 1))
    bend = left - 2 * peak + right
    offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1), 0)
    voiced = (best > _VOICED) & (energy > _SILENT**2 * energy.max(initial=1e-9))
    return np.where(voiced, RATE / (lags[first] + offset), np.nan)
