"""What reaches the disk: records that are lhotse's own, and the same bytes however they came about."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from tat_tree import Tree, imported, wav_bytes, write

from icefall_ext.bin.prepare_manifests import Config, main
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader, read_header
from icefall_ext.corpora.base import Options
from icefall_ext.corpora.manifest import recording_line, supervision_line, write_manifests
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UserError

ROOT = Path(__file__).parents[2]


def varied_tree(root: Path) -> Path:
    tree = Tree(root)
    for part in ("TAT-MOE-train", "TAT-MOE-eval", "TAT-MOE-test"):
        for speaker in range(6):
            for sentence in range(5):
                tree.plant(f"0001-{sentence}.0", part=part, speaker=f"TS_{part[8:10].upper()}F{speaker:04d}")
    speaker = {"speaker": "KH_KHM0001"}
    tree.plant("0002-1.0", wav=wav_bytes(1.0, 44100), **speaker)
    tree.plant("0002-2.0", seconds=0.77777, wav=wav_bytes(0.77777, 22050), **speaker)
    tree.plant("0002-3.0", wav=wav_bytes(1.0, channels=2), **speaker)
    tree.plant("0002-4.0", wav=wav_bytes(1.0)[:100], **speaker)
    tree.plant("0002-5.0", 漢羅台文="", **speaker)
    return root


def bytes_of(data_dir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(data_dir)): p.read_bytes() for p in sorted(data_dir.rglob("*")) if p.is_file()}


def test_records_are_what_lhotse_makes_of_the_same_files(tmp_path: Path):
    part = imported("tat", varied_tree(tmp_path / "corpus"), tmp_path / "data")["train"]
    assert len(part.recordings) == 33
    for written in part.recordings:
        source = written["sources"][0]["source"]
        ours = Recording.from_dict(json.loads(json.dumps(written)))
        theirs = Recording.from_file(source, recording_id=written["id"]).resample(16000)
        assert ours == theirs
        assert list(written.items()) == list(theirs.to_dict().items())
    for written in part.supervisions:
        assert list(SupervisionSegment.from_dict(json.loads(json.dumps(written))).to_dict().items()) == list(
            written.items()
        )


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([8000, 11025, 22050, 24000, 32000, 44100, 48000]), st.integers(1, 10_000_000))
def test_resampled_length_is_lhotses(rate: int, frames: int):
    line, seconds = recording_line("x", "x.wav", AudioHeader(rate, 1, frames, "pcm 16", frames))
    theirs = Recording("x", [AudioSource("file", [0], "x.wav")], rate, frames, frames / rate).resample(16000)
    assert json.loads(line) == theirs.to_dict() and seconds == theirs.duration


@given(st.text(), st.text(), st.sampled_from(["F", "M", None]), st.text(max_size=3))
def test_supervision_line_is_lhotses(text: str, language: str, gender: str | None, speaker: str):
    about = dict(start=0.5, duration=1.25, text=text, language=language, speaker=speaker, gender=gender)
    line = supervision_line("i", "r", **about, custom={"tailo": text, "age": None})
    theirs = SupervisionSegment(
        "i", "r", 0.5, 1.25, 0, text, language, speaker or None, gender, {"tailo": text, "age": None}
    )
    assert line == json.dumps(theirs.to_dict(), ensure_ascii=False)


def test_lhotse_loads_and_validates_the_manifests_and_reads_mono_audio(tmp_path: Path):
    corpus = varied_tree(tmp_path / "corpus")
    stereo = corpus / "TAT-MOE-train/condenser/wav/KH_KHM0001/0002-3.0-03.wav"
    left, right = np.full(16000, 0.25), np.full(16000, -0.5)
    soundfile.write(stereo, np.stack([left, right], axis=1), 16000)
    imported("tat", corpus, tmp_path / "data")
    data_dir = DataDir(tmp_path / "data", "tat")
    cuts = CutSet.from_manifests(
        RecordingSet.from_file(data_dir.recordings("train")), SupervisionSet.from_file(data_dir.supervisions("train"))
    )
    assert len(cuts) == 33
    for cut in cuts.trim_to_supervisions():
        audio = cut.load_audio()
        assert audio.shape == (1, cut.num_samples) and cut.sampling_rate == 16000
        if "0002-3.0" in cut.supervisions[0].id:
            np.testing.assert_allclose(audio[0], left, atol=1e-4)


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path):
    corpus = varied_tree(tmp_path / "corpus")
    for nj in (1, 3):
        write_manifests(open_corpus("tat", corpus, Options(nj=nj)), tmp_path / f"nj{nj}")
    assert bytes_of(tmp_path / "nj1") == bytes_of(tmp_path / "nj3")


def test_files_have_icefalls_names(tmp_path: Path):
    imported("tat", varied_tree(tmp_path / "corpus"), tmp_path / "data")
    names = [
        f"tat_{kind}_{part}.jsonl.gz" for kind in ("recordings", "supervisions") for part in ("dev", "test", "train")
    ]
    assert sorted(p.name for p in (tmp_path / "data/manifests").iterdir()) == names
    assert sorted(p.name for p in (tmp_path / "data/audit").iterdir()) == [
        f"tat_manifests_{part}.tsv" for part in ("dev", "test", "train")
    ]


KILLED_AT_THE_40TH_UTTERANCE = """
import os, signal, sys
from icefall_ext.corpora import manifest
from icefall_ext.bin.prepare_manifests import Config, main
count = 0
real = manifest._Admission.admits
def admits(self, utterance):
    global count
    count += 1
    if count == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, utterance)
