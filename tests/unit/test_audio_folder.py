from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from icefall_ext.corpora.audio_folder import Windows
from icefall_ext.data.loading import load_audio
from icefall_ext.files import read_lines

RATE = 16000


def sound(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((int(seconds * rate), channels))


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "audio"
    (root / "b/deep").mkdir(parents=True)
    (root / "a").mkdir()
    soundfile.write(root / "b/deep/long.flac", sound(50.0), RATE)
    soundfile.write(root / "b/two.wav", sound(2.0, 8000, 2), 8000)
    soundfile.write(root / "a/one.wav", sound(1.5), RATE)
    soundfile.write(root / "a/short.wav", sound(0.5), RATE)
    soundfile.write(root / "a/with space.wav", sound(2.0), RATE)
    soundfile.write(root / "a/.hidden.wav", sound(2.0), RATE)
    (root / "a/notes.txt").write_text("x")
    (root / "a/broken.wav").write_bytes(b"RIFF nonsense")
    return root


def prepare(root: Path, *options: str) -> subprocess.CompletedProcess:
    out = root.parent / "out"
    program = [sys.executable, "-m", "icefall_ext.bin.prepare_audio_cuts", "--audio-dir", str(root)]
    program += ["--cuts", str(out / "cuts.jsonl.gz"), "--audit", str(out / "audit.tsv"), "--nj", "1"]
    return subprocess.run([*program, *options], capture_output=True, text=True)


def cuts_of(root: Path) -> list:
    return list(CutSet.from_jsonl_lazy(root.parent / "out/cuts.jsonl.gz"))


def test_any_tree_becomes_cuts_in_the_order_of_names(folder):
    result = prepare(folder)
    assert result.returncode == 0, result.stderr
    expected = ["a/one.wav", "b/deep/long.flac-0001", "b/deep/long.flac-0002", "b/deep/long.flac-0003", "b/two.wav"]
    assert [cut.id for cut in cuts_of(folder)] == expected
    before = (folder.parent / "out/cuts.jsonl.gz").read_bytes()
    assert prepare(folder, "--nj", "2").returncode == 0
    assert (folder.parent / "out/cuts.jsonl.gz").read_bytes() == before


def test_what_is_left_out_stands_in_the_audit(folder):
    assert prepare(folder).returncode == 0
    rows = [line.split("\t") for line in read_lines(folder.parent / "out/audit.tsv")][1:]
    assert {(done, reason, os.path.basename(file)) for done, reason, file, *_ in rows if done != "repaired"} == {
        ("ignored", "shorter than was asked for", "short.wav"),
        ("ignored", "not a file of the corpus", "notes.txt"),
        ("rejected", "white space in id", "with space.wav"),
        ("rejected", "not audio", "broken.wav"),
    }


def test_the_pieces_of_a_long_file_are_the_file(folder):
    assert prepare(folder).returncode == 0
    pieces = [load_audio(cut) for cut in cuts_of(folder) if "long" in cut.id]
    whole, _ = soundfile.read(folder / "b/deep/long.flac", dtype="float32")
    assert max(map(len, pieces)) <= 20 * RATE
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_other_rates_and_channels_are_read_as_16_khz_of_the_first(folder):
    assert prepare(folder).returncode == 0
    (cut,) = (cut for cut in cuts_of(folder) if cut.id == "b/two.wav")
    audio = load_audio(cut)
    assert len(audio) == 2 * RATE and cut.duration == 2.0 and np.isfinite(audio).all()


def test_manifests_are_those_that_lhotse_writes(folder):
    assert prepare(folder).returncode == 0
    lines = [json.loads(line) for line in read_lines(folder.parent / "out/cuts.jsonl.gz")]
    assert [cut.to_dict() for cut in cuts_of(folder)] == lines


@pytest.mark.parametrize("samples", [RATE, 20 * RATE, 20 * RATE + 1, 999_999])
def test_windows_cover_everything_once_and_are_about_equal(samples):
    pieces = Windows(1.0, 20.0).of(samples)
    assert pieces[0][0] == 0 and pieces[-1][1] == samples
    assert all(end == start for (_, end), (start, _) in zip(pieces, pieces[1:]))
    lengths = [end - start for start, end in pieces]
    assert max(lengths) <= 20 * RATE and min(lengths) >= RATE and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("options, message", [
    (["--audio-dir", "nowhere"], "nowhere: no such folder"),
    (["--min-seconds", "15"], "--min-seconds 15.0, --window 20.0"),
    (["--cuts", "cuts.csv"], "must end in .jsonl.gz or .jsonl"),
])
def test_wrong_options_are_one_line(folder, options, message):
    result = prepare(folder, *options)
    assert result.returncode != 0 and message in result.stderr and result.stderr.count("\n") == 1


def test_a_folder_without_audio_is_one_line(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/notes.txt").write_text("x")
    result = prepare(tmp_path / "audio")
    assert result.returncode == 1 and "no audio to use" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out/cuts.jsonl.gz").exists()
