"""Build an encoder and fill it, with an account of every tensor: loaded, left out, or an error.

    encoder = build_encoder(EncoderConfig(source="chinese-hubert-base"))
    save_encoder(encoder, Path("exp/pretrain/encoder"))        # transformers reads it, and so does build_encoder
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icefall_ext import console
from icefall_ext.encoders.fairseq import is_fairseq, read_configuration, to_transformers_names
from icefall_ext.encoders.layers import WeightNormConv1d
from icefall_ext.encoders.pickles import read_pickled, refuse_pointer
from icefall_ext.encoders.sources import Source, find_source
from icefall_ext.encoders.spec import SAMPLE_RATE, Architecture, EncoderConfig, KnownModel, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import atomic_path, write_text

_ENCODER_PARTS = ("feature_extractor.", "feature_projection.", "encoder.", "masked_spec_embed")
_POSITION = "encoder.pos_conv_embed.conv."
_MAY_BE_NEW = {"masked_spec_embed"}  # fine-tuned checkpoints may come without; nothing but training needs it


@dataclass(frozen=True)
class LoadReport:
    """Names of tensors: `left_out` are the file's, `new` the encoder's that the file had nothing for."""

    loaded: list[str]
    left_out: list[str]
    new: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.left_out:
            shown = ", ".join(self.left_out[:12])
            parts.append(f"left out: {shown}" + (f" and {len(self.left_out) - 12} more" if self.left_out[12:] else ""))
        if self.new:
            parts.append(f"new: {', '.join(self.new)}")
        return "; ".join(parts)


def build_encoder(cfg: EncoderConfig) -> SpeechEncoder:
    """As configured, on the CPU; prints what was read and what became of it."""
    cfg.check()
    wanted = cfg.wants_normalized()
    if cfg.source.startswith("random:"):
        architecture = named_size(cfg.source.partition(":")[2])
        if wanted is not None:
            architecture = replace(architecture, normalize=wanted)
        console.says(f"encoder  {cfg.source}, untrained weights ({architecture})")
        return SpeechEncoder(architecture, cfg)
    source = find_source(cfg.source, cfg.weights_dir)
    tensors, checkpoint = _read(source)
    architecture, known, why = _architecture(source, tensors, checkpoint, wanted)
    if known:
        why += f"; {known.name}, licence {known.licence}"
    console.reads(" ".join(map(str, source.weights)), f"{architecture}, {why}")
    try:
        encoder = SpeechEncoder(architecture, cfg)
    except UsageError as error:
        raise UsageError(f"{source.config or source.weights[0]}: {error}") from None
    console.says(str(load_tensors(encoder.backbone, tensors, source.weights[0])))
    encoder.read_from = source.weights
    return encoder


def save_encoder(encoder: SpeechEncoder, folder: Path) -> str:
    """The pre-trained part as a folder in transformers' format (a log-mel encoder only this project can read).

    Returns in a few words what it is."""
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; remove it or name another folder for the encoder")
    architecture = encoder.architecture
    config = architecture.to_dict()
    kind = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model"}.get(architecture.model_type)
    if kind:
        config["architectures"] = [kind]
    preprocessor = {
        "do_normalize": architecture.normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": architecture.config["feat_extract_norm"] == "layer",
        "sampling_rate": SAMPLE_RATE,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.backbone.state_dict().items()}
    write_text(folder / "preprocessor_config.json", json.dumps(preprocessor, indent=2) + "\n")
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")  # last: a folder without it is not whole
    return f"{architecture}, {len(tensors)} tensors"


# -------------------------------------------------------------------- tensors


def load_tensors(backbone: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> LoadReport:
    """Copy `tensors` into `backbone`; one that is missing, has no place or another shape is an error."""
    given, own = canonical_names(tensors), backbone.state_dict()
    left_out = [name for name in given if name not in own]
    superfluous = [name for name in left_out if name.startswith(_ENCODER_PARTS)]
    missing = [name for name in own if name not in given and name not in _MAY_BE_NEW]
    if missing:
        raise UserError(f"{path}: not the weights of this encoder, {_some(missing)} missing" + (
            f" and {_some(superfluous)} unknown" if superfluous else ""))
    if superfluous:
        raise UserError(f"{path}: {_some(superfluous)} have no place in the encoder that its configuration describes")
    loaded = [name for name in own if name in given]
    for name in loaded:
        if given[name].shape != own[name].shape:
            raise UserError(f"{path}: {name} has shape {tuple(given[name].shape)}, and the configuration says "
                            f"{tuple(own[name].shape)}")
        if not torch.isfinite(given[name]).all():
            raise UserError(f"{path}: {name} holds values that are not finite; fetch the file again")
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(given[name])
    return LoadReport(loaded, left_out, [name for name in own if name not in given])


def canonical_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names without the prefix of a model with a head, and one naming of the positional kernel."""
    given = {}
    for name, tensor in tensors.items():
        for prefix in ("hubert.", "wav2vec2."):
            name = name[len(prefix) :] if name.startswith(prefix) else name
        name = name.replace(f"{_POSITION}parametrizations.weight.original0", f"{_POSITION}weight_g")
        name = name.replace(f"{_POSITION}parametrizations.weight.original1", f"{_POSITION}weight_v")
        given[name] = tensor
    whole = given.pop(f"{_POSITION}weight", None)
    if whole is not None:
        given[f"{_POSITION}weight_g"], given[f"{_POSITION}weight_v"] = WeightNormConv1d.split(whole.float())
    return given


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# -------------------------------------------------------------------- files


