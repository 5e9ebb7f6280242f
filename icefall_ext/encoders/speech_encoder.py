"""The encoder that all recipes use: waveforms and their lengths in, frames and their lengths out.

    encoder = build_encoder(EncoderConfig(source="random:tiny"))      # icefall_ext.encoders.load
    frames, frame_lengths = encoder(waveforms, lengths)               # (B, N), (B,) -> (B, T, D), (B,)

Audio is at 16 kHz, between -1 and 1. What lies beyond an utterance's length does not matter, and frames beyond its
frame length are 0. An utterance shorter than the receptive field (400 samples) has frame length 0, and T is at least 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from icefall_ext.encoders.backbone import make_backbone, project, run_block
from icefall_ext.encoders.frames import conv_lengths, receptive_field, span_mask, valid_positions
from icefall_ext.encoders.layers import LogMel, MaskedGroupNorm, precise
from icefall_ext.encoders.spec import EMBEDDINGS, FRONT_END, OFFSET, Architecture, EncoderConfig, freeze_depth
from icefall_ext.errors import UsageError


class SpeechEncoder(nn.Module):
    """Random weights; `icefall_ext.encoders.load` fills them.

    `architecture.to_dict()` belongs into a checkpoint: `SpeechEncoder(Architecture.from_dict(saved), cfg)` makes the
    same module again without the pre-trained files.
    """

    def __init__(self, architecture: Architecture, cfg: EncoderConfig):
        super().__init__()
        cfg.check()
        self.architecture, self.cfg = architecture, cfg
        self.backbone = make_backbone(architecture, cfg.dropout)
        width = architecture.config["hidden_size"]
        self.subsampling = PairConv(width) if cfg.subsampling == "conv" else None
        self.output_dim = 2 * width if cfg.subsampling == "concat" else width
        self.num_layers = architecture.config["num_hidden_layers"]
        self._kernels, self._strides = architecture.config["conv_kernel"], architecture.config["conv_stride"]
        self._norm_first = architecture.config["do_stable_layer_norm"]
        self._exact_norm = cfg.padding == "exact"
        self.read_from: tuple[Path, ...] = ()  # the files that its weights came from
        self.freeze(cfg.freeze)

    # ---------------------------------------------------------------- lengths

    @property
    def samples_per_frame(self) -> int:
        """Samples from one output frame to the next."""
        stride = 2 if self.cfg.subsampling != "none" else 1
        for factor in self._strides:
            stride *= factor
        return stride

    def layer_lengths(self, lengths: Tensor) -> Tensor:
        """Frames inside the encoder, before subsampling."""
        return conv_lengths(lengths, self._kernels, self._strides)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        frames = self.layer_lengths(lengths)
        return frames if self.cfg.subsampling == "none" else torch.div(frames + 1, 2, rounding_mode="floor")

    # ---------------------------------------------------------------- freezing

    def freeze(self, upto: str, above: int | None = None) -> None:
        """Freeze what `upto` names, as in EncoderConfig, and with `above` also all layers after that one.

        Everything else becomes trainable, so it can be called again, for example after some steps. Frozen parts stay
        in eval mode under `train()`, and those under the first trainable part keep no activations. Subsampling is new,
        so it is never frozen.
        """
        self._frozen_depth = freeze_depth(upto, self.num_layers)
        self._trained_depth = None if above is None else above + 1
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not self.is_frozen(self.depth_of(name)))
        self.train(self.training)

    def depth_of(self, parameter_name: str) -> int:
        """0 front end, 1 projection, mask vector and positions, 1 + k layer k, then the last norm, then subsampling."""
        if parameter_name.startswith("subsampling."):
            return self.num_layers + 3
        if parameter_name.startswith("backbone.feature_extractor."):
            return FRONT_END
        if parameter_name.startswith("backbone.encoder.layers."):
            return 2 + int(parameter_name.split(".")[3])
        if parameter_name.startswith("backbone.encoder.layer_norm.") and self._norm_first:
            return self.num_layers + 2
        return EMBEDDINGS

    def is_frozen(self, depth: int) -> bool:
        if depth == self.num_layers + 3:
            return False
        return depth <= self._frozen_depth or (self._trained_depth is not None and depth > self._trained_depth)

    def train(self, mode: bool = True) -> SpeechEncoder:
        super().train(mode)
        for depth, module in self._modules_by_depth():
            if self.is_frozen(depth):
                module.eval()
        return self

    def _modules_by_depth(self) -> list[tuple[int, nn.Module]]:
        body = self.backbone.encoder
        last_norm = self.num_layers + 2 if self._norm_first else EMBEDDINGS
        return [
            (FRONT_END, self.backbone.feature_extractor),
            *((EMBEDDINGS, module) for module in (self.backbone.feature_projection, body.pos_conv_embed, body.dropout)),
            *((2 + index, block) for index, block in enumerate(body.layers)),
            (last_norm, body.layer_norm),
        ]

    # ---------------------------------------------------------------- forward

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        *,
        layers: Sequence[int] | None = None,
        until: int | None = None,
        time_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, list[Tensor]]:
        """waveforms (B, N), lengths (B,), best on the CPU -> frames (B, T, output_dim), frame lengths (B,).

        layers     also return these hidden states, each (B, T, D) at the full frame rate: 0 is the input of the first
                   layer, k the raw output of layer k (before the last norm, where there is one).
        until      stop after this layer; frames are its raw output, without last norm and subsampling. Freeze what
                   lies above, or a distributed run waits for its gradients.
        time_mask  (B, T) frames to hide, in place of random ones; also in eval mode.
        """
        last = self.num_layers if until is None else until
        for layer in (last, *(layers or ())):
            if not 0 <= layer <= last or last > self.num_layers:
                raise UsageError(f"layer {layer}: this encoder has {self.num_layers} layers, and runs up to {last}")
        on_cpu = lengths.device.type == "cpu"
        if on_cpu and int(lengths.max()) > waveforms.shape[1]:
            raise ValueError(f"a length of {int(lengths.max())} in a batch of {waveforms.shape[1]} samples")
        features = self._features(waveforms, lengths.to(waveforms.device))
        frame_lengths, size = self.layer_lengths(lengths), features.shape[2]
        nothing_to_hide = self.cfg.padding == "none" or (on_cpu and bool((frame_lengths == size).all()))
        frame_lengths = frame_lengths.to(waveforms.device)
        valid = None if nothing_to_hide else valid_positions(frame_lengths, size)

        hidden = self._embeddings(features.transpose(1, 2), frame_lengths, valid, time_mask)
        attention_mask = self._attention_mask(valid, frame_lengths, hidden)
        states = {0: hidden}
        for index, block in enumerate(self.backbone.encoder.layers[:last], start=1):
            hidden = self._layer(index, block, hidden, attention_mask)
            if layers and index in layers:
                states[index] = hidden

        output_lengths = frame_lengths
        if until is None and self._norm_first:
            hidden = self.backbone.encoder.layer_norm(hidden)
        frames = _zero_padding(hidden, frame_lengths)
        if until is None and self.cfg.subsampling != "none":
            output_lengths = self.output_lengths(lengths).to(waveforms.device)
            frames = _zero_padding(self._subsample(frames), output_lengths)
        if layers is None:
            return frames, output_lengths
        return frames, output_lengths, [_zero_padding(states[layer], frame_lengths) for layer in layers]

    @property
    def _dtype(self) -> torch.dtype:
        """Of the parameters; under autocast also of the sum that runs through all layers, and of what norms get."""
        return self.backbone.masked_spec_embed.dtype

    def prepared(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """What the front end hears: zeros beyond each length, room for one frame at least, normalised if configured."""
        short = receptive_field(self._kernels, self._strides) - waveforms.shape[1]
        waveforms = F.pad(waveforms, (0, max(short, 0)))
        return _prepare(waveforms, lengths, self.architecture.normalize).to(self._dtype)

    def _features(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """(B, C, T) from convolutions or log-mel energies."""
        waveforms = self.prepared(waveforms, lengths)
        if isinstance(self.backbone.feature_extractor, LogMel):
            return self.backbone.feature_extractor(waveforms)
        hidden = waveforms.unsqueeze(1)
        for index, layer in enumerate(self.backbone.feature_extractor.conv_layers):
            lengths = conv_lengths(lengths, self._kernels[index : index + 1], self._strides[index : index + 1])
            hidden = self._maybe_twice(_convolution, layer, hidden, lengths if self._exact_norm else None)
        return hidden

    def _embeddings(self, features: Tensor, lengths: Tensor, valid: Tensor | None, time_mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, D), masked, with positions."""
        body = self.backbone.encoder
        hidden = project(self.backbone, features.to(self._dtype)).to(self._dtype)
        hidden = self._hide(hidden, lengths, time_mask)
        if valid is not None:
            hidden = hidden.masked_fill(~valid.unsqueeze(2), 0.0)  # or the positional convolution sees it
        hidden = hidden + body.pos_conv_embed(hidden)
        if not self._norm_first:
            return body.dropout(body.layer_norm(hidden))
        hidden = body.dropout(hidden)
        offset = self.architecture.config.get(OFFSET)
        return hidden + offset if offset else hidden

    def _hide(self, hidden: Tensor, lengths: Tensor, time_mask: Tensor | None) -> Tensor:
        """Masks are drawn in training, unless all layers are frozen and are to give the same every time."""
        cfg, size = self.cfg, hidden.shape[1:]
        drawing = self.training and self._frozen_depth <= self.num_layers
        if time_mask is None and drawing:
            time_mask = span_mask(lengths, size[0], cfg.mask_time_prob, cfg.mask_time_length)
        if time_mask is not None:  # also with nothing to hide: the vector needs its gradient in every distributed step
            hidden = torch.where(time_mask.to(hidden.device).unsqueeze(2), self.backbone.masked_spec_embed, hidden)
        if drawing and cfg.mask_feature_prob > 0:
            channels = torch.full_like(lengths, size[1])
            mask = span_mask(channels, size[1], cfg.mask_feature_prob, cfg.mask_feature_length)
            hidden = hidden.masked_fill(mask.unsqueeze(1), 0.0)
        return hidden

    def _attention_mask(self, valid: Tensor | None, lengths: Tensor, hidden: Tensor) -> Tensor | None:
        """(B, 1, T, T) to add to the scores. An empty utterance attends to frame 0: a row of -inf has no softmax."""
        if valid is None:
            return None
        visible = valid_positions(lengths.clamp(min=1), valid.shape[1])
        size = hidden.shape[1]
        added = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        added = added.masked_fill(~visible, -torch.inf)
        return added[:, None, None, :].expand(-1, 1, size, size)

    def _layer(self, index: int, block: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        frozen = self.is_frozen(index + 1)
        if self.training and not frozen and self.cfg.layer_drop > 0 and torch.rand(()) < self.cfg.layer_drop:
            untouched = sum(parameter.flatten()[0] for parameter in block.parameters())
            return hidden + 0.0 * untouched  # gradients of 0 instead of none, which a distributed run would wait for
        return self._maybe_twice(run_block, block, hidden, attention_mask)

    def _maybe_twice(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        if self.cfg.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def _subsample(self, frames: Tensor) -> Tensor:
        """Pairs of frames; the missing half of the last pair is 0, as padding is."""
        frames = F.pad(frames, (0, 0, 0, frames.shape[1] % 2))
        if self.subsampling is not None:
            return self.subsampling(frames)
        return frames.reshape(len(frames), frames.shape[1] // 2, -1)


class PairConv(nn.Module):
    """(B, 2T, D) -> (B, T, D): a convolution over two frames that starts as their mean, so pre-training passes."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size=2, stride=2)
        with torch.no_grad():
            self.conv.weight.copy_(0.5 * torch.eye(width).unsqueeze(2).expand(-1, -1, 2))
            self.conv.bias.zero_()

    def forward(self, frames: Tensor) -> Tensor:
        return self.conv(frames.transpose(1, 2)).transpose(1, 2)


def _convolution(layer: nn.Module, hidden: Tensor, lengths: Tensor | None) -> Tensor:
    """One layer of the stack, any of transformers' three kinds; `lengths` makes a group norm mind the padding."""
    hidden = layer.conv(hidden)
    norm = getattr(layer, "layer_norm", None)
    if isinstance(norm, nn.LayerNorm):
        hidden = norm(hidden.transpose(1, 2).to(norm.weight.dtype)).transpose(1, 2)
    elif norm is not None and lengths is not None:
        hidden = MaskedGroupNorm.apply(hidden, lengths, norm.weight, norm.bias, norm.eps)
    elif norm is not None:
        hidden = norm(hidden.to(norm.weight.dtype))
    return layer.activation(hidden)


def _prepare(waveforms: Tensor, lengths: Tensor, normalize: bool) -> Tensor:
    """Zeros beyond each length; with `normalize` the true samples get mean 0 and variance 1, as transformers does."""
    valid = valid_positions(lengths, waveforms.shape[1])
    waveforms = precise(waveforms).masked_fill(~valid, 0.0)
    if not normalize:
        return waveforms
    count = lengths.clamp(min=1).unsqueeze(1)
    centred = (waveforms - waveforms.sum(dim=1, keepdim=True) / count).masked_fill(~valid, 0.0)
    return centred * torch.rsqrt(centred.square().sum(dim=1, keepdim=True) / count + 1e-7)


def _zero_padding(frames: Tensor, lengths: Tensor) -> Tensor:
    return frames.masked_fill(~valid_positions(lengths, frames.shape[1]).unsqueeze(2), 0.0)
