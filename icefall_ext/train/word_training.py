"""Isolated words for the training loop: labels beside the index of the cuts, and trained models from a folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from icefall_ext import console
from icefall_ext.data.batches import epoch_batches
from icefall_ext.data.index import CutIndex
from icefall_ext.encoders.spec import Architecture, EncoderConfig
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UserError
from icefall_ext.tone.batches import BatchShape, spoken_by_one_gender, valid_anchor_rate, word_batches
from icefall_ext.tone.labels import Labels, Vocabulary, Word, word_of
from icefall_ext.tone.model import WordModel
from icefall_ext.tone.pairs import Items, cross_gender_pairs, tone_pairs
from icefall_ext.tone.spec import LayerConfig, ToneLossConfig
from icefall_ext.train import checkpoint as files
from icefall_ext.train.restore import chosen_weights
from icefall_ext.train.run_folder import says
from icefall_ext.train.trainer import TrainingData

_UNKNOWN = "a letter or a tone that training does not have"


@dataclass(frozen=True)
class WordSet:
    index: CutIndex
    ids: list[str]
    items: Items

    @staticmethod
    def build(path: Path, folder: Path, labels: Labels) -> WordSet:
        """Index the cuts of a file; `labels` decide tokens and the numbers of tones."""
        def text_of(cut: dict[str, Any]) -> str:
            return json.dumps(word_of(cut, path))

        def tokenize(text: str) -> list[int]:
            return labels.encode(Word(*json.loads(text))) or [0]

        def reason_against(_: float, tokens: list[int]) -> str | None:
            return _UNKNOWN if tokens == [0] else None

        index, left_out = CutIndex.build(path, folder, text_of, tokenize, reason_against, json.dumps(asdict(labels)))
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in sorted(Counter(left_out).items()))
        console.reads(path, f"{len(index):,} words, {float(index.durations.sum()) / 60:.1f} minutes" + (
            f"; left out: {reasons}" if reasons else ""))
        if not len(index):
            raise UserError(f"{path}: no word to use ({reasons or 'it is empty'})")
        kept = folder / "cuts.jsonl"
        names = Vocabulary.of([kept])
        numbered = Vocabulary(names.bases, tuple(dict.fromkeys((*labels.classes, *names.tones))), names.speakers)
        return WordSet(index, *numbered.items(kept))

    @cached_property
    def _number(self) -> dict[str, int]:
        return {id: number for number, id in enumerate(self.ids)}

    def items_of(self, ids: Sequence[str]) -> Items:
        return self.items[np.array([self._number[id] for id in ids])]


@dataclass
class WordData(TrainingData):
    """Batches of bases x tones x genders (tone/batches.py) in place of batches of like length."""

    shape: BatchShape | None = None
    train_items: Items | None = None
    valid_items: Items | None = None

    def all_batches(self, seed: int, epoch: int) -> list[np.ndarray]:
        return word_batches(self.train_items, self.shape, seed, epoch, self.world.size)

    def smaller(self) -> str:
        return f"or take fewer words: --shape.bases (now {self.shape.bases}), --shape.takes (now {self.shape.takes})"

    def valid_batches(self) -> list[np.ndarray]:
        if self.valid is None:
            return []
        return word_batches(self.valid_items, self.shape, 0, 0, self.world.size)[self.world.rank :: self.world.size]


@dataclass
class MatchedWordData(WordData):
    """As many steps as stage 1 and stage 2 take in so many epochs each, of stage 1's batches dealt round and round.

    They are cut into as many epochs as the two stages have, so that checkpoints, rates and averages are as often."""

    stage_epochs: tuple[int, int] = (0, 0)

    def all_batches(self, seed: int, epoch: int) -> list[np.ndarray]:
        total, epochs = self.steps(seed), sum(self.stage_epochs)
        start, end = (total * number // epochs * self.world.size for number in (epoch - 1, epoch))
        dealt: list[np.ndarray] = []
        for number in count(1):
            if len(dealt) >= end:
                return dealt[start:end]
            dealt += super().all_batches(seed, number)

    def steps(self, seed: int) -> int:
        """Of the two stages on the same data with the same seed."""
        first, second = self.stage_epochs
        batches = sum(len(super(MatchedWordData, self).all_batches(seed, epoch)) for epoch in range(1, first + 1))
        of_stage2 = (self.train.durations, self.train.token_counts, self.limits, seed)
        batches += sum(len(epoch_batches(*of_stage2, epoch, self.world.size)) for epoch in range(1, second + 1))
        return batches // self.world.size


def check_pairs(items: Items, batches: Sequence[np.ndarray], losses: ToneLossConfig, path: Path) -> None:
    """Whether each loss finds a pair in every batch; `path` is where the items are from."""
    wanted = (
        (losses.speaker_scale, "speaker", "by the other gender",
         lambda items: cross_gender_pairs(items, losses.other_tones_repel)),
        (losses.tone_scale, "tone", "in another recording", tone_pairs),
    )
    for scale, name, what, pairs_of in wanted:
        without = sum(not len(pairs_of(items[batch])) for batch in batches) if scale else 0
        if without:
            raise UserError(f"{path}: in {without:,} of {len(batches):,} batches no word is there {what}, with another "
                            "to be told from; let women and men say the same words in it (speakers are divided by "
                            "--dev-share, --test-share or a column part), make batches larger (--shape.bases, "
                            f"--shape.takes), or leave that loss out (--loss.{name}-scale 0; run.sh: --{name}-scale 0)")


def say_what_pairs_there_are(words: WordSet, shape: BatchShape, seed: int) -> None:
    batches = word_batches(words.items, shape, seed, 1)
    rates = [100 * valid_anchor_rate(words.items, batches, pairs_of) for pairs_of in (cross_gender_pairs, tone_pairs)]
    says(f"pairs      {len(batches):,} batches an epoch of {np.mean(list(map(len, batches))):.0f} words; "
         f"{rates[0]:.1f} % have a partner by the other gender, {rates[1]:.1f} % one of the same tone")
    alone = spoken_by_one_gender(words.items)
    if alone:
        of_word = {pair: id for id, pair in zip(words.ids, zip(words.items.base.tolist(), words.items.tone.tolist()))}
        shown = ", ".join(of_word[pair] for pair in alone[:4])
        says(f"warning: {len(alone):,} words were spoken by one gender only, and are no anchors of the cross-gender "
             f"loss ({shown}{', ...' if alone[4:] else ''})")


@dataclass(frozen=True)
class RestoredWords:
    model: WordModel  # in eval mode
    labels: Labels
    source: str
    part: str  # of tone.model.PARTS, or empty for an encoder that was not trained on words


def restore_words(folder: Path, epoch: int = 0, avg: int = 1) -> RestoredWords:
    """What train_tone left in `folder`; `epoch` 0 is the last."""
    labels = Labels.load(folder)
    weights = chosen_weights(folder, epoch, 0, avg, use_averaged_model=True)
    system = weights.content.get("system")
    if not isinstance(system, dict) or "layers" not in system:
        raise UserError(f"{weights.source}: not a model of words; name a folder that train_tone made")
    model = build_from_system(system)
    files.fill_model(model, weights.tensors, weights.source)
    model.encoder.read_from = weights.files
    return RestoredWords(model.eval(), labels, weights.source, system["part"])


def system_of(model: WordModel, labels: Labels, part: str) -> dict[str, Any]:
    """What a checkpoint keeps, so that the model can be built again."""
    encoder = {name: str(value) if isinstance(value, Path) else value for name, value in
               asdict(model.encoder.cfg).items()}
    return {
        "architecture": model.encoder.architecture.to_dict(),
        "encoder": encoder,
        "layers": asdict(model.layers),
        "part": part,
        "tones": len(labels.classes),
        "vocab_size": labels.vocab_size,
    }


def build_from_system(system: dict[str, Any]) -> WordModel:
    encoder = SpeechEncoder(Architecture.from_dict(system["architecture"]), EncoderConfig(**system["encoder"]))
    return WordModel(encoder, LayerConfig(**system["layers"]), system["tones"], system["vocab_size"])
