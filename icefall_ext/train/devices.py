"""Where a training runs, and on how many threads."""

from __future__ import annotations

import os

import torch
from torch import nn

from icefall_ext.errors import UsageError

_SMALL = 20_000_000  # parameters; below, threads wait for each other longer than they work


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: must be cpu, cuda, cuda:N or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch {torch.__version__} finds no GPU here; --device cpu runs without")
    return device


def set_threads(wanted: int, model: nn.Module, device: torch.device) -> None:
    if wanted:
        torch.set_num_threads(wanted)
    elif device.type == "cpu":
        small = sum(p.numel() for p in model.parameters()) < _SMALL
        torch.set_num_threads(1 if small else len(os.sched_getaffinity(0)))
