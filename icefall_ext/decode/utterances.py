"""A test set: every utterance of some cuts with its reference, where it has one, loaded in batches."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from icefall_ext.data.batches import BatchLimits, in_order
from icefall_ext.data.index import duration_of
from icefall_ext.data.loading import SpeechBatch, collate, load_audio
from icefall_ext.data.transcripts import text_of
from icefall_ext.errors import UserError
from icefall_ext.files import read_jsonl

NO_REFERENCE = "no reference text"


@dataclass(frozen=True)
class Utterances:
    path: Path
    cuts: list[str]  # JSON, shorter than a cut in memory
    ids: list[str]
    references: dict[str, str]  # by id
    durations: np.ndarray

    @staticmethod
    def read(path: Path, script: str, tones: str = "citation", tone5: str = "south") -> Utterances:
        cuts, ids, durations, references = [], [], [], {}
        for cut in read_jsonl(path):
            try:
                id, seconds, text = str(cut["id"]), duration_of(cut, path), text_of(cut, script, tones, tone5)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise UserError(f"{path}: line {len(ids) + 1} is not a cut; run stage 4 again") from None
            if not id or len(id.split()) != 1 or id.strip() != id:
                raise UserError(f"{path}: {id!r}: an id is one word without white space, or results cannot hold it")
            ids.append(id)
            durations.append(seconds)
            cuts.append(json.dumps(cut, ensure_ascii=False))
            if text:
                references[id] = text
        if not cuts:
            raise UserError(f"{path}: no utterance in it; run stage 4 again, or name another part")
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise UserError(f"{path}: {twice} occurs a second time; an id stands for one utterance")
        if not references:
            other = "tailo" if script == "hanlo" else "hanlo"
            raise UserError(f"{path}: no utterance has a reference in {script}, which this model writes; are its texts "
                            f"{other} only?")
        return Utterances(path, cuts, ids, references, np.array(durations, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.cuts)

    def batches(self, max_duration: float) -> list[np.ndarray]:
        """The longest first: if they do not fit into memory it shows at once."""
        return in_order(self.durations, np.zeros(len(self), dtype=np.int64), BatchLimits(max_duration=max_duration))

    def load(self, batches: list[np.ndarray], workers: int) -> Iterable[SpeechBatch]:
        loader = _Loader(self.cuts, batches)
        if not workers:
            return (loader[n] for n in range(len(loader)))
        return DataLoader(loader, batch_size=None, num_workers=workers)


class _Loader(Dataset):
    def __init__(self, cuts: list[str], batches: list[np.ndarray]):
        self._cuts, self._batches = cuts, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> SpeechBatch:
        from lhotse.serialization import deserialize_item

        waveforms, ids, failed = [], [], []
        for n in self._batches[number]:
            cut = deserialize_item(json.loads(self._cuts[n]))
            try:
                waveforms.append(load_audio(cut))
                ids.append(cut.id)
            except UserError as error:
                failed.append((cut.id, str(error)))
        return collate(waveforms, [[]] * len(ids), ids, failed)
