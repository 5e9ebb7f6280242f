"""What SITA's losses cost beside a step of the encoder that they train: L_spk, L_tone and the tone classifier.

The losses are those of train_tone --part stage1, through its own objective, on random embeddings of a full batch of
bases x tones x genders: pairs, forward, and backward to the embeddings. A step of the encoder, on random weights and
noise, is forward, backward from random gradients of its output, and ScaledAdam; of stage 1 (blocks above --frozen up to
--feature-layer learn, none above is computed) and of the teacher (all blocks). --words 0 measures the whole batch. With
fewer, forward and backward of so many words are multiplied to the batch, which are equal words: extrapolated, and said
so in the table. Medians of rounds in which losses and steps take turns.

    python -m benchmarks.bench_tone_losses                                             # CPU, 8 words for 512
    python -m benchmarks.bench_tone_losses --device cuda --dtype bfloat16 --words 0
"""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bench_manifests import processor
from benchmarks.bench_training import finish
from icefall_ext.cli import option, run
from icefall_ext.data.loading import SAMPLE_RATE, SpeechBatch
from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError
from icefall_ext.optim.groups import parameter_groups
from icefall_ext.optim.scaled_adam import ScaledAdam
from icefall_ext.tone.model import Heard, WordModel
from icefall_ext.tone.pairs import Items, cross_gender_pairs, tone_pairs
from icefall_ext.tone.spec import KINDS, AugmentConfig, LayerConfig, ToneLossConfig
from icefall_ext.train.tone_objective import ToneObjective

VOCAB = 60


@dataclass
class Config:
    encoder: str = option("xls-r-300m", "size of the encoder, as in random:SIZE")
    frozen: int = option(12, "blocks from below that never learn")
    feature_layer: int = option(19, "block that gives the embeddings")
    batch: int = option(512, "recordings in a batch, a multiple of twice the tones")
    tones: int = option(8, "of each base")
    kind: str = option("infonce", "of the tone-repulsive loss", choices=KINDS)
    seconds: float = option(0.6, "length of a word")
    words: int = option(8, "words that the encoder's step is measured on; 0: all of --batch")
    rounds: int = option(5, "steps of each kind; the table has their medians")
    threads: int = option(2, "of torch, on a CPU")
    device: str = option("cpu", "where it runs", choices=("cpu", "cuda"))
    dtype: str = option("float32", "of the encoder's activations (autocast)", choices=("float32", "bfloat16"))


def main(cfg: Config) -> None:
    if cfg.batch % (2 * cfg.tones) or cfg.batch < 4 * cfg.tones:
        raise UsageError(f"--batch {cfg.batch}: has to be a multiple of {2 * cfg.tones}, from {4 * cfg.tones} on "
                         "(two bases or more, each in all --tones by both genders)")
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(1)
    encoder = build_encoder(EncoderConfig(source=f"random:{cfg.encoder}", mask_time_prob=0.0))
    model = WordModel(encoder, LayerConfig(cfg.frozen, cfg.feature_layer), cfg.tones, VOCAB).to(cfg.device).train()
    words = cfg.words or cfg.batch
    losses = loss_step(cfg, encoder.output_dim)
    rows = [(f"losses, batch {cfg.batch}, width {encoder.output_dim}", [])]
    steps: list[Callable[[], float]] = [losses]
    for part, what in (("stage1", f"step of stage 1, blocks {cfg.frozen + 1} to {cfg.feature_layer} learn"),
                       ("teacher", f"step of all {encoder.num_layers} blocks")):
        steps.append(encoder_step(cfg, model, part, words))
        rows.append((what, []))
    for step in steps:
        step()
    for _ in range(cfg.rounds):
        for (_, seconds), step in zip(rows, steps):
            seconds.append(step())
    show(cfg, words, rows)


def loss_step(cfg: Config, width: int) -> Callable[[], float]:
    """Seconds of the losses of a batch of random embeddings, their gradients included."""
    bases = cfg.batch // (2 * cfg.tones)
    base, tone, gender = (grid.ravel() for grid in np.mgrid[:bases, : cfg.tones, :2])
    items = Items(base, tone, gender, speaker=gender)
    for pairs in (cross_gender_pairs(items), tone_pairs(items)):
        assert pairs.valid_anchors == cfg.batch, "a batch in which every recording has work to do"
    embeddings = torch.randn(cfg.batch, width, device=cfg.device)
    model = Given(embeddings, cfg.tones).to(cfg.device)
    objective = ToneObjective(model, "stage1", lambda ids: items, ToneLossConfig(kind=cfg.kind), AugmentConfig())
    batch = words_of(cfg, cfg.batch, samples=1)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        return timed(cfg.device, lambda: objective(batch, 1).total.backward())

    return step


class Given(nn.Module):
    """A model whose embeddings are known, so that nothing but the losses takes time."""

    def __init__(self, embeddings: Tensor, tones: int):
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        self.tone_output = nn.Linear(embeddings.shape[1], tones)
        self.eval()  # no augmentation

    def forward(self, waveforms: Tensor, lengths: Tensor, embeddings: bool, logits: bool) -> Heard:
        return Heard(self.embeddings, None, lengths)


def encoder_step(cfg: Config, model: WordModel, part: str, words: int) -> Callable[[], float]:
    """Seconds of a step on the whole batch; of fewer words, their forward and backward count so many times."""
    batch, times = words_of(cfg, words, samples=round(cfg.seconds * SAMPLE_RATE)), cfg.batch / words

    def step() -> float:
        model.freeze_for(part)
        optimizer = ScaledAdam(parameter_groups(model, 1e-4), lr=1e-4)
        model.zero_grad(set_to_none=True)

        def there_and_back() -> None:
            with torch.autocast(cfg.device, torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
                heard = model(batch.waveforms, batch.lengths, embeddings=part == "stage1", logits=part != "stage1")
            output = heard.embeddings if part == "stage1" else heard.logits
            output.backward(torch.randn_like(output) / output.numel())

        seconds = timed(cfg.device, there_and_back)
        optimizer.step()  # sets up its state
        return times * seconds + timed(cfg.device, optimizer.step)

    return step


def words_of(cfg: Config, number: int, samples: int) -> SpeechBatch:
    noise = torch.randn(number, samples, device=cfg.device) / 10
    return SpeechBatch(noise, torch.full((number,), samples), [[]] * number, [str(place) for place in range(number)])


def timed(device: str, work: Callable[[], object]) -> float:
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def show(cfg: Config, words: int, rows: list[tuple[str, list[float]]]) -> None:
    cost = statistics.median(rows[0][1])
    how = "measured" if words == cfg.batch else f"extrapolated from {words} words"
    print(f"`python -m benchmarks.bench_tone_losses {shlex.join(sys.argv[1:])}`\n\n{machine(cfg)}\n")
    print(f"| random:{cfg.encoder}, words of {cfg.seconds:g} s | s (fastest to slowest) | losses beside it, % | |")
    print("|---|---|---|---|")
    for place, (what, seconds) in enumerate(rows):
        median = statistics.median(seconds)
        share = f"{100 * cost / median:.2f}" if place else "-"
        print(f"| {what} | {median:.4g} ({min(seconds):.4g} to {max(seconds):.4g}) | {share} | "
              f"{how if place else 'measured'} |")


def machine(cfg: Config) -> str:
    where = f"{cfg.threads} threads on {len(os.sched_getaffinity(0))} cores, {processor()}"
    on = torch.cuda.get_device_name() if cfg.device == "cuda" else where
    return f"{on}, {cfg.dtype}; torch {torch.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    run(main, Config)
