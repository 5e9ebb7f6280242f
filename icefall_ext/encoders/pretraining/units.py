"""Units for every frame of a set of cuts: clusters of features, kept as the tokens of an index.

A batch of such an index carries the units of its utterances where that of a transcribed corpus carries its tokens, so
loading, batches and resuming are those of any training, and nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_ext import console
from icefall_ext.data.batches import BatchLimits, in_order
from icefall_ext.data.index import CutIndex
from icefall_ext.data.loading import SpeechBatch, load_batches
from icefall_ext.encoders.pretraining import kmeans
from icefall_ext.errors import UserError
from icefall_ext.files import atomic_path, open_jsonl_for_writing, read_jsonl

Features = Callable[[SpeechBatch], list[Tensor]]


def gather(cuts: Sequence[Path], path: Path) -> None:
    """All cuts in one manifest; what they are told apart by has to be unique in it."""
    met: dict[str, Path] = {}
    with open_jsonl_for_writing(path) as writer:
        for source in cuts:
            for cut in read_jsonl(source):
                id = cut.get("id")
                if not isinstance(id, str):
                    raise UserError(f"{source}: not a manifest of cuts")
                if id in met:
                    raise UserError(f"{source}: {id} is also in {met[id]}; make one manifest of a folder above both")
                met[id] = source
                writer.write(cut)


def is_for_validation(id: str, share: float) -> bool:
    """By the id alone: more audio moves no utterance from one side to the other."""
    return int(hashlib.sha1(id.encode()).hexdigest()[:8], 16) < share * 2**32


@dataclass(frozen=True)
class Labelling:
    """How audio becomes units; `key` names everything that they depend on besides the cuts."""

    features: Features
    clusters: int
    seed: int
    sample_seconds: float  # of audio that the clusters are found in
    limits: BatchLimits
    workers: int
    device: torch.device
    key: str

    def index_parts(self, audio: CutIndex, folder: Path, valid_share: float) -> tuple[CutIndex, CutIndex]:
        """(training, validation), both with units; made once, then opened."""

        @cache  # over both parts, and only if one has to be made
        def units() -> dict[str, np.ndarray]:
            return self._label(audio, self._centroids(audio, folder / "centroids.npy"))

        def part(name: str) -> CutIndex:
            def id_in_part(cut: dict[str, Any]) -> str | None:
                wanted = is_for_validation(cut["id"], valid_share) == (name == "valid")
                return cut["id"] if wanted and cut["id"] in units() else None

            return CutIndex.build(
                audio.folder / "cuts.jsonl", folder / name, id_in_part, lambda id: units()[id].tolist(),
                lambda seconds, tokens: None, json.dumps([self.key, valid_share]),
            )[0]

        train, valid = part("train"), part("valid")
        for index, what in ((train, "train on"), (valid, "validate on; --valid-share sets how much")):
            if not len(index):
                raise UserError(f"{audio.folder}: of {len(audio)} utterances none is left to {what}")
        return train, valid

    def _centroids(self, audio: CutIndex, path: Path) -> Tensor:
        numbers = some(audio, self.sample_seconds, self.seed)
        frames = torch.cat([frames for batch in self._batches(audio, numbers) for frames in self.features(batch)])
        if len(frames) < self.clusters:
            raise UserError(f"{len(frames)} frames for {self.clusters} clusters; take fewer clusters or more audio")
        centroids = kmeans.fit(frames, self.clusters, self.seed)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, centroids.cpu().numpy())
        console.wrote(path, f"{self.clusters} clusters of {len(frames):,} frames of {self.features}")
        return centroids

    def _label(self, audio: CutIndex, centroids: Tensor) -> dict[str, np.ndarray]:
        units: dict[str, np.ndarray] = {}
        failed: list[str] = []
        for batch in self._batches(audio, np.arange(len(audio))):
            failed += [reason for _, reason in batch.failed]
            for id, frames in zip(batch.ids, self.features(batch)):
                units[id] = kmeans.assign(frames, centroids).to(torch.int32).cpu().numpy()
        if failed:
            console.says(f"left out: {len(failed):,} that cannot be loaded, the first: {failed[0]}")
        return units

    def _batches(self, audio: CutIndex, numbers: np.ndarray) -> Iterator[SpeechBatch]:
        for batch in batches_of(audio, numbers, self.limits, self.workers):
            if len(batch) or batch.failed:
                yield batch.to(self.device)


def some(index: CutIndex, seconds: float, seed: int) -> np.ndarray:
    """Numbers of utterances, at random, that last `seconds` together, or all."""
    order = np.random.default_rng(seed).permutation(len(index))
    enough = int(np.searchsorted(np.cumsum(index.durations[order], dtype=np.float64), seconds)) + 1
    return np.sort(order[:enough])


def batches_of(index: CutIndex, numbers: np.ndarray, limits: BatchLimits, workers: int) -> Iterator[SpeechBatch]:
    """These utterances, the longest first; nothing for those that cannot be loaded."""
    batches = [numbers[batch] for batch in in_order(index.durations[numbers], index.token_counts[numbers], limits)]
    return iter(load_batches(index, batches, workers))


def shares(index: CutIndex, clusters: int) -> np.ndarray:
    """How often each unit occurs."""
    return np.bincount(index.flat_tokens, minlength=clusters) / len(index.flat_tokens)
