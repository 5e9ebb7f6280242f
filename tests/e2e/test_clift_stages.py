"""`./run.sh --stage 0 --stop-stage 9` from nothing to the table and the report, with models of a few thousand weights.

What comes out is babble: the data is two minutes. What is tested is that every stage takes what the one before it
made, that a second run does nothing, and that what is printed and written is what was asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from icefall_ext.files import read_jsonl

ROOT = Path(__file__).parents[2]
LOOP = """
model: {predictor_dim: 16, joiner_dim: 16}
loss: {warm_batches: 4}
batch: {max_duration: 40}
train: {lr: 0.02, accumulate: 1, average_period: 1, save_every: 2, log_every: 1}
workers: 0
"""
ENCODER = """
encoder: {source: "random:tiny-mel"}
prediction: {clusters: 8}
train: {epochs: 1}
valid_share: 0.2
workers: 0
"""
BUDGET = "conf_phase1_epochs=1\nconf_phase2_epochs=2\nconf_avg=2\nconf_source_hours=0.02\nconf_processes=1\n"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clift tiny")  # with a space, as some home folders have
    conf = folder / "conf"
    conf.mkdir()
    files = {"phase1.yaml": LOOP, "phase2.yaml": LOOP, "lstm.yaml": "train: {lr: 0.005}\n", "encoder.yaml": ENCODER,
             "budget.sh": BUDGET}
    for name, content in files.items():
        (conf / name).write_text(content, encoding="utf-8")
    return folder


def run(folder: Path, exp: str, *options: str) -> subprocess.CompletedProcess:
    fixed = ["--mini-hours", "0.05", "--vocab-size", "300", "--nj", "2", "--python", sys.executable, "--threads", "1"]
    places = ["--conf", str(folder / "conf"), "--data-dir", str(folder / "data"), "--exp-dir", str(folder / exp)]
    environment = {k: v for k, v in os.environ.items() if k not in ("CALLED_AS", "PYTHON")}
    return subprocess.run(["./run.sh", *fixed, *places, *options], cwd=ROOT, capture_output=True, text=True,
                          env=environment)


@pytest.fixture(scope="module")
def two_phases(workplace):
    result = run(workplace, "exp")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return workplace, result.stdout


def test_the_whole_recipe_ends_with_a_table_and_a_report(two_phases):
    folder, printed = two_phases
    for stage in range(10):
        assert f"stage {stage}  done in" in printed
    assert "strict CER" in printed and "tone error rate" in printed
    page = (folder / "exp/report/index.html").read_text(encoding="utf-8")
    assert "strict CER" in page and "greedy_search" in page
    for phase, epochs in (("phase1", 1), ("phase2", 2)):
        assert (folder / f"exp/{phase}/epoch-{epochs}.pt").is_file()
        assert list((folder / f"exp/{phase}/tensorboard").glob("events.*"))
        for method in ("greedy_search", "modified_beam_search", "fast_beam_search"):
            assert len(list((folder / f"exp/{phase}/{method}").glob("recogs-test-*.txt"))) == 1


def test_a_second_run_does_nothing(two_phases):
    folder, _ = two_phases
    before = {p: p.stat().st_mtime_ns for p in (folder / "exp").rglob("*") if p.is_file() and p.name != ".lock"}
    result = run(folder, "exp")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("up to date") == 10
    assert {p: p.stat().st_mtime_ns for p in (folder / "exp").rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_phase_2_begins_with_the_encoder_of_phase_1_and_says_what_it_rebuilt(two_phases):
    _, printed = two_phases
    phase2 = printed[printed.index("stage 7  phase 2") :]
    for part in ("loaded", "rebuilt", "reset"):
        assert part in phase2
    rebuilt = next(line for line in phase2.splitlines() if "rebuilt" in line)
    for layer in ("decoder.embedding", "joiner.output_linear", "simple_am_proj", "simple_lm_proj", "ctc_output"):
        assert layer in rebuilt
    assert "encoder" not in rebuilt


def test_another_option_for_a_trained_folder_is_refused_and_changes_nothing(two_phases):
    folder, _ = two_phases
    before = (folder / "exp/phase1/epoch-1.pt").read_bytes()
    result = run(folder, "exp", "--stage", "6", "--stop-stage", "6", "--context-size", "3")
    assert result.returncode == 2
    assert "trained with --model.context-size 2, not 3" in result.stderr
    assert (folder / "exp/phase1/epoch-1.pt").read_bytes() == before


def test_the_raw_waveform_path_and_an_lstm_train_and_decode_without_a_first_phase(two_phases):
    folder, _ = two_phases
    options = ["--stage", "5", "--encoder", "random:tiny", "--phases", "direct", "--predictor", "lstm",
               "--methods", "greedy_search,modified_beam_search"]
    result = run(folder, "exp raw", *options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert not (folder / "exp raw/phase1").exists()
    assert (folder / "exp raw/report/index.html").is_file()
    rates = [yaml.safe_load((folder / trained / "config.yaml").read_text())["train"]["lr"]
             for trained in ("exp/phase2", "exp raw/phase2")]
    assert rates == [0.02, 0.005], "lstm.yaml lies over the settings of a phase, for an LSTM alone"


def test_tone_losses_align_the_syllables_once_and_train_both_phases_on_them(two_phases):
    folder, _ = two_phases
    losses = ["--tone-loss-scale", "0.1", "--speaker-loss-scale", "0.1"]
    options = ["--stage", "5", "--encoder", "random:tiny-mel", *losses]
    first = run(folder, "exp tone", *options, "--stop-stage", "7", "--aligner-epochs", "1")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    assert (folder / "exp tone/aligner/epoch-1.pt").is_file()
    alignments = folder / "exp tone/alignments.jsonl.gz"
    rows = list(read_jsonl(alignments))
    assert len(rows) > 20 and all(row["syllables"] and row["gender"] in ("F", "M") for row in rows)
    assert first.stdout.count("syllables  ") == 2 and first.stdout.count("syllables of") == 1, "made once, read twice"
    for phase in ("phase1", "phase2"):
        lines = (folder / f"exp tone/{phase}/log/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        shown = [row for row in map(json.loads, lines) if row["kind"] == "train"]
        assert any(row["tone_anchors"] > 0 and row["tone_loss"] > 0 for row in shown)
        assert all("speaker_anchors" in row for row in shown)
    before = alignments.stat().st_mtime_ns
    again = run(folder, "exp tone", *options, "--stop-stage", "7", "--aligner-epochs", "1")
    assert again.stdout.count("up to date") == 3 and alignments.stat().st_mtime_ns == before

    other = run(folder, "exp given", *options, "--stop-stage", "6", "--phases", "direct", "--aligner",
                str(folder / "exp tone/aligner"))
    assert other.returncode == 0, other.stdout[-3000:] + other.stderr[-3000:]
    assert "align the syllables of the training cuts" in other.stdout
    assert not (folder / "exp given/aligner").exists() and not (folder / "exp given/phase1").exists()
    assert list(read_jsonl(folder / "exp given/alignments.jsonl.gz")) == rows
    by_file = run(folder, "exp file", *options, "--stop-stage", "7", "--phases", "direct", "--aligner", str(alignments))
    assert by_file.returncode == 0, by_file.stdout[-3000:] + by_file.stderr[-3000:]
    assert "phase 1: left out" in by_file.stdout and not (folder / "exp file/alignments.jsonl.gz").exists()


@pytest.mark.k2
def test_k2_and_native_fast_beam_search_read_the_same_from_one_checkpoint(two_phases):
    folder, _ = two_phases
    searched = folder / "exp/phase2/fast_beam_search"
    assert backend(searched) == "k2", "auto takes k2 where it imports"
    with_k2 = recogs(searched)
    result = run(folder, "exp", "--stage", "8", "--stop-stage", "8", "--search-backend", "torch")
    assert result.returncode == 0, result.stderr
    assert recogs(searched) == with_k2 and backend(searched) == "torch"


def backend(folder: Path) -> str:
    (about,) = folder.glob("decoding-test-*.json")
    return json.loads(about.read_text(encoding="utf-8"))["backend"]


def recogs(folder: Path) -> str:
    (path,) = folder.glob("recogs-test-*.txt")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder", "tonal", "--corpus", "tat", "--corpus-dir", "."], "only --corpus mini has source languages"),
        (["--encoder", "no-such-model", "--stage", "5", "--stop-stage", "5"], "no-such-model: no such file or folder"),
        (["--methods", "viterbi"], "--methods viterbi: must be of greedy_search"),
        (["--conf", "no/such/conf"], "no folder with a budget.sh; there is: mini paper"),
        (["--tone-loss-scale", "0.1", "--aligner", "no/such"], "--aligner no/such: no such folder or file"),
        (["--speaker-loss-scale", ".1", "--freeze-phase1", "all"], "the tone losses teach the encoder, which does not"),
        (["--train-seed", "x"], "--train-seed x: must be a whole number"),
    ],
)
def test_a_wrong_choice_is_one_line_before_anything_runs(two_phases, options, message):
    folder, _ = two_phases
    result = run(folder, "exp wrong", *options)
    assert result.returncode in (1, 2) and message in result.stderr
    assert "Traceback" not in result.stderr