manifest._Admission.admits = admits
main(Config("tat", sys.argv[1], sys.argv[2], nj=1))
"""


def test_killed_run_leaves_no_half_file_and_the_next_gives_the_same_bytes(tmp_path: Path):
    corpus = varied_tree(tmp_path / "corpus")
    command = [sys.executable, "-c", KILLED_AT_THE_40TH_UTTERANCE, str(corpus), str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    left = {p.name for p in (tmp_path / "killed").rglob("*") if p.is_file()}
    assert "tat_recordings_train.jsonl.gz" in left and ".tat_recordings_dev.jsonl.gz.partial" in left
    assert not {"tat_recordings_dev.jsonl.gz", "tat_supervisions_dev.jsonl.gz", "tat_manifests_dev.tsv"} & left
    for data_dir in ("killed", "undisturbed"):
        main(Config("tat", str(corpus), str(tmp_path / data_dir), nj=1))
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "undisturbed")


def test_killed_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = open_corpus("tat", varied_tree(tmp_path / "corpus"), Options(nj=2))
    monkeypatch.setattr("icefall_ext.corpora.tat.labels_of", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="a worker process was killed"):
        write_manifests(corpus, tmp_path / "data")


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "icefall_ext.bin.prepare_manifests", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_program_says_what_it_read_wrote_and_rejected(tmp_path: Path):
    corpus = varied_tree(tmp_path / "corpus")
    ran = run_program("--corpus", "tat", "--corpus-dir", corpus, "--data-dir", tmp_path / "data", "--mic", "condenser")
    assert ran.returncode == 0, ran.stderr
    lines = [line.strip() for line in ran.stdout.splitlines()]
    assert any(line.startswith("reads") and "TAT-MOE-train (train: json/, condenser/wav/)" in line for line in lines)
    assert any(line.startswith("wrote") and "(33 utterances, 7 speakers, 0.01 h)" in line for line in lines)
    assert any("(2 rejected, 3 repaired, 0 ignored)" in line for line in lines)
    assert "rejected 1  empty text (first: TAT-MOE-train/json/KH_KHM0001/0002-5.0.json)" in lines
    assert lines.index(next(line for line in lines if line.startswith("rejected"))) < lines.index(
        next(line for line in lines if line.startswith("repaired"))
    )


def test_strict_is_exit_status_1_after_every_part_was_written(tmp_path: Path):
    corpus, data_dir = varied_tree(tmp_path / "corpus"), tmp_path / "data"
    ran = run_program("--corpus", "tat", "--corpus-dir", corpus, "--data-dir", data_dir, "--strict", "true")
    assert ran.returncode == 1
    line, written = ran.stderr.strip(), DataDir(data_dir, "tat")
    audit = written.audit("manifests", "train")
    assert "\n" not in line and f"{audit}: 2 rejected (empty text, truncated audio)" in line
    assert all(written.recordings(part).exists() for part in ("train", "dev", "test"))


def test_strict_does_not_mind_repairs_and_ignored_files(tmp_path: Path):
    tree = Tree(tmp_path / "corpus")
    tree.plant(wav=wav_bytes(1.0, 8000))
    write(tree.root / "TAT-MOE-train/json/.DS_Store", b"")
    ran = run_program("--corpus", "tat", "--corpus-dir", tree.root, "--data-dir", tmp_path / "data", "--strict")
    assert ran.returncode == 0, ran.stderr


def test_check_only_looks_and_writes_nothing(tmp_path: Path):
    corpus = varied_tree(tmp_path / "corpus")
    ran = run_program("--corpus", "tat", "--corpus-dir", corpus, "--data-dir", tmp_path / "data", "--check-only")
    assert ran.returncode == 0 and "speaker folders: train 7, dev 6, test 6; microphone: condenser" in ran.stdout
    assert not (tmp_path / "data").exists()


def test_wrong_layout_is_one_line_and_exit_status_1(tmp_path: Path):
    ran = run_program("--corpus", "tat", "--corpus-dir", tmp_path / "none", "--check-only")
    assert ran.returncode == 1 and ran.stdout == "" and ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--corpus", "timit"),
        ("--nj", "-1"),
        ("--dev-share", "1.0"),
        ("--duration-factor", "0.5"),
        ("--cv-split", "all"),
    ],
)
def test_wrong_option_is_exit_status_2(tmp_path: Path, wrong: tuple[str, str]):
    ran = run_program("--corpus", "tat", "--corpus-dir", varied_tree(tmp_path / "corpus"), *wrong)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1


def test_importing_the_importers_brings_neither_torch_nor_lhotse_nor_numpy():
    heavy = "{'torch', 'lhotse', 'numpy', 'soundfile'}"
    code = f"import sys, icefall_ext.bin.prepare_manifests; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr


def test_header_of_a_file_agrees_with_the_manifest(tmp_path: Path):
    path = write(tmp_path / "a.wav", wav_bytes(1.5))
    line, seconds = recording_line("a", str(path), read_header(str(path)))
    assert (json.loads(line)["num_samples"], seconds) == (24000, 1.5)


def test_every_reason_is_explained_to_the_person_who_meets_it():
    page = (ROOT / "docs/corpora.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    explained = {phrase for row in rows for phrase in row.split(", ")}
    known = {value for name, value in vars(reasons).items() if name.isupper()}
    assert known - explained == set()
