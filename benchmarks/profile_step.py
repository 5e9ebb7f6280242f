"""Where the time of a training step goes: by part of the model, forward and backward, and by operation.

One step as in bench_training, after one to warm up. Parts are told apart by the moments at which a tensor between two
of them is made, and at which its gradient is.

    python -m benchmarks.profile_step --encoder hubert-base --batch-seconds 16
    python -m benchmarks.profile_step --encoder hubert-base --batch-seconds 100 --device cuda --dtype bfloat16
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.bench_training import VOCAB, architecture_of, finish, make_batch
from icefall_ext import console
from icefall_ext.cli import option, run
from icefall_ext.data.loading import SpeechBatch
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.optim.groups import parameter_groups
from icefall_ext.optim.scaled_adam import ScaledAdam
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.spec import ModelConfig

FORWARD = ("front end", "layers", "transducer and CTC")
MOMENTS = ("start", "features", "frames", "losses", "gradient of frames", "gradient of features", "gradients", "update")


@dataclass
class Config:
    encoder: str = option("hubert-base", "as in bench_training")
    batch_seconds: float = option(16.0, "seconds of audio in the batch, padding included")
    rounds: int = option(5, "steps; the table has their medians")
    operations: int = option(12, "how many to list")
    threads: int = option(1, "of torch, on a CPU")
    device: str = option("cpu", "where the step runs", choices=("cpu", "cuda"))
    dtype: str = option("float32", "of activations (autocast)", choices=("float32", "bfloat16"))


def main(cfg: Config) -> None:
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(1)
    step = Step(cfg)
    step.run()
    parts = [step.run() for _ in range(cfg.rounds)]
    medians = [statistics.median(of) for of in zip(*parts)]
    total = sum(medians)
    there = [f"{name}, forward" for name in FORWARD]
    back = [f"{name}, backward" for name in reversed(FORWARD)]
    console.says(f"{cfg.encoder}, a batch of {step.batch.seconds:.1f} s, {total:.2f} s a step, {cfg.device} "
                 f"{cfg.dtype}, {cfg.threads} threads, torch {torch.__version__}")
    parts = zip([*there, *back, "ScaledAdam"], medians)
    console.table(("part", "s", "%"), [(name, f"{s:.3f}", f"{100 * s / total:.0f}") for name, s in parts])
    operations(step, cfg)


class Step:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.batch: SpeechBatch = make_batch(cfg.batch_seconds)[0].to(torch.device(cfg.device))
        encoder = SpeechEncoder(architecture_of(cfg.encoder), EncoderConfig(source="random"))
        self.model = TransducerModel(encoder, ModelConfig(), VOCAB).to(cfg.device).train()
        self.optimizer = ScaledAdam(parameter_groups(self.model, 1e-4), lr=1e-4)
        self.moments: dict[str, float] = {}
        projection = encoder.backbone.feature_projection.projection
        projection.register_forward_hook(lambda *call: self._watch("features", call[-1]))
        encoder.register_forward_hook(lambda *call: self._watch("frames", call[-1][0]))

    def run(self) -> list[float]:
        """Seconds between one moment and the next."""
        self._now("start")
        with torch.autocast(self.cfg.device, torch.bfloat16, enabled=self.cfg.dtype == "bfloat16"):
            losses = self.model(self.batch.waveforms, self.batch.lengths, self.batch.tokens)
            total = (0.5 * losses.simple + losses.pruned + losses.ctc).sum()
        self._now("losses")
        total.backward()
        self._now("gradients")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._now("update")
        times = [self.moments[name] for name in MOMENTS]
        return [after - before for before, after in zip(times, times[1:])]

    def _watch(self, name: str, output: Tensor) -> None:
        self._now(name)
        output.register_hook(lambda gradient: self._now(f"gradient of {name}"))

    def _now(self, moment: str) -> None:
        finish(self.cfg.device)
        self.moments[moment] = time.perf_counter()


def operations(step: Step, cfg: Config) -> None:
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if cfg.device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiler:
        step.run()
    of = "self_device_time_total" if cfg.device == "cuda" else "self_cpu_time_total"
    found = sorted(profiler.key_averages(), key=lambda event: -getattr(event, of))
    total = sum(getattr(event, of) for event in found)
    rows = [(event.key, event.count, f"{getattr(event, of) / 1e6:.3f}", f"{100 * getattr(event, of) / total:.0f}")
            for event in found[: cfg.operations]]
    console.table(("operation", "calls", "s", "%"), rows)


if __name__ == "__main__":
    run(main, Config)
