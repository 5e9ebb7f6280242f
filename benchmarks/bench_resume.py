"""How long a stopped training takes to find its place: from the index of its cuts to the next batch of its epoch.

The cuts are written for the occasion, without audio; the index is there, as it is when a training goes on. Timed are
what depends on the number of cuts: comparing the manifest with the index, planning the epoch, and reading the cuts of
the next batch. Loading the checkpoint depends on the model alone.

    python -m benchmarks.bench_resume --cuts 10000 100000 1000000 --work-dir /a/disk/with/room
"""

from __future__ import annotations

import platform
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.data.index import CutIndex
from icefall_ext.files import open_jsonl_for_writing
from icefall_ext.train.trainer import TrainingData

EPOCH, SEED, DONE = 3, 42, 0.7  # where in which epoch it was stopped


@dataclass
class Config:
    work_dir: Path = required("where the manifests go; removed afterwards")
    cuts: list[int] = option([10_000, 100_000], "sizes of the training data")
    repeats: int = option(3, "the median is shown")


def main(cfg: Config) -> None:
    rows = []
    for count in cfg.cuts:
        folder = cfg.work_dir / f"resume-{count}"
        cuts = folder / "cuts.jsonl.gz"
        write_cuts(cuts, count)
        made, index = timed(open_index, cuts, folder / "index")
        index.cuts([0])  # imports lhotse
        runs = [resume(cuts, folder / "index") for _ in range(cfg.repeats)]
        parts = [statistics.median(part) for part in zip(*runs)]
        rows.append((f"{count:,}", f"{index.durations.sum() / 3600:,.0f}", f"{made:.1f}", *(f"{p:.2f}" for p in parts),
                     f"{sum(parts):.2f}"))
        shutil.rmtree(folder)
    console.table(("cuts", "hours", "made once, s", "opened, s", "planned, s", "next batch, s", "together, s"), rows)
    console.says(f"{platform.machine()}, Python {platform.python_version()}, median of {cfg.repeats}")


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def resume(cuts: Path, folder: Path) -> list[float]:
    opened, index = timed(open_index, cuts, folder)
    data = TrainingData(index, None, BatchLimits())
    planned, batches = timed(data.batches, SEED, EPOCH)
    read, _ = timed(index.cuts, batches[int(DONE * len(batches))])
    return [opened, planned, read]


def open_index(cuts: Path, folder: Path) -> CutIndex:
    return CutIndex.build(cuts, folder, lambda cut: cut["supervisions"][0]["text"], str.encode, lambda *_: None, "")[0]


def write_cuts(path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    with open_jsonl_for_writing(path) as writer:
        for number, seconds in enumerate(random.gamma(4.0, 1.5, count).clip(0.5, 20).round(3).tolist()):
            writer.write(cut(f"speaker-{number // 300}-{number}", seconds))


def cut(id: str, seconds: float) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": f"corpus/condenser/wav/{id}.wav"}
    recording = {"id": id, "sources": [source], "sampling_rate": 16000, "num_samples": round(seconds * 16000),
                 "duration": seconds, "channel_ids": [0]}
    text = "gua2-li2-i1 " * round(seconds)
    supervision = {"id": id, "recording_id": id, "start": 0.0, "duration": seconds, "channel": 0,
                   "text": text or "gua2", "custom": {"tailo": text}}
    return {"id": id, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [supervision],
            "recording": recording, "type": "MonoCut"}


if __name__ == "__main__":
    run(main, Config)
