"""Alignments on disk: one JSON line for each cut, times in seconds from its beginning.

    {"id": "IU_1", "speaker": "IU", "gender": "F",
     "syllables": [{"base": "tai", "citation": 5, "surface": 7, "start": 0.28, "end": 0.44, "log_prob": -0.01}, ...]}

Seconds, not frames: whoever uses them may have another frame rate than the aligner. Beside the file lies NAME.json with
what it was made from and how much was left out.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icefall_ext.align.syllables import Syllable
from icefall_ext.data.transcripts import TONES
from icefall_ext.errors import UserError
from icefall_ext.files import digest_of_file, read_jsonl
from icefall_ext.tone.labels import GENDERS
from icefall_ext.tone.pairs import UNKNOWN, Items


def about_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".jsonl") + ".json")


def row_of(id: str, speaker: str, gender: str, syllables: Sequence[Syllable]) -> dict[str, Any]:
    return {"id": id, "speaker": speaker, "gender": gender, "syllables": [asdict(one) for one in syllables]}


class Found(NamedTuple):
    """The syllables of some utterances, one after the other; all arrays (S,)."""

    utterance: np.ndarray  # place in what was asked for
    start: np.ndarray  # s
    end: np.ndarray
    items: Items


@dataclass(frozen=True)
class Alignments:
    """Arrays over all syllables of a file, 28 bytes for each."""

    place: dict[str, int]  # of a cut
    first: np.ndarray  # (cuts + 1,) into the others
    times: np.ndarray  # (S, 2) s
    items: dict[str, Items]  # by what the tones are: citation, surface
    digest: str

    def __len__(self) -> int:
        return len(self.times)

    @staticmethod
    def read(path: Path) -> Alignments:
        place, first, bases, speakers = {}, [0], {}, {}
        times, labels = array("f"), array("i")
        for row in read_jsonl(path):
            try:
                speaker = speakers.setdefault(row["speaker"], len(speakers))
                gender = GENDERS.index(row["gender"]) if row["gender"] in GENDERS else UNKNOWN
                for one in row["syllables"]:
                    times.extend((one["start"], one["end"]))
                    base = bases.setdefault(one["base"], len(bases))
                    labels.extend((base, one["citation"], one["surface"], gender, speaker))
                place[row["id"]] = len(place)
                first.append(len(times) // 2)
            except (KeyError, TypeError):
                raise UserError(f"{path}: line {len(place) + 1} is not an alignment of this project; make it anew with "
                                "python -m icefall_ext.bin.align") from None
        table = np.array(labels, dtype=np.int32).reshape(-1, 5)
        items = {tones: Items(table[:, 0], table[:, 1 + n], table[:, 3], table[:, 4]) for n, tones in enumerate(TONES)}
        return Alignments(place, np.array(first), np.array(times, dtype=np.float32).reshape(-1, 2), items,
                          digest_of_file(path))

    def of(self, ids: Sequence[str], tones: str) -> Found:
        """Of the cuts with these ids, as far as they are there."""
        known = [(n, self.place[id]) for n, id in enumerate(ids) if id in self.place]
        rows = [np.arange(self.first[place], self.first[place + 1]) for _, place in known]
        utterance = np.repeat([n for n, _ in known], [len(of_one) for of_one in rows]).astype(np.int64)
        chosen = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        return Found(utterance, *self.times[chosen].T, self.items[tones][chosen])
