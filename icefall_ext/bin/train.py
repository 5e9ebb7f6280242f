"""Train a transducer on cuts: one phase of a recipe.

--exp-dir is the folder of the phase; the same command continues there. --init-from takes an earlier phase's folder: its
encoder carries over, and what depends on the tokens is rebuilt.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import group, option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.data.transcripts import SCRIPTS, TONES, text_of
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import atomic_dir
from icefall_ext.interruption import stop_at_once_when_asked
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.tone.spec import SyllableLossConfig
from icefall_ext.train.config import MAY_DIFFER, LoopConfig, LossConfig
from icefall_ext.transducer.model import ModelConfig

if TYPE_CHECKING:
    import torch

    from icefall_ext.data.index import CutIndex
    from icefall_ext.train.transducer_objective import TransducerObjective
    from icefall_ext.transducer.model import TransducerModel


@dataclass
class Config:
    exp_dir: Path = required("folder of this training")
    script: str = required("what it learns to write", choices=SCRIPTS)
    lang_dir: Path = required("byte-level BPE of that script")
    train_cuts: Path = required("cuts to learn from")
    valid_cuts: Path = required("cuts to watch progress on")
    tones: str = option("citation", "tailo: tones as they are written, or as they are spoken", choices=TONES)
    tone5: str = option("south", "surface tones: 5 becomes 7 (south) or 3 (north)", choices=("south", "north"))
    alignments: str = option("", "syllables of --train-cuts (icefall_ext.bin.align), for --tone-loss")
    init_from: str = option("", "folder of an earlier training to start from")
    init_avg: int = option(1, "average the earlier model over so many of its last epochs")
    min_seconds: float = option(0.3, "leave out shorter utterances")
    max_seconds: float = option(20.0, "leave out longer utterances")
    new_lr_scale: float = option(1.0, "learning rate of everything but the encoder, relative to --train.lr")
    device: str = option("auto", "cpu, cuda, or auto: cuda where there is one")
    threads: int = option(0, "threads of torch on a CPU; 0: one for a small model, else one for each core")
    workers: int = option(1, "processes that load audio")
    scan: str = option("auto", "try the largest batches first: auto does on a GPU", choices=("auto", "yes", "no"))
    encoder: EncoderConfig = group(EncoderConfig, "speech encoder")
    model: ModelConfig = group(ModelConfig, "transducer")
    loss: LossConfig = group(LossConfig, "its losses")
    tone_loss: SyllableLossConfig = group(SyllableLossConfig, "SITA's losses on its syllables")
    batch: BatchLimits = group(BatchLimits, "batches")
    train: LoopConfig = group(LoopConfig, "loop")


# Other alignments are noticed by their content, whatever the file is called.
MAY_CHANGE = ("exp_dir", "alignments", "device", "threads", "workers", "scan", "encoder.weights_dir",
              *(f"train.{name}" for name in MAY_DIFFER))


def main(cfg: Config) -> None:
    check(cfg)
    stop_at_once_when_asked()
    import torch

    from icefall_ext.distributed.world import World
    from icefall_ext.train.devices import choose_device, set_threads
    from icefall_ext.train.run_folder import RunFolder
    from icefall_ext.train.scan import try_largest_batches
    from icefall_ext.train.trainer import Trainer, TrainingData
    from icefall_ext.transducer.k2_here import why_no_k2

    device = choose_device(cfg.device)
    if cfg.model.rnnt_backend == "k2" and why_no_k2():
        raise UsageError(f"--model.rnnt-backend k2: {why_no_k2()}; torch gives the same numbers")
    bpe = ByteBPE.load(cfg.lang_dir)
    with World.start(device) as world:
        torch.manual_seed(cfg.train.seed)
        model = build_model(cfg, bpe)
        with world.first_process_first():  # it makes the files that the others read
            folder = RunFolder.start(cfg, cfg.exp_dir, MAY_CHANGE) if world.first else RunFolder(cfg.exp_dir)
            if world.first:
                keep_lang(cfg)
            train, valid = (index(cfg, model, bpe, part) for part in ("train", "valid"))
        set_threads(cfg.threads, model, device)
        show_parameters(model)
        optimizer = build_optimizer(cfg, model.to(device))
        objective = build_objective(cfg, model, train)
        system = {**model.to_dict(), "script": cfg.script, "tones": cfg.tones, "tone5": cfg.tone5}
        data = TrainingData(train, valid, cfg.batch, cfg.workers, world)
        trainer = Trainer(folder, model, objective, optimizer, data, cfg.train, device, system, model.encoder.read_from)
        if cfg.scan == "yes" or (cfg.scan == "auto" and device.type == "cuda"):
            try_largest_batches(trainer)
        trainer.fit()


def check(cfg: Config) -> None:
    for part in (cfg.encoder, cfg.model, cfg.loss, cfg.tone_loss, cfg.batch, cfg.train):
        part.check()
    if cfg.tone_loss.wanted and not Path(cfg.alignments).is_file():
        raise UsageError(f"--alignments {cfg.alignments}: no such file, and --tone-loss needs the syllables of the "
                         "training cuts; make it with python -m icefall_ext.bin.align")
    if cfg.tone_loss.wanted and cfg.encoder.freeze == "all" and cfg.encoder.subsampling != "conv":
        raise UsageError("--encoder.freeze all: the tone losses teach the encoder, which does not learn; leave one of "
                         "them out")
    for path in (cfg.train_cuts, cfg.valid_cuts):
        if not path.is_file():
            raise UserError(f"{path}: no such file; run stage 4 first")
    if not 0 <= cfg.min_seconds < cfg.max_seconds:
        raise UsageError(f"--min-seconds {cfg.min_seconds}, --max-seconds {cfg.max_seconds}: nothing lies between")
    if cfg.workers < 0 or cfg.threads < 0 or cfg.new_lr_scale <= 0 or cfg.init_avg < 1:
        raise UsageError(f"--workers {cfg.workers}, --threads {cfg.threads}: not below 0; --new-lr-scale "
                         f"{cfg.new_lr_scale}, --init-avg {cfg.init_avg}: above 0")


def build_model(cfg: Config, bpe: ByteBPE) -> TransducerModel:
    """With the encoder that --encoder.source names, or with all that an earlier training can give."""
    from icefall_ext.encoders.load import build_encoder
    from icefall_ext.encoders.spec import Architecture
    from icefall_ext.encoders.speech_encoder import SpeechEncoder
    from icefall_ext.train.handover import hand_over, same_tokens
    from icefall_ext.train.restore import chosen_weights
    from icefall_ext.transducer.model import TransducerModel

    if not cfg.init_from:
        return TransducerModel(build_encoder(cfg.encoder), cfg.model, bpe.vocab_size)
    earlier = Path(cfg.init_from)
    weights = chosen_weights(earlier, epoch=0, iteration=0, avg=cfg.init_avg, use_averaged_model=True)
    encoder = SpeechEncoder(Architecture.from_dict(weights.content["system"]["architecture"]), cfg.encoder)
    model = TransducerModel(encoder, cfg.model, bpe.vocab_size)
    kept = same_tokens(cfg.lang_dir, earlier / "lang")
    hand_over(model, weights.tensors, kept, f"{weights.source}, {weights.suffix}")
    encoder.read_from = weights.files
    return model


def build_objective(cfg: Config, model: TransducerModel, train: CutIndex) -> TransducerObjective:
    from icefall_ext.data.loading import SAMPLE_RATE
    from icefall_ext.files import read_jsonl
    from icefall_ext.train.syllable_losses import SyllableLosses, read_alignments
    from icefall_ext.train.transducer_objective import TransducerObjective, WithSyllables

    if not cfg.tone_loss.wanted:
        return TransducerObjective(model, cfg.loss)
    tones = cfg.tone_loss.tones
    if tones == "auto":
        tones = cfg.tones if cfg.script == "tailo" else "citation"
    ids = {cut["id"] for cut in read_jsonl(train.folder / "cuts.jsonl")}
    alignments = read_alignments(Path(cfg.alignments), ids, cfg.tone_loss, tones)
    step = model.encoder.samples_per_frame / SAMPLE_RATE
    return WithSyllables(model, cfg.loss, SyllableLosses(alignments, cfg.tone_loss, tones, step))


def build_optimizer(cfg: Config, model: TransducerModel) -> torch.optim.Optimizer:
    from icefall_ext.optim.groups import parameter_groups
    from icefall_ext.optim.scaled_adam import ScaledAdam

    scales = learning_rate_scales(model, cfg.new_lr_scale)
    groups = parameter_groups(model, cfg.train.lr, scales)
    return ScaledAdam(groups, lr=cfg.train.lr, clipping_scale=cfg.train.clipping_scale)


def keep_lang(cfg: Config) -> None:
    """A copy beside the model: the two belong together, whatever happens to the data folder."""
    target = cfg.exp_dir / "lang"
    with atomic_dir(target) as temporary:
        for path in sorted(cfg.lang_dir.iterdir()):
            shutil.copyfile(path, temporary / path.name)


def index(cfg: Config, model: TransducerModel, bpe: ByteBPE, part: str) -> CutIndex:
    """The cuts that can be learnt from; says how many were left out, and why."""
    from icefall_ext.data.index import CutIndex
    from icefall_ext.transducer.model import too_short_for_ctc

    def reason_against(seconds: float, tokens: list[int]) -> str | None:
        if seconds < cfg.min_seconds:
            return f"shorter than {cfg.min_seconds} s"
        if seconds > cfg.max_seconds:
            return f"longer than {cfg.max_seconds} s"
        return "fewer frames than tokens" if too_short_for_ctc(model.encoder, seconds, tokens) else None

    cuts = cfg.train_cuts if part == "train" else cfg.valid_cuts
    key = json.dumps([cfg.script, cfg.tones, cfg.tone5, cfg.min_seconds, cfg.max_seconds, bpe.digest,
                      model.encoder.samples_per_frame])
    made, left_out = CutIndex.build(
        cuts, cfg.exp_dir / "data" / part, lambda cut: text_of(cut, cfg.script, cfg.tones, cfg.tone5), bpe.encode,
        reason_against, key,
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
    console.reads(cuts, f"{len(made):,} utterances" + (f"; left out: {reasons}" if reasons else ""))
    if not len(made):
        raise UserError(f"{cuts}: no utterance to use ({reasons or 'it is empty'})")
    return made


def show_parameters(model: TransducerModel) -> None:
    rows = [(part, f"{count:,}", f"{trained:,}" if trained != count else "all") for part, count, trained in
            model.parameter_table()]
    console.table(("part", "parameters", "that train"), rows)


def learning_rate_scales(model: TransducerModel, new_lr_scale: float) -> dict[str, float]:
    """By name of the parameter: the encoder's layers as configured, everything new as --new-lr-scale says."""
    from icefall_ext.encoders.freezing import learning_rate_groups

    groups = learning_rate_groups(model.encoder, prefix="encoder.")
    scales = {name: group.lr_scale for group in groups for name, _ in group.named_parameters}
    return {name: scales.get(name, new_lr_scale) for name, _ in model.named_parameters()}


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run(main, Config)
