"""What a user chooses about the encoder, what is known of published ones, and the shape of a model.

Imports no torch: programs read their options before they load anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icefall_ext.cli import option
from icefall_ext.errors import UsageError

SAMPLE_RATE = 16000
PADDINGS = ("exact", "attention", "none")
SUBSAMPLINGS = ("none", "concat", "conv")


@dataclass
class EncoderConfig:
    source: str = option(
        "chinese-hubert-base",
        "a model's name, a folder, a .safetensors, .bin or fairseq .pt file, or random:SIZE for untrained weights",
    )
    weights_dir: Path = option(Path("data/encoders"), "where a model that is given by name is looked for first")
    normalize: str = option("auto", "each utterance to mean 0, variance 1: true, false, or auto (as it was trained)")
    padding: str = option(
        "exact",
        "exact: a batch gives what single utterances give; attention: group norm sees padding; none: all sees padding",
        choices=PADDINGS,
    )
    freeze: str = option("none", "none, front_end, embeddings, layers:N (the first N and all below) or all")
    lr_scale: float = option(1.0, "learning rate of the pre-trained layers, relative to that of new ones")
    layer_lr_decay: float = option(1.0, "factor on the learning rate for each layer further from the output")
    subsampling: str = option(
        "none", "halve the frame rate: concat (width doubles) or conv", choices=SUBSAMPLINGS
    )
    mask_time_prob: float = option(0.05, "share of frames replaced by the mask vector in training, overlaps included")
    mask_time_length: int = option(10, "frames in one time mask")
    mask_feature_prob: float = option(0.0, "share of channels set to zero in training, overlaps included")
    mask_feature_length: int = option(10, "channels in one feature mask")
    dropout: float | None = option(None, "all dropout rates of the encoder; none: as its own configuration says")
    layer_drop: float = option(0.0, "chance that a layer is skipped in a training step")
    gradient_checkpointing: bool = option(False, "compute activations twice instead of keeping them")

    def check(self) -> None:
        """Raise UsageError for values that no encoder can use."""
        for name in ("mask_time_prob", "mask_feature_prob", "layer_drop"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} {getattr(self, name)}: must lie between 0 and 1")
        for name in ("mask_time_length", "mask_feature_length"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"dropout {self.dropout}: must lie between 0 and 1")
        for name in ("lr_scale", "layer_lr_decay"):
            if not (getattr(self, name) > 0.0 and math.isfinite(getattr(self, name))):
                raise UsageError(f"{name} {getattr(self, name)}: must be positive; `freeze` stops the training")
        for name, allowed in (("padding", PADDINGS), ("subsampling", SUBSAMPLINGS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)}: must be one of {', '.join(allowed)}")
        self.wants_normalized()
        freeze_depth(self.freeze, num_layers=None)

    def wants_normalized(self) -> bool | None:
        """None stands for auto. A yaml file may say true without quotes."""
        word = str(self.normalize).lower()
        if word not in ("auto", "true", "false"):
            raise UsageError(f"normalize {self.normalize}: must be auto, true or false")
        return None if word == "auto" else word == "true"


FRONT_END, EMBEDDINGS = 0, 1  # depths of the parts below the layers; layer k has depth 1 + k


def freeze_depth(freeze: str, num_layers: int | None) -> int:
    """The depth up to which parameters are frozen, -1 for none; `num_layers` None checks the spelling alone."""
    words = {"none": -1, "front_end": FRONT_END, "embeddings": EMBEDDINGS, "all": 2 + (num_layers or 0)}
    if freeze in words:
        return words[freeze]
    kind, _, number = freeze.partition(":")
    if kind != "layers" or not number.isdecimal():
        raise UsageError(f"freeze {freeze}: must be none, front_end, embeddings, layers:N or all")
    if num_layers is not None and not 1 <= int(number) <= num_layers:
        raise UsageError(f"freeze {freeze}: this encoder has layers 1 to {num_layers}")
    return 1 + int(number)


@dataclass(frozen=True)
class KnownModel:
    """A published encoder: where its files are, and what has to be true of them."""

    name: str
    owner: str
    weights: str
    normalize: bool
    norm: str
    layers: int
    width: int
    licence: str

    @property
    def hub(self) -> str:
        return f"{self.owner}/{self.name}"

    def fits(self, architecture: Architecture) -> bool:
        config = architecture.config
        shape = (config["feat_extract_norm"], config["num_hidden_layers"], config["hidden_size"])
        return shape == (self.norm, self.layers, self.width)


_PUBLISHED = [
    KnownModel("chinese-hubert-base", "TencentGameMate", "pytorch_model.bin", True, "group", 12, 768, "MIT"),
    KnownModel("hubert-base-ls960", "facebook", "pytorch_model.bin", False, "group", 12, 768, "Apache-2.0"),
    KnownModel("mHuBERT-147", "utter-project", "model.safetensors", True, "group", 12, 768, "CC-BY-NC-SA-4.0"),
    KnownModel("wav2vec2-xls-r-300m", "facebook", "pytorch_model.bin", True, "layer", 24, 1024, "Apache-2.0"),
]
KNOWN = {known.name: known for known in _PUBLISHED}


def known_model(name: str) -> KnownModel | None:
    """By its short name or the hub's; a folder may carry either."""
    by_name = {key.lower(): known for known in KNOWN.values() for key in (known.name, known.hub)}
    return by_name.get(name.lower())


