"""Checkpoints in icefall's layout, and averages over them.

    {"model", "model_avg", "optimizer", "scheduler", "grad_scaler", "sampler": state dicts,
     "batch_idx_train", "cur_epoch", "average_period", "best_train_loss", ...: the run's own, at top level,
     "system": what `TransducerModel.to_dict` gave}

`epoch-N.pt` after epoch N (from 1), `checkpoint-B.pt` after batch B, `best-valid-loss.pt` a copy. Files are written
under another name first, so that one under its own name is whole.

The running average over a training of b batches, every `period` of them, is

    avg <- model (period / b) + avg (1 - period / b),

the mean of the models at period, 2 period, ..., b. So between two checkpoints at a < b the mean over (a, b] is
w avg_b + (1 - w) avg_a with w = b / (b - a), as good as having kept all models in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icefall_ext.encoders.pickles import read_pickled
from icefall_ext.errors import UserError
from icefall_ext.files import atomic_path

_OF_BATCH = re.compile(r"checkpoint-(\d+)\.pt")
_OF_EPOCH = re.compile(r"epoch-(\d+)\.pt")


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        torch.save(dict(content), temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Ours or icefall's, on the CPU; nothing in the file is run."""
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pt"))[:12]) if path.parent.is_dir() else ""
        raise UserError(f"{path}: no such checkpoint; there is {there or 'none'}")
    content = read_pickled(path)
    if not isinstance(content, dict) or "model" not in content:
        raise UserError(f"{path}: no model in it; expected a checkpoint of this project or of icefall")
    return content


def latest_checkpoint(folder: Path) -> Path | None:
    """The one written last: the numbers of batches and of epochs cannot be compared without reading the files."""
    by_batch = sorted(numbered(folder, _OF_BATCH).items())
    by_epoch = sorted(numbered(folder, _OF_EPOCH).items())
    candidates = [pair[-1][1] for pair in (by_batch, by_epoch) if pair]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    return max(candidates, key=lambda path: path.stat().st_mtime_ns)


def numbered(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    found = {}
    for path in folder.glob("*.pt"):
        match = name.fullmatch(path.name)
        if match:
            found[int(match.group(1))] = path
    return found


def batch_checkpoints(folder: Path) -> dict[int, Path]:
    return numbered(folder, _OF_BATCH)


def epoch_checkpoints(folder: Path) -> dict[int, Path]:
    return numbered(folder, _OF_EPOCH)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, batch: int, period: int) -> None:
    """One term of the running average, in the type of `average` (float64 loses nothing over millions of batches)."""
    share = period / batch
    now = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name].to(value), share)
        else:
            value.copy_(now[name])


def average_between(start: Mapping[str, Any], end: Mapping[str, Any], names: tuple[str, str]) -> dict[str, Tensor]:
    """The mean model over the batches after `start` up to `end`, from the running averages of two checkpoints."""
    for content, name in zip((start, end), names):
        if "model_avg" not in content:
            raise UserError(f"{name}: has no running average; decode with --use-averaged-model false")
    period = end.get("average_period") or 1  # the last model that entered is that of a multiple of it
    first, last = (content["batch_idx_train"] // period * period for content in (start, end))
    if not 0 <= first < last:
        raise UserError(f"{names[0]}, {names[1]}: saved after {start['batch_idx_train']} and {end['batch_idx_train']} "
                        f"batches, and no model entered the average in between (every {period} batches one does); "
                        "average over more, or decode with --use-averaged-model false")
    weight = last / (last - first)
    averaged = {}
    for name, value in end["model_avg"].items():
        if value.is_floating_point():
            value = value.double() * weight + start["model_avg"][name].double() * (1 - weight)
        averaged[name] = value
    return averaged


def mean_of(models: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Of the models of several checkpoints, one after another, as icefall's --use-averaged-model false takes them."""
    mean = {name: value.double() if value.is_floating_point() else value for name, value in models[0].items()}
    for other in models[1:]:
        for name, value in other.items():
            if value.is_floating_point():
                mean[name] = mean[name] + value.double()
    return {name: value / len(models) if value.is_floating_point() else value for name, value in mean.items()}


def fill_model(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Every tensor of the model and of the file, or a line that says which do not fit."""
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    own = model.state_dict()
    wrong = [f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
             for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if wrong or missing or unknown:
        problems = {"other shapes:": sorted(wrong), "missing:": missing, "unknown:": unknown}
        parts = [f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
                 for what, names in problems.items() if names]
        raise UserError(f"{where}: does not fit this model ({'; '.join(parts)}); is it of another configuration?")
    model.load_state_dict(dict(tensors))
