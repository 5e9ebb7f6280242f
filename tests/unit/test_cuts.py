from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from icefall_ext.data import cuts
from icefall_ext.errors import UserError
from icefall_ext.files import open_jsonl_for_writing

RATE = 16000


def write_manifests(folder: Path, part: str, seconds: list[float], *, text_for: range | None = None) -> None:
    """Recordings r0, r1, ... of noise, and supervisions for those in `text_for`."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(exist_ok=True)
    recordings = []
    for i, duration in enumerate(seconds):
        path = folder / f"audio/{part}{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(duration * RATE)), RATE)
        recordings.append(Recording.from_file(path, recording_id=f"{part}{i}"))
    with open_jsonl_for_writing(folder / f"manifests/x_recordings_{part}.jsonl.gz") as writer:
        for recording in recordings:
            writer.write(recording.to_dict())
    with open_jsonl_for_writing(folder / f"text/x_supervisions_{part}.jsonl.gz") as writer:
        for i in text_for or range(len(seconds)):
            supervision = SupervisionSegment(
                id=f"{part}{i}",
                recording_id=f"{part}{i}",
                start=0.0,
                duration=recordings[i].duration,
                text="數字",
                speaker="S1",
                gender="F",
                custom={"tailo": "soo3-ji7"},
            )
            writer.write(supervision.to_dict())


def prepare_cuts(folder: Path, *options: str) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "icefall_ext.bin.prepare_cuts", "--corpus", "x", "--data-dir", str(folder)]
    return subprocess.run([*program, "--nj", "1", *options], capture_output=True, text=True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_manifests(folder, "train", [1.0, 1.5, 0.5, 2.0], text_for=range(1, 4))
    write_manifests(folder, "dev", [1.0])
    write_manifests(folder, "test", [1.0])
    return folder


@pytest.fixture(scope="module")
def everything(data_dir, tmp_path_factory):
    """One run with all options: features, Shar, speeds, noise."""
    noise = tmp_path_factory.mktemp("noise")
    soundfile.write(noise / "hum.wav", 0.01 * np.sin(np.arange(8000) * 0.1), 8000)
    options = ["--speed-perturb", "true", "--noise-dir", str(noise), "--fbank", "true"]
    options += ["--shar-dir", str(data_dir / "shar")]
    result = prepare_cuts(data_dir, *options)
    assert result.returncode == 0, result.stderr
    return options


def train_cuts(data_dir: Path) -> CutSet:
    return CutSet.from_file(data_dir / "wav/x_cuts_train.jsonl.gz")


def test_cut_is_what_lhotse_would_make_of_the_same_manifests(data_dir):
    recordings = data_dir / "manifests/x_recordings_train.jsonl.gz"
    supervisions = data_dir / "text/x_supervisions_train.jsonl.gz"
    ours = list(cuts.read_cuts(recordings, supervisions))
    theirs = CutSet.from_manifests(
        recordings=RecordingSet.from_file(recordings), supervisions=SupervisionSet.from_file(supervisions)
    ).trim_to_supervisions(keep_overlapping=False)
    assert len(ours) == 3
    for mine, other in zip(ours, theirs):
        assert (mine.start, mine.duration, mine.recording, mine.supervisions) == (
            other.start,
            other.duration,
            other.recording,
            other.supervisions,
        )


def test_several_supervisions_in_one_recording_become_cuts_of_their_own(tmp_path):
    write_manifests(tmp_path, "train", [2.0])
    path = tmp_path / "text/x_supervisions_train.jsonl.gz"
    with open_jsonl_for_writing(path) as writer:
        for i in range(2):
            writer.write(SupervisionSegment(f"s{i}", "train0", start=0.5 * i, duration=0.5, text="字").to_dict())
    made = list(cuts.read_cuts(tmp_path / "manifests/x_recordings_train.jsonl.gz", path))
    assert [(c.id, c.start, c.duration, c.supervisions[0].start) for c in made] == [
        ("s0", 0, 0.5, 0),
        ("s1", 0.5, 0.5, 0),
    ]
    assert made[1].load_audio().shape == (1, 8000)


def test_supervision_without_its_recording_stops_with_both_file_names(tmp_path):
    write_manifests(tmp_path, "train", [1.0])
    path = tmp_path / "text/x_supervisions_train.jsonl.gz"
    with open_jsonl_for_writing(path) as writer:
        writer.write(SupervisionSegment("s", "elsewhere", start=0, duration=1, text="字").to_dict())
    with pytest.raises(UserError, match="elsewhere.*x_recordings_train"):
        list(cuts.read_cuts(tmp_path / "manifests/x_recordings_train.jsonl.gz", path))


def test_speeds_apply_to_training_alone_and_change_the_duration(data_dir, everything):
    made = {cut.id: cut for cut in train_cuts(data_dir)}
    assert len(made) == 9
    assert made["train3"].duration == 2.0
    assert made["train3_sp0.9"].duration == pytest.approx(2.0 / 0.9, abs=1e-3)
    assert made["train3_sp1.1"].load_audio().shape[1] == pytest.approx(2.0 / 1.1 * RATE, abs=2)
    assert [c.id for c in CutSet.from_file(data_dir / "wav/x_cuts_dev.jsonl.gz")] == ["dev0"]


def test_noise_is_mixed_into_some_training_cuts_at_their_rate_and_length(data_dir, everything):
    noisy = [cut for cut in train_cuts(data_dir) if type(cut).__name__ == "MixedCut"]
    assert 0 < len(noisy) < 9
    for cut in noisy:
        assert cut.sampling_rate == RATE and cut.load_audio().shape[1] == cut.num_samples
        assert cut.supervisions[0].custom["tailo"] == "soo3-ji7"


def test_features_have_80_bins_and_a_frame_every_10_ms(data_dir, everything):
    features = CutSet.from_file(data_dir / "fbank/x_cuts_dev.jsonl.gz")[0].load_features()
    assert features.shape == (100, 80)


def test_features_can_be_extracted_in_shares_on_several_machines_and_joined(data_dir, everything, tmp_path):
    options = [*everything, "--fbank-shares", "4"]
    whole = CutSet.from_file(data_dir / "fbank/x_cuts_train.jsonl.gz").to_eager()
    for share in "3", "1":
        assert prepare_cuts(data_dir, *options, "--only-shares", share).returncode == 0
    said = prepare_cuts(data_dir, *options).stdout
    assert "train: features of 2 of 4 shares extracted, the others were there" in said
    joined = list(CutSet.from_file(data_dir / "fbank/x_cuts_train.jsonl.gz"))
    assert [cut.id for cut in joined] == [cut.id for cut in train_cuts(data_dir)] == list(whole.ids)
    assert {path.name for path in (data_dir / "fbank/train").iterdir()} == {f"{n}-of-4" for n in range(1, 5)}
    for cut in joined:
        assert cut.load_features().shape == (cut.num_frames, 80)


def test_a_share_of_other_cuts_does_not_count(data_dir, everything):
    options = ["--fbank", "true", "--parts", "dev", "--fbank-shares", "2"]
    assert "dev: features of 2 of 2 shares" in prepare_cuts(data_dir, *options).stdout
    assert "dev: features of 0 of 2 shares" in prepare_cuts(data_dir, *options).stdout
    assert "dev: features of 2 of 2 shares" in prepare_cuts(data_dir, *options, "--seed", "7").stdout
    assert "dev: features of 2 of 2 shares" in prepare_cuts(data_dir, *options, "--seed", "7", "--force", "1").stdout


@pytest.mark.parametrize("options, words", [
    (["--fbank", "true", "--only-shares", "9"], "shares are 1, 2"),
    (["--only-shares", "1"], "add --fbank"),
])
def test_shares_that_there_are_not_are_refused(data_dir, options, words):
    refused = prepare_cuts(data_dir, *options)
    assert refused.returncode == 2 and words in refused.stderr and refused.stderr.count("\n") == 1


def test_shar_gives_back_the_same_cuts_and_audio(data_dir, everything):
    shar = {cut.id: cut for cut in CutSet.from_shar(in_dir=data_dir / "shar/dev")}
    (original,) = CutSet.from_file(data_dir / "wav/x_cuts_dev.jsonl.gz")
    assert list(shar) == [original.id] and shar["dev0"].supervisions[0].text == "數字"
    np.testing.assert_allclose(shar["dev0"].load_audio(), original.load_audio(), atol=1e-4)


def test_same_options_give_the_same_bytes_also_with_noise(data_dir, everything):
    path = data_dir / "wav/x_cuts_train.jsonl.gz"
    before = path.read_bytes()
    assert prepare_cuts(data_dir, *everything).returncode == 0
    assert path.read_bytes() == before


def test_shar_folder_that_holds_something_else_is_not_overwritten(data_dir, tmp_path):
    (tmp_path / "shar/train").mkdir(parents=True)
    (tmp_path / "shar/train/thesis.txt").write_text("mine")
    result = prepare_cuts(data_dir, "--shar-dir", str(tmp_path / "shar"))
    assert result.returncode == 1 and "is no Shar export" in result.stderr and result.stderr.count("\n") == 1
    assert (tmp_path / "shar/train/thesis.txt").read_text() == "mine"
    assert "reads" not in result.stdout, "found before any work"


def test_shar_folder_that_lhotse_cannot_name_is_one_line(data_dir, tmp_path):
    result = prepare_cuts(data_dir, "--shar-dir", str(tmp_path / "100 %"))
    assert result.returncode == 1 and "has a % in it" in result.stderr and result.stderr.count("\n") == 1


def test_notes_beside_an_earlier_shar_export_are_not_lost_with_it(data_dir, everything):
    notes = data_dir / "shar/dev/notes.txt"
    notes.write_text("mine")
    result = prepare_cuts(data_dir, "--shar-dir", str(data_dir / "shar"))
    assert result.returncode == 1 and "holds notes.txt" in result.stderr and notes.read_text() == "mine"
    notes.unlink()


def test_noise_of_two_channels_leaves_speech_with_one(data_dir, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "hall.wav", 0.1 * rng.standard_normal((8000, 2)), 44100)
    (tmp_path / "._hall.wav").write_bytes(b"a Mac's notes about the file")
    speech = cuts.read_cuts(
        data_dir / "manifests/x_recordings_train.jsonl.gz", data_dir / "text/x_supervisions_train.jsonl.gz"
    )
    noisy = [c for c in cuts.with_noise(speech, cuts.noise_cuts(tmp_path), seed=1) if type(c).__name__ == "MixedCut"]
    assert noisy and all(cut.load_audio().shape == (1, cut.num_samples) for cut in noisy)


@pytest.mark.parametrize(("content", "problem"), [(b"RIFF", "cannot be read as audio"), (None, "holds no audio")])
def test_noise_file_that_is_of_no_use_is_named_in_one_line(data_dir, tmp_path, content, problem):
    soundfile.write(tmp_path / "a.wav", np.zeros(800 if content else 0), RATE)
    (tmp_path / "b.wav").write_bytes(content or (tmp_path / "a.wav").read_bytes())
    result = prepare_cuts(data_dir, "--noise-dir", str(tmp_path))
    assert result.returncode == 1 and problem in result.stderr and result.stderr.count("\n") == 1


def test_noise_folder_without_audio_is_one_line_before_anything_is_written(data_dir, tmp_path):
    result = prepare_cuts(data_dir, "--noise-dir", str(tmp_path))
    assert result.returncode == 1 and "no .wav" in result.stderr and result.stderr.count("\n") == 1


def test_statistics_count_hours_speakers_tones(data_dir, everything):
    rows = dict(line.split("\t", 1) for line in (data_dir / "statistics.tsv").read_text(encoding="utf-8").splitlines())
    assert rows["utterances"] == "3\t1\t1"
    assert rows["speakers F/M/unknown"] == "1/0/0\t1/0/0\t1/0/0"
    assert rows["seconds, median"] == "1.50\t1.00\t1.00"
    assert rows["tone 3, %"] == rows["tone 7, %"] == "50.0\t50.0\t50.0"
    assert rows["characters"] == "6\t2\t2"


def test_manifest_lines_are_plain_json_that_names_real_files(data_dir):
    with gzip.open(data_dir / "wav/x_cuts_dev.jsonl.gz", "rt", encoding="utf-8") as stream:
        (line,) = stream
    assert Path(json.loads(line)["recording"]["sources"][0]["source"]).is_file()
