"""SITA's model: an encoder, a tone classifier on the embeddings of one layer, and a CTC head on top.

    blocks 1..K frozen | K+1..L  learn in stage 1, give the embeddings | L+1.. and the CTC head  learn in stage 2

The front end, the projection and the positional convolution never learn here. A frozen block is in eval mode too, so
it drops nothing out. (arXiv:2601.09050: K = 12, L = 19 or 21 of the 24 blocks of XLS-R.)
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError
from icefall_ext.tone.losses import mean_over_frames
from icefall_ext.tone.spec import LayerConfig


class Heard(NamedTuple):
    embeddings: Tensor | None  # (B, D)
    logits: Tensor | None  # (B, T, V)
    lengths: Tensor  # (B,) frames


class WordModel(nn.Module):
    def __init__(self, encoder: SpeechEncoder, layers: LayerConfig, tones: int, vocab_size: int):
        super().__init__()
        layers.check(encoder.num_layers)
        if encoder.cfg.subsampling != "none":
            raise UsageError(f"subsampling {encoder.cfg.subsampling}: words are short; take none")
        self.encoder, self.layers = encoder, layers
        self.tone_output = nn.Linear(encoder.output_dim, tones)
        self.ctc_output = nn.Linear(encoder.output_dim, vocab_size)

    def freeze_for(self, part: str) -> None:
        """Leave what learns in `part` of PARTS: the teacher whole, the middle, the top, or middle and top at once."""
        below = f"layers:{self.layers.frozen}" if self.layers.frozen else "embeddings"
        up_to, above = {
            "teacher": ("embeddings", None),
            "stage1": (below, self.layers.feature_layer),
            "stage2": (f"layers:{self.layers.feature_layer}", None),
            "single": (below, None),
        }[part]
        self.encoder.freeze(up_to, above)
        self.tone_output.requires_grad_(part in ("stage1", "single"))
        self.ctc_output.requires_grad_(part != "stage1")

    def forward(self, waveforms: Tensor, lengths: Tensor, embeddings: bool, logits: bool) -> Heard:
        """What was asked for; without logits nothing above the feature layer is computed."""
        layer = self.layers.feature_layer
        if not logits:
            frames, frame_lengths = self.encoder(waveforms, lengths, until=layer)
            return Heard(mean_over_frames(frames, frame_lengths), None, frame_lengths)
        frames, frame_lengths, states = self.encoder(waveforms, lengths, layers=[layer])
        pooled = mean_over_frames(states[0], frame_lengths) if embeddings else None
        return Heard(pooled, self.ctc_output(frames), frame_lengths)


def greedy_words(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """The best token of each frame, repetitions and blanks taken out."""
    found = []
    for row, length in zip(logits.argmax(dim=-1).tolist(), lengths.tolist()):
        best = row[:length]
        found.append([token for token, before in zip(best, [0, *best]) if token and token != before])
    return found
