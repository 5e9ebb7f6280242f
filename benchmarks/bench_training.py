"""Training throughput: seconds of audio a second, peak memory and padding of a step, for encoders of any size.

A step is forward and backward of one batch, and the optimiser's update: of the encoder alone (`encoder`), of the whole
transducer with 500 tokens and CTC (`transducer`), or of masked prediction of 100 units (`pretraining`). Weights and
audio are random; utterances last 2 to 8 s, with 8 tokens a second. Every encoder is measured in a process of its own,
and the encoders take turns, so that a noisy minute meets them all; memory is the most that this process ever held. An
encoder is the name of a size (mel-mini, hubert-base), or mel:STACK:WIDTHxLAYERS, or conv:CHANNELS:WIDTHxLAYERS.

    python -m benchmarks.bench_training                                                   # candidates for the mini one
    python -m benchmarks.bench_training --encoders hubert-base xls-r-300m --batch-seconds 16 --rounds 2
    python -m benchmarks.bench_training --encoders hubert-base --device cuda --dtype bfloat16 --clock wall
"""

from __future__ import annotations

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from icefall_ext import console
from icefall_ext.cli import option, run
from icefall_ext.data.batches import BatchLimits, epoch_batches, padding_share
from icefall_ext.data.loading import SpeechBatch, collate
from icefall_ext.encoders.pretraining.masked_prediction import MaskedPrediction
from icefall_ext.encoders.pretraining.spec import PredictionConfig
from icefall_ext.encoders.spec import Architecture, EncoderConfig, log_mel, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.optim.groups import parameter_groups
from icefall_ext.optim.scaled_adam import ScaledAdam
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.spec import ModelConfig

CANDIDATES = ["mel:2:144x3", "mel:4:144x3", "mel:4:144x4", "mel:4:192x3", "mel:4:192x4", "mel:4:256x4", "conv:64:144x3"]
STEPS = ("encoder", "transducer", "pretraining")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
VOCAB, TOKENS_PER_SECOND = 500, 8


@dataclass
class Config:
    encoders: list[str] = option(CANDIDATES, "names of sizes, mel:STACK:WIDTHxLAYERS or conv:CHANNELS:WIDTHxLAYERS")
    steps: list[str] = option(["encoder", "transducer"], "what to train", choices=STEPS)
    batch_seconds: float = option(200.0, "seconds of audio in a batch, padding included")
    rounds: int = option(3, "every encoder runs once in each")
    threads: int = option(1, "of torch, on a CPU")
    clock: str = option(
        "cpu", "seconds of the CPU, for a machine shared with others, or of the clock", choices=tuple(CLOCKS)
    )
    device: str = option("cpu", "where the step runs", choices=("cpu", "cuda"))
    dtype: str = option("float32", "of activations (autocast)", choices=("float32", "bfloat16"))
    checkpointing: bool = option(False, "gradient checkpointing")
    measure: str = option("", "one encoder in this process, for the program's own use")


def main(cfg: Config) -> None:
    if cfg.measure:
        print(json.dumps({step: measure(cfg, step) for step in cfg.steps}))
        return
    results: dict[str, list[dict]] = {encoder: [] for encoder in cfg.encoders}
    for _ in range(cfg.rounds):
        for encoder in cfg.encoders:
            results[encoder].append(in_own_process(encoder))
    header = ["encoder", "parameters"]
    for step in cfg.steps:
        header += [f"{step}, s/s", "(range)"]
    rows = []
    for encoder, rounds in results.items():
        row = [encoder, f"{rounds[0][cfg.steps[0]]['parameters'] / 1e6:.2f} M"]
        for step in cfg.steps:
            speeds = [of[step]["speed"] for of in rounds]
            row += [f"{statistics.median(speeds):.4g}", f"{min(speeds):.4g}-{max(speeds):.4g}"]
        rows.append([*row, f"{max(of[cfg.steps[-1]]['megabytes'] for of in rounds):,.0f}"])
    padding = rounds[0][cfg.steps[0]]["padding"]
    console.says(f"seconds of audio a second ({cfg.clock} clock), {cfg.device} {cfg.dtype}, {cfg.threads} threads, "
                 f"batches of {cfg.batch_seconds:g} s, {100 * padding:.1f} % padding, torch {torch.__version__}")
    console.table([*header, "MB"], rows)