def _read(source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors under transformers' names, and a fairseq file's other content."""
    tensors: dict[str, Tensor] = {}
    checkpoint: dict[str, Any] = {}
    for path in source.weights:
        content = _content(path)
        nested = [content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)]
        inner = nested[0] if nested else content
        tensors |= {name: value for name, value in inner.items() if isinstance(name, str) and isinstance(value, Tensor)}
        if nested:
            checkpoint = dict(content)
    if not tensors:
        raise UserError(f"{source.weights[0]}: holds no tensors")
    if is_fairseq(tensors):
        return to_transformers_names(tensors), {**checkpoint, "model": tensors}
    return tensors, {}


def _content(path: Path) -> Mapping[str, Any]:
    refuse_pointer(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a safetensors file ({str(error)[:150]})") from None
    content = read_pickled(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _architecture(
    source: Source, tensors: Mapping[str, Tensor], checkpoint: Mapping[str, Any], wanted: bool | None
) -> tuple[Architecture, KnownModel | None, str]:
    """The shape of the model, which published one it is, and who says whether its input is normalised."""
    if source.config:
        config = _json(source.config)
    elif checkpoint:
        config = read_configuration(checkpoint, checkpoint["model"], source.weights[0])
    else:
        raise UserError(f"{source.weights[0]}: needs its config.json beside it, in {source.folder}/")
    shape = Architecture.from_config(config, True, str(source.config or source.weights[0]))
    known = source.known if source.known and source.known.fits(shape) else None
    if source.by_name and known is None:
        expected = f"{source.known.layers} x {source.known.width}, {source.known.norm} norm"
        raise UserError(f"{source.folder}: not {source.known.name} ({expected}), but {shape}")
    preprocessor = source.folder / "preprocessor_config.json"
    says = {
        "as configured": wanted,
        "as its configuration says": config.get("normalize"),  # fairseq's, and ours
        "as published": known.normalize if known else None,
        "as preprocessor_config.json says": _json(preprocessor).get("do_normalize") if preprocessor.is_file() else None,
    }
    if known and wanted is (not known.normalize):
        console.says(f"{known.name} was trained with normalize {str(known.normalize).lower()}")
    for why, normalize in says.items():
        if normalize is not None:
            return replace(shape, normalize=bool(normalize)), known, why
    raise UsageError(f"{source.weights[0]}: nothing says whether its input is normalised; set normalize true or false")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not the configuration of a model")
    return content
