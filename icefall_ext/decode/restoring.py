"""The model that a user chose: from this project's training, or from icefall's with a yaml file that describes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icefall_ext.decode.options import ModelChoice
from icefall_ext.encoders.fairseq import is_fairseq, to_transformers_names
from icefall_ext.encoders.load import canonical_names
from icefall_ext.encoders.spec import Architecture, named_size
from icefall_ext.errors import UserError
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.checkpoint import fill_model
from icefall_ext.train.restore import Restored, build_from_system, chosen_weights, restore_model
from icefall_ext.transducer.model import TransducerModel

_ENCODER, _BACKBONE = "encoder.", "encoder.backbone."
_HEADS = ("final_proj.", "label_embs_concat", "project_q.", "quantizer.")  # of pre-training, which fairseq keeps
_KNOWN_KEYS = {"script", "tones", "architecture", "encoder", "model", "rename"}


def restore(choice: ModelChoice, device: torch.device) -> Restored:
    options = (choice.exp_dir, choice.epoch, choice.iter, choice.avg, choice.use_averaged_model)
    if not choice.model_config:
        return restore_model(*options, device)
    described = read_model_config(Path(choice.model_config))
    weights = chosen_weights(*options)
    bpe = ByteBPE.load(choice.exp_dir / "lang")
    rename = described.pop("rename", {})
    system = {"encoder": {}, "model": {}, "tones": "citation", **described, "vocab_size": bpe.vocab_size}
    try:
        model = build_from_system(system)
    except TypeError as error:  # an option that a part does not have
        raise UserError(f"{choice.model_config}: {error}") from None
    fill_model(model, our_names(weights.tensors, rename), f"{weights.source}, as {choice.model_config} describes it")
    content = {**weights.content, "system": system}
    return Restored(model.to(device).eval(), bpe, system["script"], weights.suffix, content)


def read_model_config(path: Path) -> dict[str, Any]:
    """Its values as a checkpoint of this project has them under `system`; `architecture` may be a size by name."""
    from omegaconf import OmegaConf

    try:
        described = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # yaml and OmegaConf each have a family of their own
        raise UserError(f"{path}: not a yaml file ({str(error).splitlines()[0]})") from None
    if not isinstance(described, dict) or not described.keys() <= _KNOWN_KEYS:
        unknown = sorted(map(str, set(described) - _KNOWN_KEYS)) if isinstance(described, dict) else []
        raise UserError(f"{path}: {', '.join(unknown) or 'no keys'}: it takes {', '.join(sorted(_KNOWN_KEYS))}")
    if described.get("script") not in ("hanlo", "tailo") or not described.get("architecture"):
        raise UserError(f"{path}: needs `script: hanlo` or `script: tailo`, and `architecture:`, a size such as "
                        "hubert-base or what a config.json of transformers says, with `normalize: true` or `false`")
    architecture = described["architecture"]
    if isinstance(architecture, str):
        described["architecture"] = named_size(architecture).to_dict()
    elif "normalize" not in architecture:
        raise UserError(f"{path}: architecture: says nothing of `normalize: true` or `false`: whether each utterance "
                        "is brought to mean 0 and variance 1")
    else:
        described["architecture"] = Architecture.from_config(
            architecture, bool(architecture["normalize"]), str(path)).to_dict()
    return described


def our_names(tensors: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    """`rename` replaces beginnings of names; then an encoder in fairseq's names, or in transformers', gets ours."""
    named = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        for beginning, ours in rename.items():
            name = re.sub(f"^{re.escape(beginning)}", lambda _, ours=ours: ours, name)
        named[name] = tensor
    encoder = {name.removeprefix(_ENCODER): named.pop(name) for name in list(named) if name.startswith(_ENCODER)}
    if any(name.startswith("backbone.") for name in encoder):
        return named | {_ENCODER + name: tensor for name, tensor in encoder.items()}
    if is_fairseq(encoder):
        encoder = to_transformers_names(encoder)
    encoder = {name: tensor for name, tensor in encoder.items() if not name.startswith(_HEADS)}
    return named | {_BACKBONE + name: tensor for name, tensor in canonical_names(encoder).items()}


def digest_of_model(model: TransducerModel) -> str:
    """Of shape and weights, wherever they came from."""
    sha = hashlib.sha256(repr(model.to_dict()).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode() + str(tuple(tensor.shape)).encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()
