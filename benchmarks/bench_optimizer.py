"""How long a step of ScaledAdam takes: ours, its equations one tensor after another, and torch's AdamW.

The tensors are the 201 of a transformer encoder with 16 layers. Every round makes one step with each optimiser, in an
order that turns; shown are medians over the rounds and medians of each round's ratio to ours. Operations are those that
a step, the fullest of four, asks of torch. On a GPU ours has the whole vector in one piece.

    python -m benchmarks.bench_optimizer --dims 144 768 --rounds 40
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
from torch import nn

from benchmarks.bench_manifests import processor
from icefall_ext import console
from icefall_ext.cli import option, run
from icefall_ext.optim.scaled_adam import ScaledAdam
from icefall_ext.optim.sheet import PIECE_ELEMENTS
from tests.operation_count import OperationCount
from tests.plain_scaled_adam import PlainScaledAdam


@dataclass
class Config:
    dims: list[int] = option([144, 768], "widths of the transformer; 768 is HuBERT base")
    rounds: int = option(40, "steps of each optimiser that are timed")
    threads: int = option(1, "threads of torch on the CPU")
    device: str = option("cpu", "where the tensors are", choices=("cpu", "cuda"))


def main(cfg: Config) -> None:
    torch.set_num_threads(cfg.threads)
    rows = []
    for dim in cfg.dims:
        params = transformer(dim, cfg.device)
        size = f"{len(params)} tensors, {sum(p.numel() for p in params) / 1e6:.1f} M"
        operations = {name: operations_of_a_step(make(params)) for name, make in OPTIMIZERS.items()}
        seconds = measure({name: make(params) for name, make in OPTIMIZERS.items()}, cfg)
        for name, times in seconds.items():
            ratio = statistics.median(other / ours for other, ours in zip(times, seconds["ScaledAdam, ours"]))
            rows.append((name, size, f"{1000 * statistics.median(times):.1f}", f"{ratio:.2f}", operations[name]))
    console.table(("", "parameters", "ms", "times ours", "operations"), rows)
    where = torch.cuda.get_device_name() if cfg.device == "cuda" else f"{cfg.threads} thread(s) of {processor()}"
    console.says(f"{where}; torch {torch.__version__}, Python {platform.python_version()}")


def transformer(dim: int, device: str) -> list[nn.Parameter]:
    """With gradients, about as large as after clipping."""
    torch.manual_seed(1)
    layers = [nn.TransformerEncoderLayer(dim, dim // 48 or 1, 4 * dim) for _ in range(16)]
    front = [nn.Conv1d(1, 64, 10), nn.Conv1d(64, dim, 3), nn.LayerNorm(dim), nn.Linear(dim, 500), nn.PReLU()]
    params = [p for module in (*layers, *front) for p in module.to(device).parameters()]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p)
    return params


def scaled_adam(params: list[nn.Parameter]) -> Callable[[], None]:
    return ScaledAdam(params, lr=1e-4, clipping_scale=2.0).step


def scaled_adam_in_one_piece(params: list[nn.Parameter]) -> Callable[[], None]:
    step = scaled_adam(params)
    with mock.patch.dict(PIECE_ELEMENTS, cpu=PIECE_ELEMENTS["cuda"]):
        step()  # lays the vector out
    return step


def plain_scaled_adam(params: list[nn.Parameter]) -> Callable[[], None]:
    return PlainScaledAdam([{"params": params, "lr": 1e-4}], clipping_scale=2.0).step


def adamw(params: list[nn.Parameter], **options: bool) -> Callable[[], None]:
    return torch.optim.AdamW(params, lr=1e-6, **options).step


OPTIMIZERS = {
    "ScaledAdam, ours": scaled_adam,
    "ScaledAdam, ours in one piece": scaled_adam_in_one_piece,
    "ScaledAdam, tensor by tensor": plain_scaled_adam,
    "AdamW, foreach": lambda params: adamw(params, foreach=True),
    "AdamW, tensor by tensor": lambda params: adamw(params, foreach=False),
}


def measure(steps: dict[str, Callable[[], None]], cfg: Config) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for round_ in console.progress(range(cfg.rounds), "rounds", total=cfg.rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            steps[name]()
            if cfg.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def operations_of_a_step(step: Callable[[], None]) -> int:
    step()  # makes its state
    counts = []
    for _ in range(4):
        with OperationCount() as counted:
            step()
        counts.append(counted.operations)
    return max(counts)


if __name__ == "__main__":
    run(main, Config)
