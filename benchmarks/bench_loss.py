"""Time and memory of a pruned RNN-T loss step: ours, k2's, and torchaudio's full loss; and how ours grows.

A step is forward and backward of the simple and the pruned loss, from the projections on, joiner included. Every
measurement is a process of its own, whose memory is what the step takes above its inputs; the implementations take
turns, so that a noisy minute meets them all. Input is random; `spread` is its standard deviation: 1 makes some paths
much likelier than others, as training does, 0.1 is a model at its start.

    python -m benchmarks.bench_loss                                                    # in the k2 lane: with k2
    python -m benchmarks.bench_loss --device cuda --dtype bfloat16                     # with the Triton backend
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from icefall_ext.cli import option, run
from icefall_ext.transducer.loss import backends, pruned_rnnt_loss

SIZES = ["4,200,30,500", "8,400,40,500", "16,500,50,500", "16,500,50,2000", "30,500,60,5000"]
GROWTH_BASE = {"B": 8, "T": 300, "S": 30, "V": 500}
GROWTH_FACTORS = (1, 2, 4, 8)
TABLES = ["compare", "growth", "bandwidth"]
S_RANGE, JOINER_DIM, BLANK, MEMORY_GB = 5, 512, 0, 16
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Config:
    device: str = option("cpu", "where the step runs", choices=("cpu", "cuda"))
    dtype: str = option("float32", "of the projections and logits", choices=("float32", "bfloat16", "float16"))
    threads: int = option(2, "of torch, on a CPU")
    clock: str = option(
        "wall", "seconds of the clock, or of the CPU for a machine shared with others", choices=tuple(CLOCKS)
    )
    rounds: int = option(5, "every implementation runs once in each")
    tables: list[str] = option(TABLES, "which to make", choices=TABLES)
    sizes: list[str] = option(SIZES, "B,T,S,V to compare at")
    joiner: str = option("linear", f"tanh and Linear from {JOINER_DIM}, or am + lm alone", choices=("linear", "sum"))
    spread: float = option(1.0, "standard deviation of the projections")
    losses: list[str] = option([], "which to compare; all if none is given")
    measure: str = option("", "one measurement in this process, for the program's own use")


def main(cfg: Config) -> None:
    if cfg.measure:
        print(json.dumps(measure(json.loads(cfg.measure), cfg)))
        return
    ours = ["torch"] if cfg.device == "cpu" else ["triton", "torch"]
    names = [variant for name in ours for variant in (name, f"{name}, recompute=False")]
    names += ["k2"] * (backends.why_no_k2() is None) + ["torchaudio, full"]
    print(f"`python -m benchmarks.bench_loss {shlex.join(sys.argv[1:])}`\n\n{machine(cfg)}\n")
    if "compare" in cfg.tables:
        print("| B, T, S, V | joiner, spread | loss | step, s | peak, GB | times k2's speed | of k2's memory |")
        print("|---|---|---|---|---|---|---|")
        for size in cfg.sizes:
            compare(cfg.losses or names, tuple(map(int, size.split(","))), cfg)
        print()
    if "growth" in cfg.tables:
        print("| loss | size | x 1, s | x 2 | x 4 | x 8 | slope |\n|---|---|---|---|---|---|---|")
        for name in ours:
            growth(name, cfg)
        print()
    if "bandwidth" in cfg.tables:
        print("| pass over logits of 40,000 cells, V = 2000 | GB/s |\n|---|---|")
        for name in ours:
            bandwidth(name, cfg)


def build_step(
    name: str, joiner: str, size: tuple[int, ...], spread: float, device: str, dtype: torch.dtype
) -> Callable[[], float]:
    """A function that runs one step, on random projections of standard deviation `spread`, without padding."""
    B, T, S, V = size
    torch.manual_seed(0)

    def leaf(*shape):
        return (torch.randn(shape, device=device) * spread).to(dtype).requires_grad_()

    simple_lm, simple_am, lm, am = leaf(B, S + 1, V), leaf(B, T, V), leaf(B, S + 1, JOINER_DIM), leaf(B, T, JOINER_DIM)
    linear = torch.nn.Linear(JOINER_DIM, V, device=device, dtype=dtype)
    symbols = torch.randint(1, V, (B, S), device=device)
    boundary = torch.tensor([[0, 0, S, T]] * B)
    if joiner == "sum":
        lm, am, join = simple_lm, simple_am, torch.add
    else:

        def join(am, lm):
            return linear(torch.tanh(am + lm))

    def pruned(**options):
        arguments = (simple_lm, simple_am, lm, am, join, symbols, BLANK, S_RANGE, 0.25, 0.0, boundary)
        losses = pruned_rnnt_loss(*arguments, reduction="sum", **options)
        return 0.5 * losses.simple + losses.pruned

    def full():
        import torchaudio

        lengths = (torch.full((B,), n, dtype=torch.int32, device=device) for n in (T, S))
        logits = join(am[:, :, None], lm[:, None])
        return torchaudio.functional.rnnt_loss(logits, symbols.int(), *lengths, blank=BLANK, reduction="sum")

    loss = {
        "torch": lambda: pruned(backend="torch"),
        "torch, recompute=False": lambda: pruned(backend="torch", recompute=False),
        "triton": lambda: pruned(backend="triton"),
        "triton, recompute=False": lambda: pruned(backend="triton", recompute=False),
        "k2": lambda: pruned(backend="k2"),
        "torchaudio, full": full,
    }[name]
    leaves = (simple_lm, simple_am, lm, am, *linear.parameters())

    def step():
        for tensor in leaves:
            tensor.grad = None
        value = loss()
        value.backward()
        return float(value.detach())

    return step


def too_large(name: str, size: tuple) -> str | None:
    """What the step certainly holds at once, if that is beyond this benchmark."""
    B, T, S, V = size
    lattice = 4e-9 * B * T * S * V
    if name == "k2" and lattice > MEMORY_GB:
        return f"over {lattice:.0f} GB: its simple loss's gradient is (B, S, T, V) on the way"
    if name.startswith("torchaudio") and 2 * lattice > MEMORY_GB:
        return f"over {2 * lattice:.0f} GB: logits (B, T, S + 1, V) and their gradient"
    return None


def measure(spec: dict, cfg: Config) -> dict[str, float]:
    """Memory of the first step, the best time of those after it."""
    torch.set_num_threads(cfg.threads)
    repeats = spec.pop("repeats")
    step = build_step(**spec, device=cfg.device, dtype=getattr(torch, cfg.dtype))
    clock, peak = CLOCKS[cfg.clock], peak_memory(cfg.device)
    step()
    gigabytes, seconds = peak(), []
    for _ in range(repeats):
        start = clock()
        step()  # ends in a float, and so waits for a GPU
        seconds.append(clock() - start)
    return {"seconds": min(seconds), "gigabytes": gigabytes}


def peak_memory(device: str) -> Callable[[], float]:
    """Starts now; the function it gives tells the highest memory since, above the memory of now, in GB."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        return lambda: (torch.cuda.max_memory_allocated() - before) / 1e9

    def resident(field):
        line = next(line for line in open("/proc/self/status") if line.startswith(field))
        return int(line.split()[1]) * 1024 / 1e9

    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    before = resident("VmRSS")
    return lambda: resident("VmHWM") - before


