"""Pre-train an encoder on audio without text, in HuBERT's manner: predict the units of hidden frames.

The units of iteration 1 are clusters of MFCC, those of iteration 2 clusters of a layer of the encoder that iteration 1
made. Each iteration starts from --encoder.source and is a training of its own in --exp-dir/iteration-N; the same
command continues. --out-dir gets the encoder, to be used as --encoder.source.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import group, option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.encoders.pretraining.spec import PredictionConfig
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import atomic_dir, write_text
from icefall_ext.interruption import stop_at_once_when_asked
from icefall_ext.train.config import MAY_DIFFER, LoopConfig

if TYPE_CHECKING:
    import torch

    from icefall_ext.data.index import CutIndex
    from icefall_ext.distributed.world import World
    from icefall_ext.encoders.pretraining.masked_prediction import MaskedPrediction
    from icefall_ext.encoders.speech_encoder import SpeechEncoder

MARK = "pretraining.json"  # in a folder that this program made


@dataclass
class PretrainedConfig(EncoderConfig):
    source: str = option("random:mel-mini", "random:SIZE, or what EncoderConfig.source says, to learn on from there")


@dataclass
class Batches(BatchLimits):
    """Units count as tokens: one a frame."""

    max_duration: float = option(25.0, "seconds of audio in a batch, padding included")
    max_tokens: int = option(10**9, "units in a batch, padding included")


@dataclass
class Loop(LoopConfig):
    """For an encoder that starts from nothing."""

    epochs: int = option(20, "times that every utterance is seen")
    lr: float = option(0.03, "base learning rate of ScaledAdam")
    lr_batches: float = option(1000.0, "Eden: batches after which the rate has fallen to 0.84")
    lr_epochs: float = option(10.0, "Eden: epochs after which the rate has fallen to 0.84")
    lr_warmup: float = option(50.0, "Eden: batches over which the rate rises from half to all")
    accumulate: int = option(1, "batches whose gradients make one step")
    average_period: int = option(1, "batches between two models that enter the running average")


@dataclass
class Config:
    exp_dir: Path = required("folder of this training")
    out_dir: Path = required("folder for the encoder")
    cuts: list[Path] = required("cuts to learn from; text in them is not looked at")
    iterations: int = option(1, "trainings, each after the first with units from the one before")
    layer: int = option(0, "layer whose output makes the units from iteration 2 on; 0: two thirds of the way up")
    valid_share: float = option(0.03, "share of the utterances to watch progress on")
    min_seconds: float = option(1.0, "leave out shorter utterances")
    max_seconds: float = option(20.0, "leave out longer utterances")
    kmeans_hours: float = option(2.0, "hours of audio that the clusters are found in")
    avg: int = option(1, "average the model over so many of the last epochs")
    device: str = option("auto", "cpu, cuda, or auto: cuda where there is one")
    threads: int = option(0, "threads of torch on a CPU; 0: one for a small model, else one for each core")
    workers: int = option(1, "processes that load audio")
    encoder: PretrainedConfig = group(PretrainedConfig, "speech encoder")
    prediction: PredictionConfig = group(PredictionConfig, "masked prediction")
    batch: Batches = group(Batches, "batches")
    train: Loop = group(Loop, "loop")


MAY_CHANGE = ("exp_dir", "out_dir", "iterations", "avg", "device", "threads", "workers", "encoder.weights_dir",
              *(f"train.{name}" for name in MAY_DIFFER))


def main(cfg: Config) -> None:
    check(cfg)
    stop_at_once_when_asked()
    from icefall_ext.distributed.world import World
    from icefall_ext.encoders.load import save_encoder
    from icefall_ext.train.devices import choose_device

    device = choose_device(cfg.device)
    with World.start(device) as world:
        with world.first_process_first():
            audio = index_audio(cfg, world)
        encoder, facts = None, {}
        for iteration in range(1, cfg.iterations + 1):
            encoder, facts = pretrain(cfg, iteration, audio, encoder, device, world)
        if world.first:
            with atomic_dir(cfg.out_dir) as temporary:
                what = save_encoder(encoder, temporary)
                write_text(temporary / MARK, json.dumps(facts, indent=1) + "\n")
            console.wrote(cfg.out_dir, what)


def check(cfg: Config) -> None:
    for part in (cfg.encoder, cfg.prediction, cfg.batch, cfg.train):
        part.check()
    for path in cfg.cuts:
        if not path.is_file():
            raise UserError(f"{path}: no such file; prepare_audio_cuts makes cuts from a folder of audio")
    if not 0 < cfg.min_seconds < cfg.max_seconds:
        raise UsageError(f"--min-seconds {cfg.min_seconds}, --max-seconds {cfg.max_seconds}: nothing lies between")
    if not 0 < cfg.valid_share < 1:
        raise UsageError(f"--valid-share {cfg.valid_share}: must lie between 0 and 1")
    if cfg.iterations < 1 or not 1 <= cfg.avg <= cfg.train.epochs:
        raise UsageError(f"--iterations {cfg.iterations}, --avg {cfg.avg}: at least 1, and no more than --train.epochs "
                         f"{cfg.train.epochs} to average")
    if cfg.kmeans_hours <= 0 or min(cfg.layer, cfg.workers, cfg.threads) < 0:
        raise UsageError(f"--kmeans-hours {cfg.kmeans_hours}: above 0; --layer {cfg.layer}, --workers {cfg.workers}, "
                         f"--threads {cfg.threads}: not below 0")
    if cfg.out_dir.is_dir() and any(cfg.out_dir.iterdir()) and not (cfg.out_dir / MARK).is_file():
        raise UserError(f"{cfg.out_dir}: not empty, and not made by this program; name another folder for the encoder")


def index_audio(cfg: Config, world: World) -> CutIndex:
    """All utterances of a usable length, not yet with units."""
    from icefall_ext.data.index import CutIndex
    from icefall_ext.encoders.pretraining.units import gather

    def reason_against(seconds: float, _: list[int]) -> str | None:
        if seconds < cfg.min_seconds:
            return f"shorter than {cfg.min_seconds:g} s"
        return f"longer than {cfg.max_seconds:g} s" if seconds > cfg.max_seconds else None

    folder = cfg.exp_dir / "data"
    if world.first:
        gather(cfg.cuts, folder / "cuts.jsonl.gz")
    index, left_out = CutIndex.build(
        folder / "cuts.jsonl.gz", folder / "audio", lambda cut: cut["id"], lambda _: [0], reason_against,
        json.dumps([cfg.min_seconds, cfg.max_seconds]),
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
    console.reads(" ".join(map(str, cfg.cuts)), f"{len(index):,} utterances, {hours(index):.2f} h" + (
        f"; left out: {reasons}" if reasons else ""))
    if not len(index):
        raise UserError(f"{cfg.cuts[0]}: no utterance to use ({reasons or 'it is empty'})")
    return index


def pretrain(
    cfg: Config, iteration: int, audio: CutIndex, earlier: SpeechEncoder | None, device: torch.device, world: World
) -> tuple[SpeechEncoder, dict[str, object]]:
    """The encoder, and what is worth knowing about it."""
    import torch

    from icefall_ext.encoders.load import build_encoder
    from icefall_ext.encoders.pretraining.masked_prediction import MaskedPrediction
    from icefall_ext.optim.groups import parameter_groups
    from icefall_ext.optim.scaled_adam import ScaledAdam
    from icefall_ext.train.checkpoint import fill_model
    from icefall_ext.train.devices import set_threads
    from icefall_ext.train.pretraining_objective import PretrainingObjective
    from icefall_ext.train.restore import chosen_weights
    from icefall_ext.train.run_folder import RunFolder
    from icefall_ext.train.trainer import Trainer, TrainingData

    path = cfg.exp_dir / f"iteration-{iteration}"
    torch.manual_seed(cfg.train.seed)
    model = MaskedPrediction(build_encoder(cfg.encoder), cfg.prediction)
    layer = cfg.layer or max(1, round(2 / 3 * model.encoder.num_layers))
    if layer > model.encoder.num_layers:
        raise UsageError(f"--layer {layer}: this encoder has {model.encoder.num_layers} layers")
    set_threads(cfg.threads, model, device)
    model.to(device)
    with world.first_process_first():  # it makes the files that the others read
        folder = RunFolder.start(cfg, path, MAY_CHANGE) if world.first else RunFolder(path)
        train, valid = make_parts(cfg, path, audio, model.encoder, earlier, layer, device)
    data = TrainingData(train, valid, cfg.batch, cfg.workers, world)
    optimizer = ScaledAdam(
        parameter_groups(model, cfg.train.lr, learning_rate_scales(model.encoder)),
        lr=cfg.train.lr, clipping_scale=cfg.train.clipping_scale,
    )
    system = {"architecture": model.encoder.architecture.to_dict(), "prediction": asdict(cfg.prediction)}
    began_from = model.encoder.read_from
    Trainer(folder, model, PretrainingObjective(model), optimizer, data, cfg.train, device, system, began_from).fit()
    world.wait()  # for the last checkpoint
    weights = chosen_weights(path, epoch=0, iteration=0, avg=cfg.avg, use_averaged_model=True)
    fill_model(model, weights.tensors, weights.source)
    quality = judge(model, train, valid, cfg, device)
    return model.encoder, {"iteration": iteration, "weights": weights.suffix, "hours": hours(audio), **quality}


def make_parts(
    cfg: Config, path: Path, audio: CutIndex, encoder: SpeechEncoder, earlier: SpeechEncoder | None,
    layer: int, device: torch.device,
) -> tuple[CutIndex, CutIndex]:
    """Training and validation, with units. A log-mel encoder that starts from nothing gets the scale of energies."""
    from icefall_ext.encoders.pretraining import features as of
    from icefall_ext.encoders.pretraining.units import Labelling, batches_of, some

    sample = 3600 * cfg.kmeans_hours
    if encoder.architecture.model_type == "log-mel-hubert" and cfg.encoder.source.startswith("random:"):
        numbers = some(audio, min(sample, 600.0), cfg.train.seed)
        of.fit_log_mel(encoder, (b.to(device) for b in batches_of(audio, numbers, cfg.batch, cfg.workers)))
    if earlier is None:
        features, made_by = of.Mfcc(encoder).to(device), ""
    else:
        features, made_by = of.HiddenLayer(earlier.to(device), layer), digest_of_encoder(earlier)
    clusters, seed = cfg.prediction.clusters, cfg.train.seed
    key = json.dumps([str(features), made_by, clusters, seed, sample, encoder.architecture.to_dict()])
    labelling = Labelling(features, clusters, seed, sample, cfg.batch, cfg.workers, device, key)
    return labelling.index_parts(audio, path / "data", cfg.valid_share)


def hours(index: CutIndex) -> float:
    return float(index.durations.sum(dtype="float64")) / 3600


def learning_rate_scales(encoder: SpeechEncoder) -> dict[str, float]:
    from icefall_ext.encoders.freezing import learning_rate_groups

    groups = learning_rate_groups(encoder, prefix="encoder.")
    return {name: group.lr_scale for group in groups for name, _ in group.named_parameters}


def judge(
    model: MaskedPrediction, train: CutIndex, valid: CutIndex, cfg: Config, device: torch.device
) -> dict[str, float]:
    """How well the units of hidden frames are known, against a guess that always names the most frequent unit."""
    import numpy as np
    import torch

    from icefall_ext.encoders.pretraining.units import batches_of, shares
    from icefall_ext.train.pretraining_objective import PretrainingObjective, perplexity
    from icefall_ext.train.run_folder import says

    objective, sums, masked = PretrainingObjective(model.eval()), Counter(), 0
    with torch.no_grad():
        for batch in batches_of(valid, np.arange(len(valid)), cfg.batch, workers=0):
            loss = objective(batch.to(device), 1)
            sums.update({"loss": float(loss.total), **{name: float(value) for name, value in loss.terms.items()}})
            masked += loss.units
    values = {name: value / max(masked, 1) for name, value in sums.items()}
    of_train, of_valid = (shares(index, cfg.prediction.clusters) for index in (train, valid))
    guess = float(of_valid[of_train.argmax()])
    there = float(perplexity(torch.from_numpy(of_valid)))
    says(f"hidden frames: unit right in {100 * values['accuracy']:.1f} % (a guess: {100 * guess:.1f} %), loss "
         f"{values['loss']:.3f}; perplexity of the predictions {values['perplexity']:.0f}, of the units {there:.0f}")
    if values["accuracy"] < 1.5 * guess:
        says("warning: hardly better than a guess; train longer, with more audio, or with another --train.lr")
    return {**values, "guess": guess, "perplexity_of_units": there}


def digest_of_encoder(encoder: SpeechEncoder) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        sha.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    run(main, Config)
