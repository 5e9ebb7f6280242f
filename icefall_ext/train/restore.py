"""A trained model from its folder: any epoch or batch, one checkpoint or an average over several.

    restored = restore_model(Path("exp/clift-mini/phase2"), epoch=12, avg=4)
    restored.model, restored.bpe, restored.script, restored.suffix        # "epoch-12-avg-4-use-averaged-model"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icefall_ext.encoders.spec import Architecture, EncoderConfig
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError, UserError
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train import checkpoint as files
from icefall_ext.transducer.model import ModelConfig, TransducerModel


@dataclass(frozen=True)
class Weights:
    tensors: dict[str, Tensor]
    content: dict[str, Any]  # of the last checkpoint
    suffix: str  # icefall's name for the choice
    files: tuple[Path, ...]  # the last one last

    @property
    def source(self) -> str:
        return str(self.files[-1])


@dataclass(frozen=True)
class Restored:
    model: TransducerModel  # on its device, in eval mode
    bpe: ByteBPE
    script: str
    suffix: str
    content: Mapping[str, Any]


def restore_model(
    folder: Path,
    epoch: int = 0,
    iteration: int = 0,
    avg: int = 1,
    use_averaged_model: bool = True,
    device: str | torch.device = "cpu",
) -> Restored:
    """`folder` as the training left it; `epoch` 0 with `iteration` 0 is the last epoch there."""
    weights = chosen_weights(folder, epoch, iteration, avg, use_averaged_model)
    system = weights.content.get("system")
    if not isinstance(system, dict) or "model" not in system:
        raise UserError(f"{weights.source}: does not say which model it is, as those of other toolkits do; describe it "
                        "with --model-config (docs/decoding.md)")
    bpe = ByteBPE.load(folder / "lang")
    if bpe.vocab_size != system["vocab_size"]:
        raise UserError(f"{folder / 'lang'}: {bpe.vocab_size} tokens, but {weights.source} has {system['vocab_size']}; "
                        "put back the lang folder that it was trained with")
    model = build_from_system(system)
    files.fill_model(model, weights.tensors, weights.source)
    return Restored(model.to(device).eval(), bpe, system["script"], weights.suffix, weights.content)


def build_from_system(system: Mapping[str, Any], encoder_cfg: EncoderConfig | None = None) -> TransducerModel:
    """What `TransducerModel.to_dict` described, with untrained weights."""
    architecture = Architecture.from_dict(system["architecture"])
    encoder = SpeechEncoder(architecture, encoder_cfg or EncoderConfig(**system["encoder"]))
    return TransducerModel(encoder, ModelConfig(**system["model"]), system["vocab_size"])


def chosen_weights(folder: Path, epoch: int, iteration: int, avg: int, use_averaged_model: bool) -> Weights:
    """As icefall's --epoch, --iter, --avg and --use-averaged-model choose."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train the model first")
    if avg < 1 or (epoch and iteration):
        raise UsageError(f"--avg {avg}, --epoch {epoch}, --iter {iteration}: an average over at least 1, of epochs or "
                         "of batches")
    by_number = files.batch_checkpoints(folder) if iteration else files.epoch_checkpoints(folder)
    kind = "checkpoint" if iteration else "epoch"
    if not by_number:
        raise UserError(f"{folder}: no {kind}-N.pt in it; train the model first")
    last = iteration or epoch or max(by_number)
    numbers = sorted(n for n in by_number if n <= last)
    if last not in by_number:
        there = ", ".join(map(str, sorted(by_number)))
        raise UserError(f"{folder}/{kind}-{last}.pt: no such checkpoint; there are {there}")
    suffix = f"{'iter' if iteration else 'epoch'}-{last}-avg-{avg}"
    content = files.load_checkpoint(by_number[last])
    if use_averaged_model:
        first = last - avg if not iteration else (numbers[-1 - avg] if len(numbers) > avg else 0)
        if first < 0:
            raise UserError(f"--avg {avg}: there are only {last} epochs up to epoch {last}")
        if first and first not in by_number:
            raise UserError(f"{folder}/{kind}-{first}.pt: no such checkpoint, but --avg {avg} up to {last} needs it; "
                            f"there are {', '.join(map(str, sorted(by_number)))}")
        start = files.load_checkpoint(by_number[first]) if first else beginning(content)
        names = (str(by_number.get(first, "the beginning")), str(by_number[last]))
        tensors = files.average_between(start, content, names)
        read = tuple(by_number[number] for number in (first, last) if number)
        return Weights(tensors, content, f"{suffix}-use-averaged-model", read)
    if len(numbers) < avg:
        raise UserError(f"--avg {avg}: {folder} has only {len(numbers)} checkpoints up to {kind} {last}")
    models = [content["model"], *(files.load_checkpoint(by_number[n])["model"] for n in numbers[-avg:-1])]
    return Weights(files.mean_of(models), content, suffix, tuple(by_number[number] for number in numbers[-avg:]))


def beginning(content: Mapping[str, Any]) -> dict[str, Any]:
    """Before the first batch: the average from there is the running average itself."""
    return {"model_avg": content.get("model_avg", {}), "batch_idx_train": 0}