# transformers' own defaults, which are HuBERT base: a config.json may leave out what equals them.
_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout": 0.1,
    "activation_dropout": 0.1,
    "attention_dropout": 0.1,
    "feat_proj_dropout": 0.0,
    "feat_proj_layer_norm": True,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "conv_dim": [512] * 7,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_bias": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False,
}
# Not of transformers: a constant added to the states that the first layer reads. Every norm takes it out again, so
# nothing that is computed changes, but raw states point much the same way whatever is said, as those of XLS-R do.
OFFSET = "state_offset"
_NOT_BUILT = ("add_adapter", "adapter_attn_dim", "conv_pos_batch_norm")  # variants of other models
MODEL_TYPES = {"hubert": "HuBERT", "wav2vec2": "wav2vec 2.0", "log-mel-hubert": "HuBERT on log-mel frames"}


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build the module: transformers' configuration, less what does not concern the encoder."""

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    normalize: bool = True

    @staticmethod
    def from_config(config: Mapping[str, Any], normalize: bool, where: str) -> Architecture:
        """From the content of a config.json, or of what `to_dict` gave; raises UsageError naming `where`."""
        model_type = config.get("model_type")
        if model_type not in MODEL_TYPES:
            raise UsageError(f"{where}: model_type {model_type} is not one of {', '.join(MODEL_TYPES)}")
        for key in _NOT_BUILT:
            if config.get(key):
                raise UsageError(f"{where}: {key} {config[key]} is not supported; use a checkpoint without it")
        kept = {key: config.get(key, default) for key, default in _BASE.items()}
        kept |= {key: list(kept[key]) for key in ("conv_dim", "conv_stride", "conv_kernel")}
        if len({len(kept[key]) for key in ("conv_dim", "conv_stride", "conv_kernel")}) != 1:
            raise UsageError(f"{where}: conv_dim, conv_stride and conv_kernel differ in length")
        if config.get(OFFSET):
            if not kept["do_stable_layer_norm"]:
                raise UsageError(f"{where}: {OFFSET} {config[OFFSET]} needs do_stable_layer_norm: the norm before the "
                                 "first layer would take it out")
            kept[OFFSET] = float(config[OFFSET])
        if kept["hidden_size"] % kept["num_attention_heads"]:
            raise UsageError(f"{where}: hidden_size {kept['hidden_size']} is not a multiple of "
                             f"num_attention_heads {kept['num_attention_heads']}")
        return Architecture(model_type, kept, normalize)

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": self.model_type, **self.config, "normalize": self.normalize}

    @staticmethod
    def from_dict(saved: Mapping[str, Any]) -> Architecture:
        """What `to_dict` gave: a checkpoint keeps it, so that decoding needs no pre-trained files."""
        return Architecture.from_config(saved, bool(saved["normalize"]), "the encoder saved with the checkpoint")

    def __str__(self) -> str:
        norm = {"log-mel-hubert": ""}.get(self.model_type, f", {self.config['feat_extract_norm']} norm")
        return (
            f"{MODEL_TYPES[self.model_type]}, {self.config['num_hidden_layers']} x {self.config['hidden_size']}{norm}, "
            f"input {'' if self.normalize else 'not '}normalised"
        )


def log_mel(stack: int, bins: int = 80) -> dict[str, Any]:
    """`stack` log-mel frames (25 ms every 10 ms) make one frame, as a single convolution would."""
    return {
        "conv_dim": [stack * bins],
        "conv_kernel": [400 + 160 * (stack - 1)],
        "conv_stride": [160 * stack],
        "feat_extract_norm": "layer",
        "feat_proj_layer_norm": False,  # it would take the level out of each frame
    }


_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_MINI = {
    "hidden_size": 144,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
}
_PRE_NORM = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
_SIZES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "hubert-base": ("hubert", {}, False),
    "xls-r-300m": (
        "wav2vec2",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            **_PRE_NORM,
        },
        True,
    ),
    "mel-base": ("log-mel-hubert", log_mel(2), True),
    "mel-mini": ("log-mel-hubert", {**_MINI, **log_mel(4)}, True),
    "mel-mini-xls-r": (
        "log-mel-hubert",
        {**_MINI, **log_mel(4), "num_hidden_layers": 4, "do_stable_layer_norm": True, OFFSET: 3.0},
        True,
    ),
    "tiny": ("hubert", {**_TINY, "conv_dim": [16] * 7}, False),
    "tiny-xls-r": ("wav2vec2", {**_TINY, **_PRE_NORM, "conv_dim": [16] * 7}, True),
    "tiny-mel": ("log-mel-hubert", {**_TINY, **log_mel(2)}, True),
}


def named_size(name: str) -> Architecture:
    if name not in _SIZES:
        raise UsageError(f"random:{name}: no such size; there are {', '.join(_SIZES)}")
    model_type, changes, normalize = _SIZES[name]
    return Architecture.from_config({"model_type": model_type, **changes}, normalize, f"random:{name}")
