"""Small copies of TAT for the tests: sentences planted one by one, and what became of them."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from icefall_ext.corpora.base import Options
from icefall_ext.corpora.manifest import write_manifests
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.data_dir import DataDir
from icefall_ext.files import read_jsonl

PCM, FLOAT = 1, 3


def wav_bytes(
    seconds: float = 1.0,
    rate: int = 16000,
    *,
    channels: int = 1,
    bits: int = 16,
    tag: int = PCM,
    promised: int | None = None,
    before_data: bytes = b"",
) -> bytes:
    """A silent wav; `promised` is the data length that its header states instead of the true one."""
    block = channels * bits // 8
    data = bytes(round(seconds * rate) * block)
    length = len(data) if promised is None else promised
    described = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)
    return (
        b"RIFF" + struct.pack("<I", (36 + length) & 0xFFFFFFFF) + b"WAVE"
        + b"fmt " + struct.pack("<I", 16) + described + before_data
        + b"data" + struct.pack("<I", length) + data
    )  # fmt: skip


def label(speaker: str, stem: str, seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    """All keys of a TAT label; a change to None leaves a key out."""
    card, _, sentence = stem.rpartition("-")
    fields = {
        "id": "57906",
        "提示卡編號": card,
        "句編號": sentence,
        "漢羅台文": "數字",
        "台羅": "sòo-jī",
        "台羅數字調": "soo3-ji7",
        "白話字": "sò͘-jī",
        "發音人": speaker.partition("_")[2],
        "性別": "F",
        "年齡": "21",
        "腔調": "不清楚",
        "出生地": "高雄市鳳山區",
        "現居地": "台南市東區",
        "教育程度": "大學",
        "字數": "2",
        "音檔長度": f"{seconds:.2f}",
        "總錄音時間(分)": "70",
        "錄音環境": "錄音室",
        "提示卡切換速度": "中等",
        "通過漢羅用字檢查": "True",
    }
    return {key: value for key, value in {**fields, **changes}.items() if value is not None}


class Tree:
    """A corpus folder. Everything planted can be changed: a label by keys or as bytes, a wav as bytes, or left out."""

    def __init__(self, root: Path, *, wav_level: bool = True, number: str = "-03"):
        self.root, self.wav_level, self.number = root, wav_level, number

    def plant(
        self,
        stem: str = "0035-6.13",
        *,
        part: str = "TAT-MOE-train",
        speaker: str = "TS_TSM0020",
        mics: tuple[str, ...] = ("condenser",),
        seconds: float = 1.0,
        json: bytes | None = None,
        wav: bytes | None = None,
        suffix: str = ".wav",
        labels: str = "",
        **changes: Any,
    ) -> Path:
        """Returns the path of the label."""
        home = self.root / part
        text = as_json(label(speaker, stem, seconds, **changes)) if json is None else json
        path = write(Path(labels or home) / "json" / speaker / f"{stem}.json", text)
        for mic in mics:
            folder = home / mic / "wav" if self.wav_level else home / mic
            write(folder / speaker / f"{stem}{self.number}{suffix}", wav_bytes(seconds) if wav is None else wav)
        return path

    def wav(self, stem: str = "0035-6.13", part: str = "TAT-MOE-train", speaker: str = "TS_TSM0020") -> Path:
        return self.root / part / "condenser" / "wav" / speaker / f"{stem}{self.number}.wav"

    def sound_elsewhere(self) -> Tree:
        """A sound sentence in train, so that a part with nothing else in it is no error."""
        self.plant("0001-1.0", speaker="XX_XXF0001")
        return self


def as_json(fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Part(NamedTuple):
    recordings: list[dict[str, Any]]
    supervisions: list[dict[str, Any]]
    rows: list[dict[str, str]]

    def said(self) -> list[tuple[str, str]]:
        """(what was done, why) of every row."""
        return [(row["done"], row["reason"]) for row in self.rows]

    def ids(self) -> list[str]:
        return [supervision["id"] for supervision in self.supervisions]


def imported(name: str, folder: Path, data_dir: Path, **options: Any) -> dict[str, Part]:
    """Run an importer and read back what it wrote."""
    corpus = open_corpus(name, folder, Options(**options))
    write_manifests(corpus, data_dir)
    return {part: read_part(DataDir(data_dir, name), part) for part in corpus.parts}


def read_part(data_dir: DataDir, part: str) -> Part:
    with open(data_dir.audit("manifests", part), encoding="utf-8", newline="\n") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return Part(list(read_jsonl(data_dir.recordings(part))), list(read_jsonl(data_dir.supervisions(part))), rows)


def train(tree: Tree, **options) -> Part:
    """The training part without the sound sentence that every tree has."""
    part = imported("tat", tree.root, tree.root.parent / "data", **options)["train"]
    sound = "XX_XXF0001-0001-1.0-condenser"
    return Part(
        [r for r in part.recordings if r["id"] != sound], [s for s in part.supervisions if s["id"] != sound], part.rows
    )


def only_row(part: Part, done: str, reason: str) -> dict[str, str]:
    assert part.said() == [(done, reason)]
    return part.rows[0]


def kept(part: Part) -> bool:
    return part.ids() == ["TS_TSM0020-0035-6.13-condenser"]
