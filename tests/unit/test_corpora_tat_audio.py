"""TAT's audio: formats, rates, truncation, and durations that the label disagrees with."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from tat_tree import FLOAT, Tree, kept, only_row, train, wav_bytes

from icefall_ext.audit import REJECTED, REPAIRED
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import Tolerances


@pytest.mark.parametrize(
    ("wav", "reason"),
    [
        (b"", reasons.EMPTY_FILE),
        (wav_bytes(0), reasons.ZERO_LENGTH),
        (wav_bytes(1)[:20], reasons.TRUNCATED),
        (wav_bytes(1)[:-8000], reasons.TRUNCATED),
        (wav_bytes(1)[:44], reasons.TRUNCATED),
        (b"this is no audio at all" * 10, reasons.NOT_AUDIO),
        (b"\0" * 1000, reasons.NOT_AUDIO),
    ],
)
def test_audio_that_cannot_be_used_is_rejected_with_its_reason(tree: Tree, wav: bytes, reason: str):
    tree.plant(wav=wav)
    part = train(tree)
    assert not kept(part)
    assert only_row(part, REJECTED, reason)["file"] == "TAT-MOE-train/condenser/wav/TS_TSM0020/0035-6.13-03.wav"


def test_truncation_says_how_much_is_left(tree: Tree):
    tree.plant(wav=wav_bytes(1)[:-8000])
    assert only_row(train(tree), REJECTED, reasons.TRUNCATED)["note"] == "holds 0.75 of 1.00 s"


def test_header_that_counts_its_own_bytes_is_mended(tree: Tree):
    tree.plant(wav=wav_bytes(1, promised=32000 + 44))
    part = train(tree)
    assert part.recordings[0]["num_samples"] == 16000
    only_row(part, REPAIRED, reasons.TRUNCATED)


@pytest.mark.parametrize("promised", [0x7FFFFFFF, 0xFFFFFFFF])
def test_header_of_a_program_that_could_not_seek_back_is_no_error(tree: Tree, promised: int):
    tree.plant(wav=wav_bytes(1, promised=promised))
    part = train(tree)
    assert part.rows == [] and part.recordings[0]["num_samples"] == 16000


def test_header_that_says_no_samples_is_believed_as_the_decoder_believes_it(tree: Tree):
    tree.plant(wav=wav_bytes(1, promised=0))
    assert only_row(train(tree), REJECTED, reasons.ZERO_LENGTH)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_sampling_rate_is_resampled_on_load_and_listed(tree: Tree, rate: int):
    tree.plant(wav=wav_bytes(1, rate))
    part = train(tree)
    row = only_row(part, REPAIRED, reasons.OTHER_RATE)
    assert row["value"] == str(rate) and row["note"] == "resampled to 16000 on load"
    recording = part.recordings[0]
    assert (recording["sampling_rate"], recording["num_samples"], recording["duration"]) == (16000, 16000, 1.0)
    assert recording["transforms"][0]["kwargs"]["source_sampling_rate"] == rate


def test_stereo_is_listed_and_its_first_channel_used(tree: Tree):
    tree.plant(wav=wav_bytes(1, channels=2))
    part = train(tree)
    only_row(part, REPAIRED, reasons.SEVERAL_CHANNELS)
    assert part.recordings[0]["channel_ids"] == [0, 1] and part.supervisions[0]["channel"] == 0


@pytest.mark.parametrize(("bits", "tag", "shown"), [(8, 1, "pcm 8"), (24, 1, "pcm 24"), (32, FLOAT, "float 32")])
def test_other_sample_formats_are_kept_and_listed(tree: Tree, bits: int, tag: int, shown: str):
    tree.plant(wav=wav_bytes(1, bits=bits, tag=tag))
    part = train(tree)
    assert kept(part) and part.recordings[0]["num_samples"] == 16000
    assert only_row(part, REPAIRED, reasons.OTHER_CODING)["value"] == shown


def test_flac_in_place_of_wav_is_kept_and_listed(tree: Tree):
    tree.plant(mics=())
    flac = tree.wav().with_suffix(".flac")
    flac.parent.mkdir(parents=True)
    soundfile.write(flac, np.zeros(16000), 16000)
    part = train(tree)
    assert kept(part) and part.recordings[0]["sources"][0]["source"].endswith(".flac")
    assert only_row(part, REPAIRED, reasons.OTHER_CODING)["value"] == "flac pcm 16"


def test_flac_beside_the_wav_of_the_same_name_is_listed(tree: Tree):
    tree.plant()
    soundfile.write(tree.wav().with_suffix(".flac"), np.zeros(16000), 16000)
    part = train(tree)
    assert kept(part)
    only_row(part, REJECTED, reasons.SECOND_FILE)


@pytest.mark.parametrize(
    ("said", "done"), [("1.05", None), ("1.5", REPAIRED), ("0.7", REPAIRED), ("2.5", REJECTED), ("0.3", REJECTED)]
)
def test_duration_that_disagrees_with_the_label_is_listed_or_rejected(tree: Tree, said: str, done: str | None):
    tree.plant(音檔長度=said)
    part = train(tree)
    assert part.said() == ([(done, reasons.DURATION_DISAGREES)] if done else [])
    assert kept(part) is (done != REJECTED)
    if done:
        assert part.rows[0]["field"] == "音檔長度" and "the audio has 1.00 s" in part.rows[0]["note"]


def test_duration_tolerance_is_an_option(tree: Tree):
    tree.plant(音檔長度="1.5")
    assert train(tree, tolerances=Tolerances(seconds=0.6)).rows == []


@pytest.mark.parametrize("said", ["long", "nan", "0", "-1"])
def test_duration_that_is_no_duration_is_listed_and_the_audio_believed(tree: Tree, said: str):
    tree.plant(音檔長度=said)
    part = train(tree)
    assert kept(part) and part.supervisions[0]["duration"] == 1.0
    only_row(part, REPAIRED, reasons.BAD_NUMBER)
