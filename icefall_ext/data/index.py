"""An index of cuts for training: random access, lengths and tokens, without the cuts in memory.

    index = CutIndex.build(cuts_path, folder, tokenize=bpe.encode, keep=keep)       # once
    index = CutIndex.open(folder)                                                   # from then on, and in workers
    index.durations[i], index.tokens(i), index.cut(i)

The folder holds the kept cuts, one JSON line each, and numpy arrays that are mapped, not read: a process needs no more
memory for a million cuts than for a thousand, and the next batch of a resumed training is there at once.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icefall_ext.errors import UserError
from icefall_ext.files import atomic_dir, digest_of_file, read_jsonl_with_lines, write_text

_FORMAT, _MADE_FROM = 1, "made-from.json"


@dataclass(frozen=True)
class CutIndex:
    folder: Path
    durations: np.ndarray  # float32 seconds
    token_offsets: np.ndarray  # (cuts + 1,) into the flat tokens
    flat_tokens: np.ndarray
    line_offsets: np.ndarray  # (cuts + 1,) into cuts.jsonl
    key: str  # of the cuts and of how they were read: another one is other data

    def __len__(self) -> int:
        return len(self.durations)

    @property
    def token_counts(self) -> np.ndarray:
        return np.diff(self.token_offsets)

    def tokens(self, i: int) -> list[int]:
        return self.flat_tokens[self.token_offsets[i] : self.token_offsets[i + 1]].tolist()

    def cuts(self, indices: Sequence[int]) -> list[Any]:
        """lhotse cuts, which load their audio when asked."""
        from lhotse.serialization import deserialize_item

        cuts = []
        with open(self.folder / "cuts.jsonl", "rb") as stream:
            for i in indices:
                start, end = map(int, self.line_offsets[i : i + 2])
                stream.seek(start)
                cuts.append(deserialize_item(json.loads(stream.read(end - start))))
        return cuts

    @staticmethod
    def open(folder: Path) -> CutIndex:
        def mapped(name: str) -> np.ndarray:
            path = folder / f"{name}.npy"
            return np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)

        key = json.loads((folder / _MADE_FROM).read_text(encoding="utf-8"))["key"]
        return CutIndex(folder, *map(mapped, ("durations", "token_offsets", "tokens", "line_offsets")), key)

    @staticmethod
    def build(
        cuts_path: Path,
        folder: Path,
        text_of: Callable[[dict[str, Any]], str | None],
        tokenize: Callable[[str], list[int]],
        reason_against: Callable[[float, list[int]], str | None],
        key: str,
    ) -> tuple[CutIndex, dict[str, int]]:
        """Index the cuts, or open what an earlier run made of the same file under the same `key`.

        `text_of` takes a cut as in the manifest; `reason_against(seconds, tokens)` names why a cut is left out, or
        gives None. Returned beside the index: how many were left out for each reason.
        """
        key = f"{_FORMAT} {digest_of_file(cuts_path)} {key}"
        made = folder / _MADE_FROM
        if made.is_file():
            earlier = json.loads(made.read_text(encoding="utf-8"))
            if earlier.get("key") == key:
                return CutIndex.open(folder), earlier["left_out"]
        left_out: Counter[str] = Counter()
        durations, token_offsets, tokens, line_offsets = array("f"), array("q", [0]), array("i"), array("q", [0])
        with atomic_dir(folder) as temporary:
            with open(temporary / "cuts.jsonl", "wb") as stream:
                for text_line, cut in read_jsonl_with_lines(cuts_path):
                    text = text_of(cut)
                    sequence = tokenize(text) if text else []
                    seconds = duration_of(cut, cuts_path)
                    reason = "no text" if not sequence else reason_against(seconds, sequence)
                    if reason:
                        left_out[reason] += 1
                        continue
                    line = text_line.encode("utf-8") + b"\n"
                    stream.write(line)
                    durations.append(seconds)
                    tokens.extend(sequence)
                    token_offsets.append(len(tokens))
                    line_offsets.append(line_offsets[-1] + len(line))
            arrays = {
                "durations": np.array(durations, dtype=np.float32),
                "token_offsets": np.array(token_offsets, dtype=np.int64),
                "tokens": np.array(tokens, dtype=np.int32),
                "line_offsets": np.array(line_offsets, dtype=np.int64),
            }
            for name, values in arrays.items():
                np.save(temporary / f"{name}.npy", values)
            write_text(temporary / _MADE_FROM, json.dumps({"key": key, "left_out": dict(left_out)}) + "\n")
        return CutIndex.open(folder), dict(left_out)


def duration_of(cut: dict[str, Any], path: Path) -> float:
    """Of a cut as in a manifest; a mixture lasts as long as its first track, the speech (noise does not prolong it)."""
    try:
        return float(cut["duration"] if "tracks" not in cut else cut["tracks"][0]["cut"]["duration"])
    except (KeyError, IndexError, TypeError):
        raise UserError(f"{path}: {cut.get('id', 'a line')} is not a cut; run stage 4 again") from None
