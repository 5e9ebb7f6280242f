"""How much the company that an utterance keeps in a batch changes what the encoder makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from icefall_ext.encoders.speech_encoder import SpeechEncoder


@torch.no_grad()
def padding_effect(encoder: SpeechEncoder, waveforms: Sequence[Tensor]) -> list[float]:
    """Relative error |batch - alone| / |alone| of each utterance's frames, in eval mode; NaN where it has no frame."""
    was_training = encoder.training
    encoder.eval()
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    together, frame_lengths = encoder(pad_sequence(list(waveforms), batch_first=True), lengths)
    errors = []
    for row, waveform in enumerate(waveforms):
        alone, _ = encoder(waveform.unsqueeze(0), lengths[row : row + 1])
        alone = alone[0, : frame_lengths[row]]
        errors.append(float((together[row, : len(alone)] - alone).norm() / alone.norm()))
    encoder.train(was_training)
    return errors
