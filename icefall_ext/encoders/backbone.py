"""transformers' HuBERT or wav2vec 2.0 as a set of parts that run the same in transformers 4 and 5.

Only the parts are used, in our own order of events (speech_encoder.py): transformers' forward leaks padding through
group norm, cannot stop at a layer, and breaks on utterances shorter than a mask.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from icefall_ext.encoders.layers import DenseGradient, LogMel, WeightNormConv1d
from icefall_ext.encoders.spec import Architecture
from icefall_ext.errors import UsageError


def make_backbone(architecture: Architecture, dropout: float | None) -> nn.Module:
    """A model with random weights; its parts carry transformers' names, so its checkpoints fit."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    settings: dict[str, Any] = dict(architecture.config)
    if dropout is not None:
        settings |= {name: dropout for name in settings if name.endswith("_dropout")}
    settings["mask_time_prob"] = 0.05  # any value but 0 makes the mask vector; masking itself is done elsewhere
    classes = (Wav2Vec2Config, Wav2Vec2Model) if architecture.model_type == "wav2vec2" else (HubertConfig, HubertModel)
    try:
        model = classes[1](classes[0](**settings))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UsageError(f"transformers cannot build {architecture}: {str(error).splitlines()[0]}") from None
    position = model.encoder.pos_conv_embed
    position.conv = WeightNormConv1d(
        settings["hidden_size"], settings["num_conv_pos_embeddings"], settings["num_conv_pos_embedding_groups"]
    )
    for layer in (*model.feature_extractor.conv_layers, position):
        layer.activation = DenseGradient(layer.activation)
    if architecture.model_type == "log-mel-hubert":
        stack = settings["conv_stride"][0] // 160
        model.feature_extractor = LogMel(stack, settings["conv_dim"][0] // stack)
    return model


def project(backbone: nn.Module, features: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, D); wav2vec 2.0 also hands back the normalised features, for its pre-training."""
    projected = backbone.feature_projection(features)
    return projected[0] if isinstance(projected, tuple) else projected


def run_block(block: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """transformers 5 returns the hidden states, 4 a tuple that starts with them."""
    output = block(hidden, attention_mask=attention_mask)
    return output[0] if isinstance(output, tuple) else output