def in_own_process(encoder: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.bench_training", *sys.argv[1:], "--measure", encoder]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure(cfg: Config, step: str) -> dict[str, float]:
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(1)
    batch, padding = make_batch(cfg.batch_seconds)
    encoder = SpeechEncoder(
        architecture_of(cfg.measure), EncoderConfig(source="random", gradient_checkpointing=cfg.checkpointing)
    )
    model, loss = trained(step, encoder, batch)
    model.to(cfg.device).train()
    batch = batch.to(torch.device(cfg.device))
    optimizer = ScaledAdam(parameter_groups(model, 1e-4), lr=1e-4)
    one_step(cfg, loss, batch, optimizer)  # memory, kernels
    finish(cfg.device)
    start = CLOCKS[cfg.clock]()
    one_step(cfg, loss, batch, optimizer)
    finish(cfg.device)
    seconds = CLOCKS[cfg.clock]() - start
    on_gpu = torch.cuda.max_memory_allocated() / 1e6 if cfg.device == "cuda" else 0.0
    return {
        "speed": batch.seconds / seconds,
        "megabytes": on_gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "padding": padding,
        "parameters": sum(p.numel() for p in encoder.parameters()),
    }


def one_step(cfg: Config, loss: Callable[[SpeechBatch], torch.Tensor], batch: SpeechBatch, optimizer) -> None:
    low = torch.autocast(cfg.device, dtype=torch.bfloat16) if cfg.dtype == "bfloat16" else contextlib.nullcontext()
    with low:
        total = loss(batch)
    total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def trained(
    step: str, encoder: SpeechEncoder, batch: SpeechBatch
) -> tuple[nn.Module, Callable[[SpeechBatch], torch.Tensor]]:
    """The module, and its loss on a batch."""
    if step == "encoder":
        return encoder, lambda batch: encoder(batch.waveforms, batch.lengths)[0].square().mean()
    if step == "transducer":
        model = TransducerModel(encoder, ModelConfig(), VOCAB)

        def transducer_loss(batch: SpeechBatch) -> torch.Tensor:
            losses = model(batch.waveforms, batch.lengths, batch.tokens)
            return (0.5 * losses.simple + losses.pruned + losses.ctc).sum()

        return model, transducer_loss
    prediction = MaskedPrediction(encoder, PredictionConfig())
    counts = encoder.layer_lengths(batch.lengths).tolist()
    units = [torch.randint(100, (count,)).tolist() for count in counts]
    return prediction, lambda batch: prediction(batch.waveforms, batch.lengths, units).masked_loss


def make_batch(batch_seconds: float) -> tuple[SpeechBatch, float]:
    """A batch as training makes it, and the padding in a whole epoch of them."""
    random = np.random.default_rng(1)
    durations = random.uniform(2.0, 8.0, 2000).astype(np.float32)
    counts = (TOKENS_PER_SECOND * durations).astype(np.int64)
    batches = epoch_batches(durations, counts, BatchLimits(batch_seconds, 10**9), seed=1, epoch=1)
    middle = sorted(batches, key=lambda batch: durations[batch].max())[len(batches) // 2]
    waveforms = [0.1 * random.standard_normal(int(16000 * durations[i])).astype(np.float32) for i in middle]
    tokens = [random.integers(1, VOCAB, counts[i]).tolist() for i in middle]
    return collate(waveforms, tokens, [str(i) for i in middle]), padding_share(durations, batches)


def architecture_of(name: str) -> Architecture:
    kind, *rest = name.split(":")
    if not rest:
        return named_size(name)
    width, layers = map(int, rest[1].split("x"))
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * width,
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 8,
    }
    if kind == "mel":
        return Architecture.from_config({"model_type": "log-mel-hubert", **shape, **log_mel(int(rest[0]))}, True, name)
    return Architecture.from_config({"model_type": "hubert", **shape, "conv_dim": [int(rest[0])] * 7}, False, name)


if __name__ == "__main__":
    run(main, Config)
