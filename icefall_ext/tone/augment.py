"""Augmentation of waveforms that leaves pitch and time alone: level, colour of the channel, noise.

Speed perturbation by resampling shifts the pitch and with it the tone, so it has no place here. All is drawn from
torch's generator: the same for the same batch of the same training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_ext.encoders.frames import valid_positions
from icefall_ext.tone.spec import AugmentConfig

_BANDS = 8
_ROUND = 1024  # transforms are of a multiple of this, never of a length with a large prime factor; 64 ms


def augment(waveforms: Tensor, lengths: Tensor, cfg: AugmentConfig) -> Tensor:
    """(B, N), (B,) -> (B, N); what lies beyond an utterance stays 0."""
    count, size, device = len(waveforms), waveforms.shape[1], waveforms.device
    beyond = ~valid_positions(lengths.to(device), size)
    length = (size // _ROUND + 2) * _ROUND  # zeros at the end, for what the filter smears over it
    spectrum = torch.fft.rfft(waveforms.masked_fill(beyond, 0.0), n=length)
    spectrum *= _curve(count, length, cfg.colour_db, device)
    heard = torch.fft.irfft(spectrum, n=length)[:, :size].masked_fill(beyond, 0.0)
    noisy = torch.nonzero(torch.rand(count, device=device) < cfg.noise_prob).squeeze(1)
    if len(noisy):
        heard[noisy] += _noise(heard[noisy], lengths.to(device)[noisy], beyond[noisy], length, cfg.noise_snr)
    return heard * 10 ** (cfg.gain_db * (2 * torch.rand(count, 1, device=device) - 1) / 20)


def _noise(speech: Tensor, lengths: Tensor, beyond: Tensor, length: int, snr: Sequence[float]) -> Tensor:
    """(B, N), coloured at random, so many decibels below the speech; white noise is white in its spectrum too."""
    count, size = speech.shape
    spectrum = torch.view_as_complex(torch.randn(count, length // 2 + 1, 2, device=speech.device))
    noise = torch.fft.irfft(spectrum * _curve(count, length, 12.0, speech.device), n=length)
    noise = noise[:, :size].masked_fill(beyond, 0.0)
    low, high = snr
    below = low + (high - low) * torch.rand(count, 1, device=speech.device)
    return noise * (_rms(speech, lengths) / _rms(noise, lengths).clamp(min=1e-9) * 10 ** (-below / 20))


def _curve(count: int, length: int, decibels: float, device: torch.device) -> Tensor:
    """(count, bins) factors that wander smoothly over frequency, between minus and plus so many decibels."""
    bands = decibels * (2 * torch.rand(count, 1, _BANDS, device=device) - 1)
    wandering = F.interpolate(bands, size=length // 2 + 1, mode="linear", align_corners=True).squeeze(1)
    return torch.exp(wandering * (math.log(10) / 20))


def _rms(waveforms: Tensor, lengths: Tensor) -> Tensor:
    return (waveforms.square().sum(dim=1, keepdim=True) / lengths.to(waveforms.device).clamp(min=1).unsqueeze(1)).sqrt()
