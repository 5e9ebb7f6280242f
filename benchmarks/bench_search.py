"""How fast the searches decode, from the encoder's output on: native against k2, and how time grows.

Two models of random weights. `flat` is one at its start: all tokens nearly alike, every hypothesis says something on
every frame, which is the most work there can be. `sure` speaks like a trained one: four frames in five are blank, and
the best token has nine tenths of the probability. All methods take turns, so that a noisy minute meets them all; shown
are medians. A frame is 40 ms of speech. The first row is no search: it scores every frame after the same context, which
is the arithmetic that the fastest search must do.

    python -m benchmarks.bench_search                                                      # in the k2 lane: with k2
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench_manifests import processor
from icefall_ext.cli import option, run
from icefall_ext.errors import UsageError
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.predictor import StatelessPredictor
from icefall_ext.transducer.search import HotwordGraph, NgramLm, TransducerSearch, make_search

FRAMES_PER_SECOND = 25
ICEFALL = {  # frames/s of its own searches, measured earlier: two cores, V 500, 512 dimensions, 250 frames
    ("greedy", 32): 80_000, ("modified beam 4", 32): 13_000, ("fast beam, k2", 32): 1_400,
    ("greedy", 1): 20_000, ("modified beam 4", 1): 3_000, ("fast beam, k2", 1): 1_000,
}
FLOOR = "(one context, scored alone)"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GROWTH_BASE = {"T": 100, "B": 8, "V": 500, "beam": 2}
GROWTH_FACTORS = (1, 2, 4, 8)
Decode = Callable[[], object]


@dataclass
class Config:
    models: list[str] = option(["sure", "flat"], "which models decode")
    batches: list[int] = option([32, 1], "utterances decoded together")
    frames: int = option(250, "of every utterance")
    vocab_size: int = option(500, "tokens, blank included")
    dim: int = option(512, "of encoder output, predictor and joiner")
    threads: int = option(1, "of torch: one decoder a core is what a test set wants")
    rounds: int = option(5, "every method runs once in each")
    clock: str = option("wall", "wall, or cpu: seconds of computing, for a machine with other work to do")
    tables: list[str] = option(["methods", "growth"], "which tables to make")


def main(cfg: Config) -> None:
    if cfg.clock not in CLOCKS:
        raise UsageError(f"--clock {cfg.clock}: wall or cpu")
    torch.set_num_threads(cfg.threads)
    versions = [f"{package} {metadata.version(package)}" for package in ("torch", "numpy", "k2") if has(package)]
    print(f"`python -m benchmarks.bench_search {' '.join(sys.argv[1:])}`".replace(" `", "`"))
    print(f"\n{cfg.threads} threads, {cfg.clock} time, on {len(os.sched_getaffinity(0))} cores, {processor()}; "
          f"Python {platform.python_version()}, {', '.join(versions)}\n")
    if "methods" in cfg.tables:
        print("| model | batch | method | frames/s | lowest-highest | real-time factor | times k2's | "
              "icefall's own, measured earlier |\n|---|---|---|---|---|---|---|---|")
        for model in cfg.models:
            for batch in cfg.batches:
                compare(model, batch, cfg)
        print()
    if "growth" in cfg.tables:
        print("| method | size | x 1, s | x 2 | x 4 | x 8 | slope |\n|---|---|---|---|---|---|---|")
        for method in ("greedy_search", "modified_beam_search", "fast_beam_search"):
            growth(method, cfg)


def has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def build(kind: str, vocab_size: int, dim: int) -> tuple[StatelessPredictor, Joiner]:
    torch.manual_seed(0)
    predictor, joiner = StatelessPredictor(vocab_size, dim).eval(), Joiner(dim, dim, dim, vocab_size).eval()
    if kind == "sure":
        with torch.no_grad():
            joiner.output_linear.weight.mul_(6.0)
            joiner.encoder_proj.weight.copy_(torch.eye(dim))
    return predictor, joiner


def encoder_output(kind: str, joiner: Joiner, batch: int, frames: int) -> Tensor:
    torch.manual_seed(1)
    vocab_size, dim = joiner.output_linear.weight.shape
    if kind == "flat":
        return torch.randn(batch, frames, dim)
    heard, alike = torch.randint(1, vocab_size, (2, batch, frames))
    heard[torch.rand(batch, frames) < 0.8] = 0
    doubt = 0.6 * torch.rand(batch, frames, 1) ** 3
    sound = joiner.output_linear.weight.detach()
    mixed = (1 - doubt) * sound[heard] + doubt * sound[alike]
    return 6 * mixed / mixed.norm(dim=-1, keepdim=True)


def compare(kind: str, batch: int, cfg: Config) -> None:
    predictor, joiner = build(kind, cfg.vocab_size, cfg.dim)
    encoder_out = encoder_output(kind, joiner, batch, cfg.frames)
    lengths = torch.full((batch,), cfg.frames)
    methods: dict[str, TransducerSearch] = {
        "greedy": make_search("greedy_search", predictor, joiner),
        "modified beam 4": make_search("modified_beam_search", predictor, joiner),
        "modified beam 4, trigram": make_search("modified_beam_search", predictor, joiner, lms=[(trigram(cfg), 0.3)]),
        "modified beam 4, 100 hotwords": make_search("modified_beam_search", predictor, joiner, hotwords=hotwords(cfg)),
        "fast beam (20, 8, 64)": make_search("fast_beam_search", predictor, joiner, backend="torch"),
    }
    if has("k2"):
        methods["fast beam, k2"] = make_search("fast_beam_search", predictor, joiner, backend="k2")
    decodes = {name: decoding(search, encoder_out, lengths) for name, search in methods.items()}
    seconds = take_turns({FLOOR: scoring_alone(predictor, joiner, encoder_out), **decodes}, cfg)
    for name, times in seconds.items():
        frames = batch * cfg.frames
        against = "fast beam, k2" if name.startswith("fast") and has("k2") else None
        ratio = f"{statistics.median(k / t for k, t in zip(seconds[against], times)):.1f}" if against else ""
        known = ICEFALL.get(("fast beam, k2" if name.startswith("fast") else name, batch))
        standard = (cfg.frames, cfg.vocab_size, cfg.dim) == (250, 500, 512)
        icefall = f"{known:,} (x {frames / statistics.median(times) / known:.1f})" if known and standard else ""
        print(f"| {kind} | {batch} | {name} | {frames / statistics.median(times):,.0f} | "
              f"{frames / max(times):,.0f}-{frames / min(times):,.0f} | "
              f"{statistics.median(times) * FRAMES_PER_SECOND / frames:.5f} | {ratio} | {icefall} |", flush=True)


def decoding(search: TransducerSearch, encoder_out: Tensor, lengths: Tensor) -> Decode:
    return lambda: search(encoder_out, lengths)


def scoring_alone(predictor: StatelessPredictor, joiner: Joiner, encoder_out: Tensor) -> Decode:
    """What no search that scores a batch frame by frame can do without, and nothing else."""

    @torch.inference_mode()
    def score() -> None:
        am, lm = joiner.encoder_proj(encoder_out), joiner.decoder_proj(predictor.start(1)[0])
        for frame in range(am.shape[1]):
            joiner(am[:, frame], lm, project_input=False).argmax(-1)

    return score


def take_turns(methods: dict[str, Decode], cfg: Config) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    clock = CLOCKS[cfg.clock]
    for number in range(cfg.rounds + 1):  # the first warms up
        for name, decode in methods.items():
            start = clock()
            decode()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def hotwords(cfg: Config) -> HotwordGraph:
    random = np.random.default_rng(0)
    words = {tuple(random.integers(1, cfg.vocab_size, size=random.integers(2, 6)).tolist()) for _ in range(100)}
    return HotwordGraph(sorted(words), cfg.vocab_size)


def trigram(cfg: Config) -> NgramLm:
    """With 20 followers for every token and 5 for every such pair."""
    random = np.random.default_rng(0)
    log_probs = {(): {token: -6.0 for token in range(1, cfg.vocab_size)}}
    for first in range(1, cfg.vocab_size):
        log_probs[first,] = {int(token): -3.0 for token in random.integers(1, cfg.vocab_size, size=20)}
        for second in log_probs[first,]:
            log_probs[first, second] = {int(token): -1.6 for token in random.integers(1, cfg.vocab_size, size=5)}
    return NgramLm(log_probs, {context: -0.5 for context in log_probs}, (-1,), cfg.vocab_size, unseen=-12.0)


def growth(method: str, cfg: Config) -> None:
    """Time at 1, 2, 4 and 8 times each size, the others as they are, and the slope of log time over log size."""
    beam = {"greedy_search": None, "modified_beam_search": "beam", "fast_beam_search": "max_contexts"}[method]
    for letter, base in GROWTH_BASE.items():
        if letter == "beam" and beam is None:
            continue
        decodes = {}
        for factor in GROWTH_FACTORS:
            size = GROWTH_BASE | {letter: base * factor}
            predictor, joiner = build("sure", size["V"], cfg.dim)
            options = {beam: size["beam"]} if beam else {}
            search = make_search(method, predictor, joiner, backend="torch", **options)
            encoder_out = encoder_output("sure", joiner, size["B"], size["T"])
            decodes[factor] = decoding(search, encoder_out, torch.full((size["B"],), size["T"]))
        seconds = [statistics.median(times) for times in take_turns(decodes, cfg).values()]
        x, y = ([math.log(value) for value in values] for values in (GROWTH_FACTORS, seconds))
        slope = statistics.linear_regression(x, y).slope
        name = {"beam": "beam", "max_contexts": "contexts"}.get(beam, "") if letter == "beam" else letter
        times = " | ".join(f"{value:.3f}" for value in seconds)
        print(f"| {method} | {name} from {base} | {times} | {slope:.2f} |", flush=True)


if __name__ == "__main__":
    run(main, Config)
