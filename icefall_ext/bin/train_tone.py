"""Train SITA on isolated words: the teacher, stage 1 (speaker-invariant, tone-aware middle blocks) and stage 2 (CTC).

    --part teacher   CTC through the whole encoder, on data as it comes
    --part stage1    blocks K+1..L with the contrastive losses and the tone classifier, on bases x tones x genders
    --part stage2    blocks L+1.. and the CTC head, beside a teacher; --init-from is what stage 1 made
    --part single    both stages' losses at once, for comparison; with --stage-epochs in as many steps as the two take

--check-only true looks for pairs in all batches that stage 1 would have, and trains nothing.

The same command continues a training that was stopped. Temperatures, weights and rates are our defaults: the paper's
are not published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import group, option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl
from icefall_ext.interruption import stop_at_once_when_asked
from icefall_ext.tone.batches import BatchShape, word_batches
from icefall_ext.tone.labels import Labels, Vocabulary, word_of
from icefall_ext.tone.spec import PARTS, AugmentConfig, DistillConfig, LayerConfig, ToneLossConfig
from icefall_ext.train.config import MAY_DIFFER, LoopConfig

if TYPE_CHECKING:
    from icefall_ext.distributed.world import World
    from icefall_ext.tone.model import WordModel
    from icefall_ext.tone.pairs import Items
    from icefall_ext.train.word_training import WordSet


@dataclass
class Config:
    part: str = required("what learns", choices=PARTS)
    exp_dir: Path = required("folder of this training")
    train_cuts: Path = required("cuts of isolated words to learn from")
    valid_cuts: Path = required("cuts of isolated words to watch progress on")
    init_from: str = option("", "folder of an earlier training to begin with; its heads too, for the same labels")
    teacher: str = option("", "stage2, single: folder of the teacher; none: CTC alone")
    stage_epochs: list[int] = option(
        [], "single: epochs of stages 1 and 2; as many steps, of --shape and of --batch, are taken in as many epochs"
    )
    teacher_epoch: int = option(0, "which epoch of the teacher; 0: the last")
    teacher_avg: int = option(1, "average the teacher over so many epochs up to that")
    init_epoch: int = option(0, "which epoch of the earlier training; 0: the last")
    init_avg: int = option(1, "average the earlier training over so many epochs up to that")
    check_only: bool = option(False, "stage1, single: say whether all batches have pairs, and train nothing")
    device: str = option("auto", "cpu, cuda, or auto: cuda where there is one")
    threads: int = option(0, "threads of torch on a CPU; 0: one for a small model, else one for each core")
    workers: int = option(1, "processes that load audio")
    encoder: EncoderConfig = group(EncoderConfig, "speech encoder")
    layers: LayerConfig = group(LayerConfig, "which blocks do what")
    loss: ToneLossConfig = group(ToneLossConfig, "losses of stage 1")
    distil: DistillConfig = group(DistillConfig, "the teacher's part in stage 2")
    shape: BatchShape = group(BatchShape, "batches of stage 1")
    batch: BatchLimits = group(BatchLimits, "batches of the teacher and of stage 2")
    augment: AugmentConfig = group(AugmentConfig, "augmentation")
    train: LoopConfig = group(LoopConfig, "loop")


MAY_CHANGE = ("exp_dir", "check_only", "device", "threads", "workers", "encoder.weights_dir",
              *(f"train.{name}" for name in MAY_DIFFER))


def main(cfg: Config) -> None:
    check(cfg)
    if cfg.stage_epochs:
        cfg.train.epochs = sum(cfg.stage_epochs)
    stop_at_once_when_asked()
    import torch

    from icefall_ext.distributed.world import World
    from icefall_ext.train.devices import choose_device, set_threads
    from icefall_ext.train.run_folder import RunFolder
    from icefall_ext.train.tone_objective import ToneObjective
    from icefall_ext.train.trainer import Trainer
    from icefall_ext.train.word_training import WordSet, say_what_pairs_there_are, system_of

    device = choose_device(cfg.device)
    if cfg.check_only:
        names = Vocabulary.of([cfg.train_cuts, cfg.valid_cuts])
        (_, train), (_, valid) = (names.items(path) for path in (cfg.train_cuts, cfg.valid_cuts))
        check_all_pairs(cfg, train, valid)
        return
    labels = Labels.of(word_of(cut, cfg.train_cuts) for cut in read_jsonl(cfg.train_cuts))
    with World.start(device) as world:
        torch.manual_seed(cfg.train.seed)
        model = build_model(cfg, labels)
        teacher = load_teacher(cfg, labels, model)
        began_from = model.encoder.read_from + (teacher.encoder.read_from if teacher else ())
        with world.first_process_first():  # it makes the files that the others read
            folder = RunFolder.start(cfg, cfg.exp_dir, MAY_CHANGE) if world.first else RunFolder(cfg.exp_dir)
            if world.first:
                save_labels(cfg, labels)
            train, valid = (
                WordSet.build(path, cfg.exp_dir / "data" / part, labels)
                for part, path in (("train", cfg.train_cuts), ("valid", cfg.valid_cuts))
            )
        set_threads(cfg.threads, model, device)
        model.freeze_for(cfg.part)
        say_what_learns(model)
        if cfg.part in ("stage1", "single"):
            say_what_pairs_there_are(train, cfg.shape, cfg.train.seed)
            check_all_pairs(cfg, train.items, valid.items)
        model.to(device)
        optimizer = build_optimizer(cfg, model)
        items_of = both(train, valid, cfg.valid_cuts)
        if teacher is not None:
            teacher.to(device)
        objective = ToneObjective(model, cfg.part, items_of, cfg.loss, cfg.augment, teacher, cfg.distil)
        data = build_data(cfg, train, valid, world)
        system = system_of(model, labels, cfg.part)
        Trainer(folder, model, objective, optimizer, data, cfg.train, device, system, began_from).fit()


def check(cfg: Config) -> None:
    for part in (cfg.encoder, cfg.layers, cfg.loss, cfg.distil, cfg.shape, cfg.batch, cfg.augment, cfg.train):
        part.check()
    for path in (cfg.train_cuts, cfg.valid_cuts):
        if not path.is_file():
            raise UserError(f"{path}: no such file; run stage 4 first")
    if min(cfg.workers, cfg.threads, cfg.teacher_epoch, cfg.init_epoch) < 0 or min(cfg.teacher_avg, cfg.init_avg) < 1:
        raise UsageError(f"--workers {cfg.workers}, --threads {cfg.threads}, --teacher-epoch {cfg.teacher_epoch}, "
                         f"--init-epoch {cfg.init_epoch}: not below 0; --teacher-avg {cfg.teacher_avg}, --init-avg "
                         f"{cfg.init_avg}: at least 1")
    if cfg.check_only and cfg.part not in ("stage1", "single"):
        raise UsageError(f"--check-only true: --part {cfg.part} needs no pairs; leave it out")
    if cfg.train.on_oom == "shrink" and cfg.part in ("stage1", "single"):
        raise UsageError("--train.on-oom shrink: losses between the words of a batch are not those of its parts; leave "
                         "it out, or take fewer words (--shape.bases, --shape.takes)")
    if cfg.part == "stage2" and not cfg.init_from:
        raise UsageError("--part stage2: needs --init-from, the folder of stage 1")
    if cfg.teacher and cfg.part not in ("stage2", "single"):
        raise UsageError(f"--teacher {cfg.teacher}: --part {cfg.part} has none; leave it out")
    if cfg.stage_epochs:
        shown = f"--stage-epochs {' '.join(map(str, cfg.stage_epochs))}"
        if cfg.part != "single" or len(cfg.stage_epochs) != 2 or min(cfg.stage_epochs) < 1:
            raise UsageError(f"{shown}: two numbers from 1 on, and for --part single alone")
        if cfg.train.accumulate != 1:
            raise UsageError(f"{shown}: matches steps of one batch each; --train.accumulate {cfg.train.accumulate} "
                             "has to be 1")


def check_all_pairs(cfg: Config, train: Items, valid: Items) -> None:
    """A batch that a loss learns nothing from would end the training when its turn comes: said before it begins."""
    from icefall_ext.train.word_training import check_pairs

    check_pairs(valid, word_batches(valid, cfg.shape, 0, 0), cfg.loss, cfg.valid_cuts)
    if not cfg.loss.warm_batches:
        epochs = range(1, cfg.train.epochs + 1)
        planned = [batch for epoch in epochs for batch in word_batches(train, cfg.shape, cfg.train.seed, epoch)]
        check_pairs(train, planned, cfg.loss, cfg.train_cuts)


def save_labels(cfg: Config, labels: Labels) -> None:
    """Beside the checkpoints, whose tokens they name: others would make nonsense of these."""
    if any(cfg.exp_dir.glob("*.pt")) and Labels.load(cfg.exp_dir) != labels:
        raise UserError(f"{cfg.exp_dir}: was trained on words with other letters or tones than {cfg.train_cuts}; name "
                        "another folder, or remove it")
    labels.save(cfg.exp_dir)


def build_model(cfg: Config, labels: Labels) -> WordModel:
    """With the encoder that --encoder.source names, or with all that an earlier training can give."""
    from icefall_ext.encoders.load import build_encoder
    from icefall_ext.encoders.spec import Architecture
    from icefall_ext.encoders.speech_encoder import SpeechEncoder
    from icefall_ext.tone.model import WordModel
    from icefall_ext.train.handover import hand_over
    from icefall_ext.train.restore import chosen_weights

    sizes = len(labels.classes), labels.vocab_size
    if not cfg.init_from:
        return WordModel(build_encoder(cfg.encoder), cfg.layers, *sizes)
    earlier = Path(cfg.init_from)
    same = Labels.load(earlier) == labels
    weights = chosen_weights(earlier, cfg.init_epoch, iteration=0, avg=cfg.init_avg, use_averaged_model=True)
    encoder = SpeechEncoder(Architecture.from_dict(weights.content["system"]["architecture"]), cfg.encoder)
    model = WordModel(encoder, cfg.layers, *sizes)
    kept = {name: value for name, value in weights.tensors.items() if same or not name.startswith("tone_output.")}
    hand_over(model, kept, same, f"{weights.source}, {weights.suffix}")
    encoder.read_from = weights.files
    return model


def load_teacher(cfg: Config, labels: Labels, student: WordModel) -> WordModel | None:
    if not cfg.teacher or not cfg.distil.scale:
        return None
    from icefall_ext.train.word_training import restore_words

    teacher = restore_words(Path(cfg.teacher), cfg.teacher_epoch, cfg.teacher_avg)
    if teacher.labels != labels:
        raise UserError(f"{cfg.teacher}: this teacher knows other letters or tones than {cfg.train_cuts}; train it on "
                        "the same words")
    if teacher.model.encoder.samples_per_frame != student.encoder.samples_per_frame:
        raise UserError(f"{cfg.teacher}: its frames are not as far apart as the student's; take one with the same "
                        "encoder")
    console.reads(teacher.source, "the teacher")
    return teacher.model


def build_optimizer(cfg: Config, model: WordModel):
    """Layers of the encoder at its own rates, heads at the full one; frozen parts in no group."""
    from icefall_ext.encoders.freezing import learning_rate_groups
    from icefall_ext.optim.groups import parameter_groups
    from icefall_ext.optim.scaled_adam import ScaledAdam

    groups = learning_rate_groups(model.encoder, prefix="encoder.")
    scales = {name: of_part.lr_scale for of_part in groups for name, _ in of_part.named_parameters}
    groups = parameter_groups(model, cfg.train.lr, scales)
    return ScaledAdam(groups, lr=cfg.train.lr, clipping_scale=cfg.train.clipping_scale)


def both(train: WordSet, valid: WordSet, path: Path):
    """The labels of utterances of either set; a batch is of one of them."""
    known = set(train.ids)
    twice = next((id for id in valid.ids if id in known), None)
    if twice is not None:
        raise UserError(f"{path}: {twice} is an id of the training cuts too; give every recording its own")
    return lambda ids: (train if ids[0] in known else valid).items_of(ids)


def build_data(cfg: Config, train: WordSet, valid: WordSet, world: World):
    from icefall_ext.train.trainer import TrainingData
    from icefall_ext.train.word_training import MatchedWordData, WordData

    common = (train.index, valid.index, cfg.batch, cfg.workers, world)
    if cfg.part in ("teacher", "stage2"):
        return TrainingData(*common)
    words = {"shape": cfg.shape, "train_items": train.items, "valid_items": valid.items}
    if cfg.stage_epochs:
        return MatchedWordData(*common, **words, stage_epochs=tuple(cfg.stage_epochs))
    return WordData(*common, **words)


def say_what_learns(model: WordModel) -> None:
    from icefall_ext.encoders.freezing import parameter_counts
    from icefall_ext.train.run_folder import says

    rows = [(name, total, trained) for name, total, trained in parameter_counts(model.encoder) if name != "encoder"]
    for name, head in (("tone classifier", model.tone_output), ("CTC head", model.ctc_output)):
        counts = [(p.numel(), p.numel() * p.requires_grad) for p in head.parameters()]
        rows.append((name, *map(sum, zip(*counts))))
    learns = [f"{name} ({trained:,})" for name, _, trained in rows if trained]
    frozen = [name for name, _, trained in rows if not trained]
    says(f"learns     {', '.join(learns)}; frozen: {', '.join(frozen) or 'nothing'}")


if __name__ == "__main__":
    run(main, Config)
