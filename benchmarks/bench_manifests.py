"""How fast JSON+wav pairs become manifests, in how much memory, beside a plain loop over lhotse's Recording.from_file.

The corpus is written for the occasion in TAT's layout: full labels (0.8 kB) and wavs of a 44-byte header and ten
milliseconds, because importing reads headers alone. Every run is a process of its own, on files in the page cache.

    python -m benchmarks.bench_manifests --pairs 10000 100000 --work-dir /a/disk/with/room
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from icefall_ext import console
from icefall_ext.bin.prepare_manifests import Config as ImportConfig
from icefall_ext.bin.prepare_manifests import main as import_corpus
from icefall_ext.cli import option, required, run

SENTENCES_PER_SPEAKER = 300  # TAT-MOE has 262
SAMPLES = 160


@dataclass
class Config:
    work_dir: Path = required("where the corpora go; removed afterwards")
    pairs: list[int] = option([10_000, 100_000], "sizes of the corpora")
    nj: int = option(2, "worker processes")
    repeats: int = option(3, "runs of each, in turn; the median is shown")
    lhotse_up_to: int = option(100_000, "larger corpora are not read by the plain loop")
    measure: str = option("", "one run in this process, for the program's own use", choices=("", "ours", "lhotse"))


def main(cfg: Config) -> None:
    if cfg.measure:
        measure(cfg)
        return
    rows = []
    for pairs in cfg.pairs:
        corpus = cfg.work_dir / f"corpus-{pairs}"
        write_corpus(corpus, pairs)
        kinds = ["ours", "lhotse"] if pairs <= cfg.lhotse_up_to else ["ours"]
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        run_one(cfg, "ours", corpus)  # brings the files into the page cache
        for _ in range(cfg.repeats):
            for kind in kinds:
                runs[kind].append(run_one(cfg, kind, corpus))
        seconds = {kind: statistics.median(r["seconds"] for r in runs[kind]) for kind in kinds}
        for kind in kinds:
            faster = f"{seconds['lhotse'] / seconds[kind]:.1f}" if "lhotse" in kinds else "-"
            memory = max(r["megabytes"] for r in runs[kind])
            name = f"prepare_manifests --nj {cfg.nj}" if kind == "ours" else "plain loop, Recording.from_file"
            rate = f"{pairs / seconds[kind]:,.0f}"
            rows.append((name, f"{pairs:,}", f"{seconds[kind]:.2f}", rate, f"{memory:,.0f}", faster))
        shutil.rmtree(corpus)
    console.table(("", "pairs", "seconds", "pairs/s", "peak MB", "times the loop"), rows)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("lhotse", "soundfile", "torch"))
    console.says(f"{len(os.sched_getaffinity(0))} cores, {processor()}; Python {platform.python_version()}, {versions}")


def write_corpus(corpus: Path, pairs: int) -> None:
    """Nine tenths train, the rest dev and test."""
    data = bytes(2 * SAMPLES)
    described = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    riff = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + described
    wav = riff + b"data" + struct.pack("<I", len(data)) + data
    for start in console.progress(range(0, pairs, SENTENCES_PER_SPEAKER), f"writing {pairs:,} pairs"):
        number = start // SENTENCES_PER_SPEAKER
        part = {8: "eval", 9: "test"}.get(number % 20, "train")
        speaker = f"TS_TSM{number:05d}"
        labels = corpus / f"TAT-MOE-{part}/json/{speaker}"
        audio = corpus / f"TAT-MOE-{part}/condenser/wav/{speaker}"
        labels.mkdir(parents=True)
        audio.mkdir(parents=True)
        for sentence in range(min(SENTENCES_PER_SPEAKER, pairs - start)):
            card, name = f"{sentence // 20:04d}", f"{sentence % 20 // 4 + 1}.{sentence % 4}"
            (labels / f"{card}-{name}.json").write_bytes(label(start + sentence, speaker, card, name))
            (audio / f"{card}-{name}-03.wav").write_bytes(wav)


def label(number: int, speaker: str, card: str, sentence: str) -> bytes:
    fields = {
        "id": str(number),
        "提示卡編號": card,
        "句編號": sentence,
        "漢羅台文": "伊講伊明仔載欲去臺北揣朋友食飯，你敢欲做伙去？",
        "台羅": "I kóng i bîn-á-tsài beh khì Tâi-pak tshuē pîng-iú tsia̍h-pn̄g, lí kám beh tsò-hué khì?",
        "台羅數字調": "I1 kong2 i1 bin5-a2-tsai3 beh4 khi3 Tai5-pak4 tshue7 ping5-iu2 tsiah8-png7, li2 kam2 beh4 "
        "tso3-hue2 khi3?",
        "白話字": "I kóng i bîn-á-chài beh khì Tâi-pak chhoē pêng-iú chia̍h-pn̄g, lí kám beh chò-hóe khì?",
        "發音人": speaker.partition("_")[2],
        "性別": "M",
        "年齡": "21",
        "腔調": "不清楚",
        "出生地": "高雄市鳳山區",
        "現居地": "台南市東區",
        "教育程度": "大學",
        "字數": "23",
        "音檔長度": f"{SAMPLES / 16000:.2f}",
        "總錄音時間(分)": "70",
        "錄音環境": "錄音室",
        "提示卡切換速度": "中等",
        "通過漢羅用字檢查": "True",
    }
    return json.dumps(fields, ensure_ascii=False, indent=2).encode("utf-8")


def run_one(cfg: Config, kind: str, corpus: Path) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_manifests",
        "--measure",
        kind,
        "--work-dir",
        corpus,
        "--nj",
        cfg.nj,
    ]
    ran = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def measure(cfg: Config) -> None:
    """Seconds from start to end, imports left out; memory of this process and, for each worker, of the largest one."""
    output = cfg.work_dir.with_name(cfg.work_dir.name + "-data")
    if cfg.measure == "ours":
        started = time.perf_counter()
        import_corpus(ImportConfig("tat", str(cfg.work_dir), str(output), nj=cfg.nj))
        seconds, workers = time.perf_counter() - started, cfg.nj
    else:
        seconds, workers = plain_loop(cfg.work_dir, output), 0
    shutil.rmtree(output)
    largest = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"seconds": seconds, "megabytes": largest[0] + workers * largest[1]}))


def plain_loop(corpus: Path, output: Path) -> float:
    """What a recipe usually does: sorted glob, json.load, Recording.from_file; no checks."""
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    started = time.perf_counter()
    output.mkdir()
    for part in ("train", "eval", "test"):
        root = corpus / f"TAT-MOE-{part}"
        with RecordingSet.open_writer(output / f"recordings_{part}.jsonl.gz") as recordings:
            with SupervisionSet.open_writer(output / f"supervisions_{part}.jsonl.gz") as supervisions:
                for path in sorted(root.glob("json/*/*.json")):
                    fields = json.loads(path.read_text(encoding="utf-8"))
                    speaker = path.parent.name
                    wav = root / "condenser/wav" / speaker / f"{path.stem}-03.wav"
                    id = f"{speaker}-{path.stem}-condenser"
                    recording = Recording.from_file(wav, recording_id=id)
                    segment = SupervisionSegment(
                        id,
                        id,
                        0.0,
                        recording.duration,
                        text=fields["漢羅台文"],
                        language="nan",
                        speaker=speaker,
                        gender=fields["性別"],
                        custom={"tailo": fields["台羅"], "tailo_number": fields["台羅數字調"], "age": fields["年齡"]},
                    )
                    recordings.write(recording)
                    supervisions.write(segment)
    return time.perf_counter() - started


def processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        return next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    run(main, Config)
