"""Augmentation of waveforms that leaves pitch and time alone: level, colour of the channel, noise.

Speed perturbation by resampling shifts the pitch and with it the tone, so it has no place here. All is drawn from
torch's generator: the same for the same batch of the same training.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_ext.encoders.frames import valid_positions
from icefall_ext.tone.spec import AugmentConfig

_BANDS = 8


def augment(waveforms: Tensor, lengths: Tensor, cfg: AugmentConfig) -> Tensor:
    """(B, N), (B,) -> (B, N); what lies beyond an utterance stays 0."""
    count, size, device = len(waveforms), waveforms.shape[1], waveforms.device
    valid = valid_positions(lengths.to(device), size)
    spectrum = torch.fft.rfft(waveforms.masked_fill(~valid, 0.0), n=2 * size)
    coloured = torch.fft.irfft(spectrum * _curve(count, spectrum.shape[1], cfg.colour_db, device), n=2 * size)[:, :size]
    coloured = coloured.masked_fill(~valid, 0.0)
    noise = torch.fft.rfft(torch.randn(count, size, device=device))
    noise = torch.fft.irfft(noise * _curve(count, noise.shape[1], 12.0, device), n=size).masked_fill(~valid, 0.0)
    low, high = cfg.noise_snr
    snr = low + (high - low) * torch.rand(count, 1, device=device)
    level = _rms(coloured, lengths) / _rms(noise, lengths).clamp(min=1e-9) * 10 ** (-snr / 20)
    noisy = coloured + level * (torch.rand(count, 1, device=device) < cfg.noise_prob) * noise
    return noisy * 10 ** (cfg.gain_db * (2 * torch.rand(count, 1, device=device) - 1) / 20)


def _curve(count: int, bins: int, decibels: float, device: torch.device) -> Tensor:
    """(count, bins) factors that wander smoothly over frequency, between minus and plus so many decibels."""
    bands = decibels * (2 * torch.rand(count, 1, _BANDS, device=device) - 1)
    return 10 ** (F.interpolate(bands, size=bins, mode="linear", align_corners=True).squeeze(1) / 20)


def _rms(waveforms: Tensor, lengths: Tensor) -> Tensor:
    return (waveforms.square().sum(dim=1, keepdim=True) / lengths.to(waveforms.device).clamp(min=1).unsqueeze(1)).sqrt()
