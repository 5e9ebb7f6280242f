"""What a corpus of any size costs a training: time to its first batch, and memory of each process.

Cuts are written for the occasion and share a few recordings of noise, so that audio is really read; only the number of
cuts differs. In a process of its own for each size: the index is made (once for a corpus), then opened as a training
that goes on does, an epoch is planned, and batches are taken from `--workers` loading processes. Memory is what a
process has to itself, from /proc/PID/smaps_rollup: pages that it shares, such as mapped arrays, count once for all.

    python -m benchmarks.bench_scale --cuts 1000 10000 100000 1000000 --work-dir /a/disk/with/room
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.bench_resume import cut, open_index
from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.data.batches import BatchLimits
from icefall_ext.data.loading import load_batches
from icefall_ext.files import open_jsonl_for_writing
from icefall_ext.train.trainer import TrainingData

RECORDINGS, TAKEN = 100, 200  # recordings that the cuts share; batches taken before memory is read


@dataclass
class Config:
    work_dir: Path = required("where the corpora go; removed afterwards")
    cuts: list[int] = option([1_000, 10_000, 100_000, 1_000_000], "sizes of the training data")
    workers: int = option(2, "loading processes")
    max_duration: float = option(100.0, "seconds of a batch")
    measure: int = option(0, "one size in this process, for the program's own use")


def main(cfg: Config) -> None:
    if cfg.measure:
        print(json.dumps(measure(cfg)))
        return
    rows = []
    for count in cfg.cuts:
        folder = cfg.work_dir / f"scale-{count}"
        write_corpus(folder, count)
        of = in_own_process(count)
        rows.append((f"{count:,}", f"{of['hours']:,.0f}", f"{of['made']:.1f}", f"{of['made_mb']:.0f}",
                     f"{of['opened']:.2f}", f"{of['planned']:.2f}", f"{of['first_batch']:.2f}",
                     f"{of['opened'] + of['planned'] + of['first_batch']:.2f}", f"{of['main_mb']:.0f}",
                     f"{of['worker_mb']:.0f}", f"{of['rate']:,.0f}"))
        shutil.rmtree(folder)
    console.table(("cuts", "hours", "index made, s", "peak MB then", "opened, s", "planned, s", "first batch, s",
                   "to the first batch, s", "training's MB", "a worker's MB", "audio s/s of a worker"), rows)
    console.says(f"{platform.machine()}, Python {platform.python_version()}, {cfg.workers} workers, batches of "
                 f"{cfg.max_duration:g} s")


def in_own_process(count: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.bench_scale", *sys.argv[1:], "--measure", str(count)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure(cfg: Config) -> dict[str, float]:
    folder = cfg.work_dir / f"scale-{cfg.measure}"
    cuts, place = folder / "cuts.jsonl.gz", folder / "index"
    if not place.exists():
        start = time.perf_counter()
        open_index(cuts, place)
        made = {"made": time.perf_counter() - start,
                "made_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
        again = subprocess.run([sys.executable, "-m", "benchmarks.bench_scale", *sys.argv[1:]], capture_output=True,
                               text=True, check=True)  # without what making the index has left in memory
        return made | json.loads(again.stdout.splitlines()[-1])
    start = time.perf_counter()
    index = open_index(cuts, place)
    opened = time.perf_counter()
    batches = TrainingData(index, None, BatchLimits(cfg.max_duration)).batches(42, 1)
    planned = time.perf_counter()
    with load_batches(index, batches, cfg.workers) as stream:
        seconds = 0.0
        for number, batch in enumerate(stream, start=1):
            if number == 1:
                first = time.perf_counter()
            seconds += batch.seconds
            if number == min(TAKEN, len(batches) - 10 * cfg.workers):  # workers have not come to their end
                break
        rate = seconds / (time.perf_counter() - first) / cfg.workers
        gc.collect()
        workers = [own_mb(process.pid) for process in multiprocessing.active_children()]
        memory = {"main_mb": own_mb("self"), "worker_mb": max(workers), "rate": rate}
    return {"hours": float(index.durations.sum()) / 3600, "opened": opened - start, "planned": planned - opened,
            "first_batch": first - planned, **memory}


def own_mb(pid: int | str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def write_corpus(folder: Path, count: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    durations = random.gamma(4.0, 1.5, count).clip(0.5, 20).round(3).tolist()
    shared = []
    for number, seconds in enumerate(durations[:RECORDINGS]):
        samples = round(seconds * 16000)
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * random.standard_normal(samples), 16000)
        shared.append((str(path), samples))
    with open_jsonl_for_writing(folder / "cuts.jsonl.gz") as writer:
        for number in range(count):
            path, samples = shared[number % RECORDINGS]
            line = cut(f"speaker-{number // 300}-{number}", samples / 16000)
            line["recording"]["sources"][0]["source"] = path
            writer.write(line)


if __name__ == "__main__":
    run(main, Config)
