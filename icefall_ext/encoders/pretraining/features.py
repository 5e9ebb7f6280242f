"""What frames are clustered by: MFCC at first, then a hidden layer of an encoder that has learnt from those.

Each gives one (T, D) tensor an utterance, T = encoder.layer_lengths(samples). Frame t of an encoder with stride S and
receptive field R hears the samples [S t, S t + R), MFCC frame m those of [160 m, 160 m + 400). The one whose middle is
nearest is m = (2 S t + R - 400) // 320: for HuBERT (S 320, R 400) every second, from the first on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.encoders.frames import conv_lengths, receptive_field
from icefall_ext.encoders.layers import LogMel
from icefall_ext.encoders.speech_encoder import SpeechEncoder

_WINDOW, _SHIFT = 400, 160


class Mfcc(nn.Module):
    """13 coefficients as Kaldi makes them, with first and second differences: 39 in all, of what the encoder hears.

    So for an encoder that normalises its input the loudness of a recording is in no unit: it could not be predicted.
    """

    def __init__(self, encoder: SpeechEncoder):
        super().__init__()
        from lhotse.features.kaldi.layers import Wav2MFCC

        self.encoder = encoder
        with warnings.catch_warnings():  # lhotse's manifests count a frame for the rest; nothing here does
            warnings.simplefilter("ignore")
            self.cepstra = Wav2MFCC(snip_edges=True, high_freq=0.0)
        config = encoder.architecture.config
        self.stride = math.prod(config["conv_stride"])
        self.field = receptive_field(config["conv_kernel"], config["conv_stride"])

    def __str__(self) -> str:
        return "39 MFCC"

    @torch.no_grad()
    def forward(self, batch: SpeechBatch) -> list[Tensor]:
        waveforms = self.encoder.prepared(batch.waveforms, batch.lengths.to(batch.waveforms.device))
        counts = self.encoder.layer_lengths(batch.lengths).tolist()
        return [
            self._of_one(waveform[:length], count)
            for waveform, length, count in zip(waveforms, batch.lengths.tolist(), counts)
        ]

    def _of_one(self, waveform: Tensor, count: int) -> Tensor:
        if not count:
            return waveform.new_zeros(0, 39)
        cepstra = self.cepstra(waveform.unsqueeze(0) * 32768)[0]  # as 16-bit numbers, or quiet parts meet the floor
        first = differences(cepstra)
        frames = torch.cat([cepstra, first, differences(first)], dim=1)
        position = (2 * self.stride * torch.arange(count, device=frames.device) + self.field - _WINDOW) // (2 * _SHIFT)
        return frames[position]


class HiddenLayer:
    """The raw output of one layer, in eval mode; 0 is the input of the first."""

    def __init__(self, encoder: SpeechEncoder, layer: int):
        self.encoder, self.layer = encoder.eval(), layer

    def __str__(self) -> str:
        return f"layer {self.layer} of {self.encoder.num_layers}"

    @torch.no_grad()
    def __call__(self, batch: SpeechBatch) -> list[Tensor]:
        frames, lengths = self.encoder(batch.waveforms, batch.lengths, until=self.layer)
        return [row[:length].float() for row, length in zip(frames, lengths.tolist())]


def differences(frames: Tensor) -> Tensor:
    """(T, D) -> (T, D), Kaldi's regression over two frames to either side; the first and last frame are repeated."""
    padded = F.pad(frames.T.unsqueeze(0), (2, 2), mode="replicate").squeeze(0).T
    return (2 * (padded[4:] - padded[:-4]) + (padded[3:-1] - padded[1:-3])) / 10


@torch.no_grad()
def fit_log_mel(encoder: SpeechEncoder, batches: Iterable[SpeechBatch]) -> None:
    """Mean and deviation of the energies of a log-mel encoder, from the frames of these utterances."""
    log_mel = encoder.backbone.feature_extractor
    assert isinstance(log_mel, LogMel)
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        waveforms = encoder.prepared(batch.waveforms, batch.lengths.to(batch.waveforms.device))
        for row, frames in zip(log_mel.energies(waveforms), conv_lengths(batch.lengths, [_WINDOW], [_SHIFT]).tolist()):
            energies = row[:frames].double()
            count, total, squares = count + frames, total + energies.sum(0), squares + energies.square().sum(0)
    mean = total / count
    log_mel.set_statistics(mean.float(), (squares / count - mean.square()).clamp(min=0.0).sqrt().float())
