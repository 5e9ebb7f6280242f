"""`./run.sh --stage 0 --stop-stage 4` on a generated corpus of two minutes, as a newcomer runs it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOURS = "0.04"
PARTS = ("train", "dev", "test")


def command(data_dir: Path, *options: str) -> list[str]:
    fixed = ["--stop-stage", "4", "--mini-hours", HOURS, "--vocab-size", "300", "--nj", "2", "--python", sys.executable]
    return ["./run.sh", *fixed, "--data-dir", str(data_dir), "--exp-dir", str(data_dir / "exp"), *options]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("CALLED_AS", "PYTHON")}


def run(data_dir: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(data_dir, *options), cwd=ROOT, capture_output=True, text=True, env=environment())


def contents(data_dir: Path) -> dict[str, str]:
    """Every file but the records of the stages, which hold times; the place of the folder is left out of manifests."""
    found = {}
    for path in sorted(data_dir.rglob("*")):
        name = str(path.relative_to(data_dir))
        if path.is_file() and not name.startswith(("stages/", "exp/", "lang_bbpe_280", ".lock")):
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found[name] = hashlib.sha256(raw.replace(str(data_dir).encode(), b"")).hexdigest()
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("mini data")  # with a space, as some home folders have
    result = run(data_dir)
    assert result.returncode == 0, result.stdout + result.stderr
    return data_dir, result.stdout


def audit_rows(data_dir: Path) -> list[dict[str, str]]:
    rows = []
    for path in sorted((data_dir / "audit").glob("*.tsv")):
        with open(path, encoding="utf-8", newline="") as stream:
            rows += csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    return rows


def test_every_stage_says_what_it_made(prepared):
    data_dir, output = prepared
    for stage in range(5):
        assert f"stage {stage}  " in output and f"stage {stage}  done in" in output
    for part in PARTS:
        assert (data_dir / f"wav/mini_cuts_{part}.jsonl.gz").is_file()
    for script in ("tailo", "hanlo"):
        assert (data_dir / f"lang_bbpe_300_{script}/bbpe.model").is_file()
    assert "tone 5, %" in output


def test_second_run_does_nothing_and_says_so(prepared):
    data_dir, _ = prepared
    before = contents(data_dir)
    again = run(data_dir)
    assert again.returncode == 0 and again.stdout.count("up to date") == 5
    assert contents(data_dir) == before and "done in" not in again.stdout


def test_vocabulary_for_another_size_stands_beside_the_first(prepared):
    data_dir, _ = prepared
    result = run(data_dir, "--vocab-size", "280")
    assert result.returncode == 0 and result.stdout.count("up to date") == 4
    assert (data_dir / "lang_bbpe_280_tailo").is_dir() and (data_dir / "lang_bbpe_300_tailo").is_dir()


def test_cuts_load_with_their_audio_and_both_texts(prepared):
    from lhotse import CutSet

    data_dir, _ = prepared
    speakers = {}
    for part in PARTS:
        cuts = list(CutSet.from_file(data_dir / f"wav/mini_cuts_{part}.jsonl.gz"))
        speakers[part] = {cut.supervisions[0].speaker for cut in cuts}
        assert {cut.supervisions[0].gender for cut in cuts} == {"F", "M"}
        audio = cuts[0].load_audio()
        assert audio.shape == (1, cuts[0].num_samples) and cuts[0].sampling_rate == 16000 and abs(audio).max() > 0.01
    assert not speakers["train"] & speakers["dev"] and not speakers["train"] & speakers["test"]
    assert not speakers["dev"] & speakers["test"]


def test_text_of_every_kept_sentence_round_trips_through_its_tokenizer(prepared):
    from icefall_ext.files import read_jsonl
    from icefall_ext.text.bbpe import ByteBPE

    data_dir, _ = prepared
    tokenizer = {script: ByteBPE.load(data_dir / f"lang_bbpe_300_{script}") for script in ("tailo", "hanlo")}
    for item in read_jsonl(data_dir / "text/mini_supervisions_test.jsonl.gz"):
        for script, text in (("hanlo", item["text"]), ("tailo", item["custom"].get("tailo"))):
            if text:
                assert tokenizer[script].decode(tokenizer[script].encode(text)) == text


def sentence_of(file: str) -> str:
    """`IU_IUF0071 A046-8.2` of a json, of any of its wavs, or of an utterance id."""
    *_, speaker, name = file.split("/") if "/" in file else ("", *file.split("-", 1))
    card_and_sentence = re.match(r"[A-Z0-9]+-[0-9]+\.[0-9]+", name)
    return f"{speaker} {card_and_sentence[0] if card_and_sentence else name}"


def test_audit_tells_every_planted_trap_as_the_ground_truth_does(prepared):
    data_dir, _ = prepared
    (corpus_dir,) = data_dir.glob("corpus-*")
    with open(corpus_dir / "PLANTED.tsv", encoding="utf-8", newline="") as stream:
        planted = list(csv.DictReader(stream, delimiter="\t"))
    assert len({trap["trap"] for trap in planted}) >= 15
    told = defaultdict(set)
    for row in audit_rows(data_dir):
        told[sentence_of(row["file"])].add(row["done"])
    for trap in planted:
        done = told[sentence_of(trap["file"])]
        if trap["expected"] == "kept":
            assert "rejected" not in done, trap
        elif trap["expected"] == "listed":
            assert done, trap
        else:
            assert trap["expected"] in done, trap
    rejected = {sentence for sentence, done in told.items() if "rejected" in done}
    assert rejected <= {sentence_of(trap["file"]) for trap in planted}, "nothing sound is rejected"


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(prepared, tmp_path):
    data_dir, _ = prepared
    undisturbed = contents(data_dir)
    dice = random.Random(7)
    for _ in range(8):
        with subprocess.Popen(
            command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment(), start_new_session=True,
        ) as process:  # fmt: skip
            time.sleep(dice.uniform(0.3, 4.0))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert {name for name in contents(tmp_path) if name.endswith(".partial")} == set()
    assert contents(tmp_path) == undisturbed


def test_second_run_in_the_same_folder_is_refused_until_all_of_the_first_is_gone(prepared, tmp_path):
    """Killing the shell alone leaves the program that it started at work on the same files."""
    options = ["--mini-hours", "6", "--nj", "1"]  # a minute of work
    with subprocess.Popen(
        [*command(tmp_path), *options], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment(),
        start_new_session=True,
    ) as first:  # fmt: skip
        try:
            while "stage 0" not in (first.stdout.readline() or "stage 0"):
                pass
            time.sleep(1)
            os.kill(first.pid, signal.SIGKILL)
            result = run(tmp_path)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
    assert result.returncode == 2 and f"process {first.pid}, or what it started, is working there" in result.stderr
    time.sleep(0.5)
    assert run(tmp_path, "--stop-stage", "0").returncode == 0, "the lock goes with the last of them"


def test_stage_before_its_input_says_which_stage_to_run(tmp_path):
    result = run(tmp_path, "--stage", "3")
    assert result.returncode == 1 and result.stderr.startswith("run.sh: stage 3")
    assert "run the stages before it" in result.stderr and result.stderr.count("\n") == 1


def test_corpus_folder_of_another_layout_stops_with_what_was_expected_and_found(tmp_path):
    (tmp_path / "corpus/audio").mkdir(parents=True)
    (tmp_path / "corpus/README.txt").write_text("hello")
    result = run(tmp_path / "data", "--corpus", "tat", "--corpus-dir", str(tmp_path / "corpus"))
    assert result.returncode == 1
    assert "xpected" in result.stderr and "README.txt" in result.stderr and "audio/" in result.stderr


def test_copy_without_a_part_is_refused_by_name_and_taken_with_the_parts_it_has(prepared, tmp_path):
    (corpus_dir,) = prepared[0].glob("corpus-*")
    shutil.copytree(corpus_dir, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/TAT-MOE-eval")
    options = ["--corpus", "tat", "--corpus-dir", str(tmp_path / "copy")]
    refused = run(tmp_path / "data", *options)
    assert refused.returncode == 2 and "has train, test, but not dev" in refused.stderr
    taken = run(tmp_path / "data", *options, "--parts", "train,test")
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "data/statistics.tsv").read_text(encoding="utf-8").startswith("\ttrain\ttest\n")


def test_own_table_goes_through_the_same_stages(tmp_path, prepared):
    data_dir, _ = prepared
    from icefall_ext.files import read_jsonl

    (tmp_path / "mine").mkdir()
    recordings = {r["id"]: r for r in read_jsonl(data_dir / "manifests/mini_recordings_train.jsonl.gz")}
    supervisions = list(read_jsonl(data_dir / "text/mini_supervisions_train.jsonl.gz"))
    for part, chosen in (("train", supervisions[:-4]), ("dev", supervisions[-4:-2]), ("test", supervisions[-2:])):
        with open(tmp_path / f"mine/{part}.tsv", "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(["id", "audio", "text", "phonetic", "speaker", "gender"])
            for item in chosen:
                audio = ROOT / recordings[item["recording_id"]]["sources"][0]["source"]
                tailo = item["custom"].get("tailo", "")
                writer.writerow([item["id"], audio, item["text"], tailo, f"{part}-{item['speaker']}", item["gender"]])
    result = run(tmp_path / "data", "--corpus", "table", "--corpus-dir", str(tmp_path / "mine"))
    assert result.returncode == 0, result.stdout + result.stderr
    statistics = (tmp_path / "data/statistics.tsv").read_text(encoding="utf-8").splitlines()
    assert statistics[1].split("\t")[1:] == [f"{len(supervisions) - 4:,}", "2", "2"]
    assert json.loads((tmp_path / "data/stages/4.json").read_text())["title"] == "cuts and statistics"
