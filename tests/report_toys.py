"""An experiment as stages 5 to 9 leave it, in small: two phases, a sweep, texts that try to break out of a page."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import soundfile

from icefall_ext.bin import score
from icefall_ext.cli import parse
from icefall_ext.score.icefall_files import Recog, write_recogs

SUFFIX = "epoch-2-avg-1"
EVIL = "</script><script>window.broken=1</script><img/src=x/onerror=window.broken=2>"
HANLO = {
    "A-1": ("我 欲 去 台 北", "我 要 去 台 北"),
    "A-2": ("食 飯", "食 飯"),
    "B-1": ("伊 食 飯", "伊 飯 無 無"),
    "B-2": (f"& {EVIL} 去", f"& {EVIL} 來"),
}
TAILO = {
    "A-1": ("gua2 beh4 khi3 tai5-pak4", "gua2 beh4 khi3 tai7-pak4"),
    "A-2": ("tsiah8 png7", "tsiah8 png7"),
    "B-1": ("i1 tsiah8 png7", "i1 png5"),
    "B-2": (f"khì {EVIL}", f"khi3 {EVIL}"),
}
SPEAKERS = {"A-1": "A", "A-2": "A", "B-1": "B", "B-2": "B<img/src=x/onerror=window.broken=3>"}


def experiment(folder: Path) -> Path:
    """clift-mini, scored by bin/score, beside its cuts (cuts.jsonl.gz)."""
    cuts = cuts_of(folder)
    exp = folder / "exp/clift-mini"
    for name, batches in (("encoder-training", 40), ("phase1", 60), ("phase2", 60)):
        run_folder(exp / name, batches)
    tailo = recogs(exp / "phase1/greedy_search", TAILO, "greedy_search")
    perfect = {id: (ref, ref) for id, (ref, _) in HANLO.items()}
    hanlo = [
        recogs(exp / "phase2/greedy_search", HANLO, "greedy_search"),
        recogs(exp / "phase2/modified_beam_search", perfect, "beam_size_4"),
    ]
    run_score("--script", "tailo", "--recogs", tailo, "--manifest", cuts)
    run_score("--script", "hanlo", "--recogs", *hanlo, "--manifest", cuts)
    return exp


def run_score(*arguments: object) -> None:
    score.main(parse(score.Config, [*map(str, arguments), "--resamples", "1000"]))


def cuts_of(folder: Path, ids=tuple(HANLO)) -> Path:
    path = folder / "cuts.jsonl.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        for number, id in enumerate(ids):
            wav, seconds = folder / f"a b#{number}.wav", 0.5 + 0.1 * number
            soundfile.write(wav, 0.1 * np.sin(np.arange(int(8000 * (seconds + 0.25))) / 5), 8000)
            source = {"type": "file", "channels": [0], "source": str(wav)}
            recording = {"id": id, "sources": [source], "transforms": [{"name": "Resample", "kwargs": {}}]}
            speech = {"id": id, "text": "", "speaker": SPEAKERS.get(id, "C")}
            cut = {"id": id, "start": 0.25, "duration": seconds, "channel": 0}
            print(json.dumps({**cut, "supervisions": [speech], "recording": recording}), file=stream)
    return path


def run_folder(folder: Path, batches: int) -> None:
    (folder / "log").mkdir(parents=True)
    about = {
        "commit": "0123456789abcdef", "versions": {"torch": "2.11.0"}, "host": "a-host", "python": "3.11.4",
        "started": "2026-01-02T03:04:05", "command": f"python -m icefall_ext.bin.train --exp-dir 'a b/{folder.name}'",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    with open(folder / "log/metrics.jsonl", "w") as stream:
        for batch in range(1, batches + 1):
            epoch, loss = 1 + 2 * batch // (batches + 1), 8 * math.exp(-batch / 12) + 0.1
            record = {"epoch": epoch, "batch": batch, "loss": loss, "ctc_loss": loss / 2, "lr": 1e-3 / batch}
            print(json.dumps({"kind": "train", **record, "audio_s_per_s": 50.0, "wait_share": 0.01}), file=stream)
            if batch % 10 == 0:
                print(json.dumps({"kind": "valid", **record, "loss": loss + 0.05}), file=stream)


def recogs(folder: Path, texts: dict[str, tuple[str, str]], key: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    decoding = {
        "method": folder.name, "options": {"beam": 4}, "real_time_factor": 0.042, "peak_memory_mb": 512.0,
        "checkpoint": f"{SUFFIX}.pt",
    }  # fmt: skip
    (folder / f"decoding-test-{SUFFIX}.json").write_text(json.dumps(decoding))
    path = folder / f"recogs-test-{key}-{SUFFIX}.txt"
    write_recogs(path, [Recog(id, ref.split(), hyp.split()) for id, (ref, hyp) in texts.items()])
    return path


def word_scores(hard: float, errors: bool) -> dict:
    """One set of speakers as bin/score_words writes it."""
    retrieval = [{"direction": way, "top1": 0.5, "top5": 0.75, "queries": 8, "gallery": 8} for way in ("F->M", "M->F")]
    scores = {
        "recordings": 16, "retrieval": retrieval, "mean_top1": 0.5, "mean_top5": 0.75,
        "distances": {"positive": 0.25, "hard": hard, "soft": math.nan, "closest": hard / 4},
        "probes": {"speaker": {"accuracy": 0.625, "chance": 0.5}},
    }  # fmt: skip
    return {**scores, "errors": {"word": 51.25, "base": 30.0, "tone": 20.0, "cer": 10.0}} if errors else scores


def words_of(folder: Path, hard: float, errors: bool = False, batches: int = 0) -> None:
    """A model's folder, before or after it was trained."""
    (folder / "scores").mkdir(parents=True)
    if batches:
        run_folder(folder, batches)
        (folder / "config.yaml").write_text("train: {accumulate: 1}\n")
    sets = {"unseen": word_scores(hard, errors), "seen": word_scores(hard / 2, errors)}
    (folder / "scores/words.json").write_text(json.dumps({"model": "x", "feature_layer": 2, "sets": sets}))
    (folder / "scores/words.png").write_bytes(b"\x89PNG of " + folder.name.encode())
