"""Small encoders with every parameter away from its starting value, and waveforms to feed them."""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_ext.encoders.spec import EncoderConfig, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder

GROUP_NORM, LAYER_NORM, LOG_MEL = "tiny", "tiny-xls-r", "tiny-mel"
KINDS = (GROUP_NORM, LAYER_NORM, LOG_MEL)


def toy_encoder(kind: str, **options: object) -> SpeechEncoder:
    """In eval mode; norms and biases are random too, so that a wrong or forgotten one shows."""
    torch.manual_seed(1)
    encoder = SpeechEncoder(named_size(kind), EncoderConfig(source=f"random:{kind}", **options))
    torch.manual_seed(1)  # the same parameters with and without new layers
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.dim() == 1 and not name.startswith("subsampling"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.eval()


def ragged_batch(lengths: list[int], beyond: float = 0.0, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Waveforms of a voiced sort with these lengths; padded with `beyond`."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.full((len(lengths), max(lengths)), beyond)
    for row, length in enumerate(lengths):
        time = torch.arange(length) / 16000
        level = 0.05 * (row + 1)
        tone = torch.sin(2 * torch.pi * (120 + 40 * row) * time) + 0.3 * torch.randn(length, generator=generator) + 0.1
        batch[row, :length] = level * tone
    return batch, torch.tensor(lengths)
