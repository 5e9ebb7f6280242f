"""Checkpoints in icefall's layout, and averages over them.

    {"model", "model_avg", "optimizer", "scheduler", "grad_scaler", "sampler": state dicts,
     "batch_idx_train", "cur_epoch", "average_period", "best_train_loss", ...: the run's own, at top level,
     "system": what `TransducerModel.to_dict` gave}

`epoch-N.pt` after epoch N (from 1), `checkpoint-B.pt` after batch B, `best-valid-loss.pt` a copy. Files are written
under another name first, so that one under its own name is whole. What happens to it later is seen too: the archive
holds a CRC-32 of every tensor, which goes wherever the file is copied to (encoders/pickles.py looks at it; torch.load
does not).

The running average over a training of b batches, every `period` of them, is

    avg <- model (period / b) + avg (1 - period / b),

the mean of the models at period, 2 period, ..., b. So between two checkpoints at a < b the mean over (a, b] is
w avg_b + (1 - w) avg_a with w = b / (b - a), as good as having kept all models in between.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from icefall_ext import console
from icefall_ext.encoders.pickles import read_pickled
from icefall_ext.errors import UserError
from icefall_ext.files import atomic_path

_OF_BATCH = re.compile(r"checkpoint-(\d+)\.pt")
_OF_EPOCH = re.compile(r"epoch-(\d+)\.pt")
_DAMAGED = ".damaged"


def save_checkpoint(path: Path, content: Mapping[str, Any], copies: Sequence[Path] = ()) -> None:
    """`copies` are whole before `path` is there: what it says of them holds."""
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as stream:
            kept = _Kept(stream)
            torch.save(dict(content), kept)
            if kept.error:
                raise kept.error
        for copy in copies:
            with atomic_path(copy) as temporary_copy:
                shutil.copyfile(temporary, temporary_copy)


class _Kept:
    """A stream that keeps its failure for later: torch goes on to end the archive; failing there ends the process."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self.error = stream, None

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                self._stream.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        pass


def load_checkpoint(path: Path, tensors: bool = True) -> dict[str, Any]:
    """Ours or icefall's, on the CPU; nothing in the file is run. Without `tensors` only their shapes are read."""
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pt"))[:12]) if path.parent.is_dir() else ""
        raise UserError(f"{path}: no such checkpoint; there is {there or 'none'}")
    content = read_pickled(path, tensors)
    if not isinstance(content, dict) or "model" not in content:
        raise UserError(f"{path}: no model in it; expected a checkpoint of this project or of icefall")
    return content


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that is furthest on, and its content; one that is damaged is renamed and the one before it taken.

    None in a folder without checkpoints. If all there were are damaged that is an error, however often it is tried.
    """
    both = (batch_checkpoints, epoch_checkpoints)
    while last := [by_number[max(by_number)] for kind in both if (by_number := kind(folder))]:
        found = [(path, content) for path in last if (content := _read_or_set_aside(path, tensors=False))]
        if len(found) == len(last):  # the numbers in the names cannot be compared
            path, _ = max(found, key=lambda each: (each[1]["batch_idx_train"], each[1]["cur_epoch"]))
            if content := _read_or_set_aside(path):
                return path, content
    damaged = sorted(path.name for path in folder.glob(f"*.pt{_DAMAGED}"))
    if damaged:
        raise UserError(f"{folder}: no whole checkpoint ({', '.join(damaged[:5])}); put a good copy of one there under "
                        "its old name, or remove the folder to begin anew")
    return None


def _read_or_set_aside(path: Path, tensors: bool = True) -> dict[str, Any] | None:
    try:
        return load_checkpoint(path, tensors)
    except UserError as error:
        path.rename(path.with_name(path.name + _DAMAGED))
        console.says(f"warning: {error}; renamed to {path.name}{_DAMAGED}, and the one before it is taken")
        return None


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
