"""What a user chooses about SITA. Imports no torch: programs read their options before they load anything.

The paper says which blocks learn when. Temperatures, weights and augmentation are our own defaults: its are not known.
(arXiv:2601.09050)
"""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.cli import option
from icefall_ext.errors import UsageError

PARTS = ("teacher", "stage1", "stage2", "single")
KINDS = ("infonce", "margin")


@dataclass
class LayerConfig:
    frozen: int = option(12, "blocks from below that never learn")
    feature_layer: int = option(19, "block whose output, averaged over frames, is the embedding of a word")

    def check(self, num_layers: int | None = None) -> None:
        if not 0 <= self.frozen < self.feature_layer:
            raise UsageError(f"--layers.frozen {self.frozen}, --layers.feature-layer {self.feature_layer}: no block "
                             "learns in stage 1; the first must be below the second, and not below 0")
        if num_layers is not None and self.feature_layer > num_layers:
            raise UsageError(f"--layers.feature-layer {self.feature_layer}: this encoder has {num_layers} blocks")


@dataclass
class ToneLossConfig:
    speaker_scale: float = option(0.25, "weight of the cross-gender loss")
    tone_scale: float = option(1.0, "weight of the tone-repulsive loss")
    classifier_scale: float = option(0.5, "weight of the tone classifier's cross entropy")
    kind: str = option("infonce", "of the tone-repulsive loss; the cross-gender loss is InfoNCE", choices=KINDS)
    temperature: float = option(0.1, "InfoNCE: similarities are divided by it")
    margin: float = option(0.4, "margin: by how much a positive has to be nearer than a negative")
    other_tones_repel: bool = option(False, "the same base in another tone is a negative of the cross-gender loss too")
    warm_batches: int = option(0, "batches in which there may be no pair; later that is an error")

    def check(self) -> None:
        for name in ("speaker_scale", "tone_scale", "classifier_scale", "warm_batches", "margin"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"--loss.{name.replace('_', '-')} {getattr(self, name)}: must not be below 0")
        if not 1e-3 <= self.temperature <= 1e3:
            raise UsageError(f"--loss.temperature {self.temperature}: must lie between 0.001 and 1000")
        if not self.speaker_scale + self.tone_scale + self.classifier_scale > 0:
            raise UsageError("--loss.speaker-scale, --loss.tone-scale, --loss.classifier-scale: all are 0; nothing is "
                             "learnt")


@dataclass
class SyllableLossConfig:
    """Of running speech, where the items are syllables that an alignment cuts out (train/syllable_losses.py)."""

    tone_scale: float = option(0.0, "weight of the tone-repulsive loss; 0: without")
    speaker_scale: float = option(0.0, "weight of the cross-gender loss; 0: without")
    temperature: float = option(0.1, "similarities are divided by it")
    tones: str = option("auto", "which one a syllable has; auto: as the Tai-lo that is learnt, citation for Han-Lo",
                        choices=("auto", "citation", "surface"))
    positives: int = option(4, "partners of a syllable, drawn from all that it has")
    memory: int = option(1024, "syllables of earlier batches to find partners in, in each process; 0: none")
    enough: float = option(0.9, "ask the memory where less than this share of a batch's syllables has a partner in it")
    min_frames: int = option(2, "leave out syllables that are shorter")
    other_tones_repel: bool = option(False, "the same base in another tone is a negative of the cross-gender loss too")

    @property
    def wanted(self) -> bool:
        return self.tone_scale > 0 or self.speaker_scale > 0

    def check(self) -> None:
        for name in ("tone_scale", "speaker_scale", "memory"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"--tone-loss.{name.replace('_', '-')} {getattr(self, name)}: must not be below 0")
        if not 1e-3 <= self.temperature <= 1e3:
            raise UsageError(f"--tone-loss.temperature {self.temperature}: must lie between 0.001 and 1000")
        if self.positives < 1 or self.min_frames < 1 or not 0 <= self.enough <= 1:
            raise UsageError(f"--tone-loss.positives {self.positives}, --tone-loss.min-frames {self.min_frames}: at "
                             f"least 1; --tone-loss.enough {self.enough}: between 0 and 1")


@dataclass
class DistillConfig:
    scale: float = option(1.0, "weight of the distance from the teacher's distributions; 0: no teacher")
    temperature: float = option(2.0, "both distributions are flattened by it")

    def check(self) -> None:
        if self.scale < 0 or not self.temperature > 0:
            raise UsageError(f"--distil.scale {self.scale}, --distil.temperature {self.temperature}: the first not "
                             "below 0, the second above")


@dataclass
class AugmentConfig:
    gain_db: float = option(6.0, "change the level by up to so much either way")
    colour_db: float = option(6.0, "raise or lower each of 8 bands by up to so much")
    noise_prob: float = option(0.5, "share of the words that get noise")
    noise_snr: list[float] = option([10.0, 30.0], "lowest and highest level of speech above noise, dB")

    def check(self) -> None:
        if min(self.gain_db, self.colour_db) < 0 or not 0 <= self.noise_prob <= 1:
            raise UsageError(f"--augment.gain-db {self.gain_db}, --augment.colour-db {self.colour_db}: not below 0; "
                             f"--augment.noise-prob {self.noise_prob}: between 0 and 1")
        if len(self.noise_snr) != 2 or self.noise_snr[0] > self.noise_snr[1]:
            raise UsageError(f"--augment.noise-snr {self.noise_snr}: the lowest and the highest")