def in_process(cfg: Config, **spec: object) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_loss", "--measure", json.dumps(spec)]
    for name in ("device", "dtype", "threads", "clock"):
        command += [f"--{name}", str(getattr(cfg, name))]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def compare(names: list[str], size: tuple[int, ...], cfg: Config) -> None:
    """Rows of medians; speed and memory beside k2's are medians of ratios within a round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names if not too_large(name, size)}
    for _ in range(cfg.rounds):
        for name, measured in results.items():
            measured.append(in_process(cfg, name=name, joiner=cfg.joiner, size=size, spread=cfg.spread, repeats=1))
    for name in names:
        what = f"| {', '.join(map(str, size))} | {cfg.joiner}, {cfg.spread:g} | {name} |"
        if name not in results:
            print(f"{what} - | {too_large(name, size)} | | |", flush=True)
            continue
        seconds, gigabytes = ([one[key] for one in results[name]] for key in ("seconds", "gigabytes"))
        cells = [f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"]
        cells += [f"{statistics.median(gigabytes):.2f}", "", ""]
        if name != "k2" and "k2" in results:
            pairs = list(zip(results[name], results["k2"]))
            cells[2] = f"{statistics.median(k2['seconds'] / one['seconds'] for one, k2 in pairs):.1f}"
            cells[3] = f"{statistics.median(one['gigabytes'] / k2['gigabytes'] for one, k2 in pairs):.2f}"
        print(what, " | ".join(cells), "|", flush=True)


def growth(name: str, cfg: Config) -> None:
    """Time at 1, 2, 4 and 8 times each size, the others as they are, and the slope of log time over log size."""
    for letter, base in GROWTH_BASE.items():
        seconds = []
        for factor in GROWTH_FACTORS:
            size = tuple((GROWTH_BASE | {letter: base * factor}).values())
            spec = {"name": name, "joiner": "linear", "size": size, "spread": 1.0, "repeats": cfg.rounds}
            seconds.append(in_process(cfg, **spec)["seconds"])
        x, y = [math.log(factor) for factor in GROWTH_FACTORS], [math.log(value) for value in seconds]
        slope = statistics.linear_regression(x, y).slope
        times = " | ".join(f"{value:.3f}" for value in seconds)
        print(f"| {name} | {letter} from {base} | {times} | {slope:.2f} |", flush=True)


def bandwidth(name: str, cfg: Config) -> None:
    """What the pass over the pruned logits moves in a second beside a plain copy; the backward one writes as much."""
    torch.set_num_threads(cfg.threads)
    logits = torch.randn(40_000, 2000, device=cfg.device, dtype=getattr(torch, cfg.dtype)).requires_grad_()
    symbols, size = torch.randint(1, 2000, (40_000,), device=cfg.device), logits.numel() * logits.element_size() / 1e9
    other = torch.empty_like(logits)

    def rate(work: Callable[[], object], passes: int) -> float:
        seconds = []
        for _ in range(cfg.rounds + 1):
            start = CLOCKS[cfg.clock]()
            work()
            if cfg.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(CLOCKS[cfg.clock]() - start)
        return passes * size / statistics.median(seconds[1:])

    cell_arcs = backends.choose(name, logits).cell_arcs
    arcs = torch.stack(cell_arcs(logits, symbols, BLANK))
    ones = torch.ones_like(arcs)
    print(f"| copy | {rate(lambda: other.copy_(logits.detach()), 2):.1f} |")
    print(f"| {name}, forward | {rate(lambda: cell_arcs(logits, symbols, BLANK), 1):.1f} |")
    backward = rate(lambda: torch.autograd.grad(arcs, logits, ones, retain_graph=True), 2)
    print(f"| {name}, backward | {backward:.1f} |", flush=True)


def machine(cfg: Config) -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        model = next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "unknown")
    where = f"{cfg.clock} time, {cfg.threads} threads on {len(os.sched_getaffinity(0))} cores, {model}"
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "torchaudio", "k2", "triton"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{torch.cuda.get_device_name() if cfg.device == 'cuda' else where}; {', '.join(versions)}"


if __name__ == "__main__":
    run(main, Config)
