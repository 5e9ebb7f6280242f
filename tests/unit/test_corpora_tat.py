from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tat_tree import FLOAT, Part, Tree, as_json, imported, label, read_part, wav_bytes, write

from icefall_ext.audit import IGNORED, REJECTED, REPAIRED
from icefall_ext.corpora import raw_file, reasons
from icefall_ext.corpora.base import Tolerances
from icefall_ext.corpora.tat_keys import same_speaker
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "corpus").sound_elsewhere()


def train(tree: Tree, **options) -> Part:
    """The training part without the sound sentence that every tree has."""
    part = imported("tat", tree.root, tree.root.parent / "data", **options)["train"]
    sound = "XX_XXF0001-0001-1.0-condenser"
    return Part(
        [r for r in part.recordings if r["id"] != sound], [s for s in part.supervisions if s["id"] != sound], part.rows
    )


def only_row(part: Part, done: str, reason: str) -> dict[str, str]:
    assert part.said() == [(done, reason)]
    return part.rows[0]


def kept(part: Part) -> bool:
    return part.ids() == ["TS_TSM0020-0035-6.13-condenser"]


def test_supervision_carries_both_scripts_speaker_and_circumstances(tree: Tree):
    tree.plant(性別="M")
    part = train(tree)
    assert part.rows == []
    assert part.supervisions == [
        {
            "id": "TS_TSM0020-0035-6.13-condenser",
            "recording_id": "TS_TSM0020-0035-6.13-condenser",
            "start": 0.0,
            "duration": 1.0,
            "channel": 0,
            "text": "數字",
            "language": "nan",
            "speaker": "TS_TSM0020",
            "gender": "M",
            "custom": {
                "tailo": "sòo-jī",
                "tailo_number": "soo3-ji7",
                "poj": "sò͘-jī",
                "institution": "TS",
                "card": "0035",
                "sentence": "6.13",
                "label_id": "57906",
                "age": "21",
                "accent": "不清楚",
                "birthplace": "高雄市鳳山區",
                "residence": "台南市東區",
                "education": "大學",
                "environment": "錄音室",
                "spelling_check": "True",
                "microphone": "condenser",
            },
        }
    ]


def test_sentences_6_1_and_6_10_are_two(tree: Tree):
    tree.plant("0035-6.1", 漢羅台文="一")
    tree.plant("0035-6.10", 漢羅台文="十")
    part = train(tree)
    assert part.rows == []
    assert {s["custom"]["sentence"]: s["text"] for s in part.supervisions} == {"6.1": "一", "6.10": "十"}


def test_a_number_that_the_label_mangled_comes_from_the_file_name(tree: Tree):
    tree.plant("0035-6.10", 句編號=6.1)
    part = train(tree)
    row = only_row(part, REPAIRED, reasons.NAME_DISAGREES)
    assert (row["field"], row["value"], row["note"]) == ("句編號", "6.1", "kept; taken from the file name: 6.10")
    assert part.supervisions[0]["custom"]["sentence"] == "6.10"


def test_wav_without_channel_number_is_found(tmp_path: Path):
    tree = Tree(tmp_path / "corpus", number="").sound_elsewhere()
    tree.plant("A025-1.1", speaker="IU_IUF1001")
    part = train(tree)
    assert part.rows == [] and part.ids() == ["IU_IUF1001-A025-1.1-condenser"]


def test_wav_without_channel_number_is_not_taken_for_a_shorter_name(tmp_path: Path):
    """`A025-1.wav` goes with `A025-1.json`, although `A025.json` is there too."""
    tree = Tree(tmp_path / "corpus", number="").sound_elsewhere()
    tree.plant("A025-1")
    tree.plant("A025", mics=())
    part = train(tree)
    assert part.ids() == ["TS_TSM0020-A025-1-condenser"]
    assert part.said() == [(REJECTED, reasons.LABEL_WITHOUT_AUDIO)]


def test_the_same_card_and_sentence_of_two_speakers_get_two_ids(tree: Tree):
    tree.plant(speaker="TS_TSM0020")
    tree.plant(speaker="KH_KHF0007")
    assert train(tree).ids() == ["KH_KHF0007-0035-6.13-condenser", "TS_TSM0020-0035-6.13-condenser"]


def test_each_microphone_is_a_recording_of_its_own(tree: Tree):
    tree.plant("0035-6.13", mics=("condenser", "XYH-6-X"))
    tree.plant("0035-6.14", mics=("XYH-6-X",))
    tree.plant("0001-1.0", speaker="XX_XXF0001", mics=("XYH-6-X",))
    part = train(tree, microphones=("condenser", "XYH-6-X"))
    assert part.ids() == [
        "TS_TSM0020-0035-6.13-condenser",
        "TS_TSM0020-0035-6.13-XYH-6-X",
        "TS_TSM0020-0035-6.14-XYH-6-X",
        "XX_XXF0001-0001-1.0-XYH-6-X",
    ]
    assert [s["custom"]["microphone"] for s in part.supervisions] == ["condenser", "XYH-6-X", "XYH-6-X", "XYH-6-X"]
    assert [r["sources"][0]["source"].split("/")[-4] for r in part.recordings[:2]] == ["condenser", "XYH-6-X"]
    row = only_row(part, REJECTED, reasons.LABEL_WITHOUT_AUDIO)
    assert row["file"].endswith("json/TS_TSM0020/0035-6.14.json")
    assert (row["value"], row["note"]) == ("condenser", "recorded by XYH-6-X")


def test_label_without_audio_is_listed_with_the_microphones_that_have_it(tree: Tree):
    tree.plant(mics=("android", "ios"))
    row = only_row(train(tree), REJECTED, reasons.LABEL_WITHOUT_AUDIO)
    assert row["file"] == "TAT-MOE-train/json/TS_TSM0020/0035-6.13.json"
    assert row["note"] == "recorded by android, ios"


def test_label_that_nobody_recorded_is_listed(tree: Tree):
    tree.plant(mics=())
    assert only_row(train(tree), REJECTED, reasons.LABEL_WITHOUT_AUDIO)["note"] == ""


def test_audio_without_label_is_listed_for_every_file(tree: Tree):
    write(tree.wav("0035-6.13"), wav_bytes())
    write(tree.wav("0035-6.14"), wav_bytes())
    part = train(tree)
    assert part.said() == [(REJECTED, reasons.AUDIO_WITHOUT_LABEL)] * 2
    assert part.rows[0]["file"] == "TAT-MOE-train/condenser/wav/TS_TSM0020/0035-6.13-03.wav"


def test_second_take_of_a_sentence_is_listed_and_the_first_kept(tree: Tree):
    tree.plant()
    write(tree.wav().with_name("0035-6.13-04.wav"), wav_bytes(3))
    part = train(tree)
    assert kept(part) and part.recordings[0]["duration"] == 1.0
    row = only_row(part, REJECTED, reasons.SECOND_FILE)
    assert row["file"].endswith("0035-6.13-04.wav") and row["note"] == "0035-6.13-03.wav was taken"


@pytest.mark.parametrize("name", [".DS_Store", "._0035-6.13.json", "notes.txt"])
@pytest.mark.parametrize("place", ["json/TS_TSM0020", "condenser/wav/TS_TSM0020", "json", "condenser/wav"])
def test_what_file_managers_leave_is_ignored_and_listed(tree: Tree, name: str, place: str):
    tree.plant()
    write(tree.root / "TAT-MOE-train" / place / name, b"\0\0\0\1Bud1")
    part = train(tree)
    assert kept(part)
    assert only_row(part, IGNORED, reasons.FOREIGN_FILE)["file"] == f"TAT-MOE-train/{place}/{name}"


def test_label_or_audio_outside_a_speaker_folder_is_rejected(tree: Tree):
    tree.plant()
    write(tree.root / "TAT-MOE-train/json/0035-6.14.json", b"{}")
    write(tree.root / "TAT-MOE-train/condenser/wav/0035-6.14-03.wav", wav_bytes())
    part = train(tree)
    assert kept(part) and part.said() == [(REJECTED, reasons.MISPLACED)] * 2


def test_folder_inside_a_speaker_folder_is_rejected(tree: Tree):
    tree.plant()
    write(tree.wav().parent / "takes" / "0035-6.13-03.wav", wav_bytes())
    assert only_row(train(tree), REJECTED, reasons.NESTED_FOLDER)["file"].endswith("TS_TSM0020/takes")


def test_links_that_lead_back_do_not_trap_the_walk(tree: Tree):
    tree.plant()
    speakers = tree.wav().parent.parent
    (speakers / "loop").symlink_to("loop")
    (speakers / "up").symlink_to("..")
    (tree.wav().parent / "again").symlink_to("..")
    part = train(tree)
    assert kept(part)
    assert sorted(part.said()) == [
        (IGNORED, reasons.FOREIGN_FILE),
        (REJECTED, reasons.NESTED_FOLDER),
        (REJECTED, reasons.NESTED_FOLDER),
    ]


def test_speaker_folder_may_be_a_link(tree: Tree):
    tree.plant()
    folder = tree.wav().parent
    moved = tree.root.parent / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved)
    part = train(tree)
    assert kept(part) and part.rows == []


# -- labels


def test_byte_order_mark_before_a_label_is_removed(tree: Tree):
    tree.plant(json=b"\xef\xbb\xbf" + as_json(label("TS_TSM0020", "0035-6.13")))
    part = train(tree)
    assert kept(part) and part.supervisions[0]["text"] == "數字"
    only_row(part, REPAIRED, reasons.BYTE_ORDER_MARK)


def test_label_with_cr_line_ends_is_read(tree: Tree):
    tree.plant(json=as_json(label("TS_TSM0020", "0035-6.13")).replace(b", ", b",\r\n"))
    part = train(tree)
    assert kept(part) and part.rows == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\u3000數字\u00a0", "\\u3000數字\\xa0"), ("數字\r\n", "數字\\r\\n"), ("\ufeff數字", "\\ufeff數字")],
)
def test_invisible_characters_around_text_are_removed_and_shown(tree: Tree, text: str, shown: str):
    tree.plant(漢羅台文=text)
    part = train(tree)
    assert part.supervisions[0]["text"] == "數字"
    row = only_row(part, REPAIRED, reasons.STRAY_CHARACTERS)
    assert (row["field"], row["value"]) == ("漢羅台文", shown)


def test_line_break_within_text_becomes_a_space(tree: Tree):
    tree.plant(漢羅台文="數\r\n字")
    assert train(tree).supervisions[0]["text"] == "數 字"


def test_inner_wide_space_and_plain_spaces_around_text_are_left_to_the_text_stage_and_not_listed(tree: Tree):
    tree.plant(漢羅台文=" 數\u3000字 ")
    part = train(tree)
    assert part.rows == [] and part.supervisions[0]["text"] == "數\u3000字"


@pytest.mark.parametrize("text", ["", "   ", "\u3000\u00a0"])
def test_empty_text_is_rejected(tree: Tree, text: str):
    tree.plant(漢羅台文=text)
    part = train(tree)
    assert not kept(part) and part.said()[-1] == (REJECTED, reasons.EMPTY_TEXT)
    assert part.rows[-1]["field"] == "漢羅台文"


def test_sentence_without_romanisation_is_kept_and_listed(tree: Tree):
    tree.plant(台羅="", 台羅數字調="", 白話字="")
    part = train(tree)
    assert kept(part)
    only_row(part, REPAIRED, reasons.EMPTY_PHONETIC)


def test_romanisation_is_passed_on_as_it_stands(tree: Tree):
    stray = "“Tai5-uan5” 數字 %⋯ jī－A"
    tree.plant(台羅數字調=stray)
    part = train(tree)
    assert part.rows == [] and part.supervisions[0]["custom"]["tailo_number"] == stray


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", reasons.NOT_JSON),
        (b"{'id': 1}", reasons.NOT_JSON),
        (b'{"id": "1"', reasons.NOT_JSON),
        (b'{"\xff": 1}', reasons.NOT_JSON),
        (b"[" * 100_000, reasons.NOT_JSON),
        (b"[]", reasons.NOT_AN_OBJECT),
        (b'"text"', reasons.NOT_AN_OBJECT),
        (b"{}", reasons.MISSING_KEY),
        ('{"漢羅台文": null}'.encode(), reasons.MISSING_KEY),
        ('{"漢羅台文": ["數字"]}'.encode(), reasons.NOT_TEXT),
    ],
)
def test_label_that_cannot_be_used_is_rejected_with_its_reason(tree: Tree, content: bytes, reason: str):
    tree.plant(json=content)
    part = train(tree)
    assert not kept(part)
    assert only_row(part, REJECTED, reason)["file"] == "TAT-MOE-train/json/TS_TSM0020/0035-6.13.json"


def test_half_a_surrogate_pair_is_rejected_and_not_written(tree: Tree):
    tree.plant(json=as_json(label("TS_TSM0020", "0035-6.13")).replace('"數字"'.encode(), b'"\\ud800"'))
    part = train(tree)
    assert not kept(part)
    only_row(part, REJECTED, reasons.LONE_SURROGATE)


@pytest.mark.parametrize("key", ["台羅", "性別", "音檔長度"])
def test_sentence_without_a_less_needed_key_is_kept_and_listed(tree: Tree, key: str):
    tree.plant(**{key: None})
    part = train(tree)
    assert kept(part)
    assert only_row(part, REPAIRED, reasons.MISSING_KEY)["field"] == key


def test_unknown_gender_is_listed_and_left_out(tree: Tree):
    tree.plant(性別="X")
    part = train(tree)
    assert "gender" not in part.supervisions[0]
    assert only_row(part, REPAIRED, reasons.UNKNOWN_GENDER)["value"] == "X"


def test_speaker_is_the_folder_whatever_the_label_says(tree: Tree):
    tree.plant(發音人="TSM0021")
    part = train(tree)
    assert part.supervisions[0]["speaker"] == "TS_TSM0020"
    assert only_row(part, REPAIRED, reasons.SPEAKER_DISAGREES)["value"] == "TSM0021"


@pytest.mark.parametrize(
    ("folder", "said", "same"),
    [
        ("TA_TAF1006", "TAF1006", True),
        ("IU_IUF0001", "IUF001", True),
        ("IU_IUF0001", "IUF1", True),
        ("IU_IUF0010", "IUF001", False),
        ("IU_IUF0001", "IUM001", False),
        ("IU_IUF0001", "", False),
    ],
)
def test_speaker_number_may_be_padded_differently(folder: str, said: str, same: bool):
    assert same_speaker(folder, said) is same


def test_unpadded_speaker_is_not_listed(tree: Tree):
    tree.plant(speaker="IU_IUF0001", 發音人="IUF001")
    assert train(tree).rows == []


@pytest.mark.parametrize(("drop", "reason"), [(False, None), (True, reasons.FAILED_SPELLING)])
def test_failed_spelling_check_is_kept_or_dropped_by_option(tree: Tree, drop: bool, reason: str | None):
    tree.plant(通過漢羅用字檢查="False")
    part = train(tree, drop_failed_spelling=drop)
    assert kept(part) is not drop
    assert part.said() == ([(REJECTED, reason)] if drop else [])


# -- audio


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


def test_dangling_link_and_pipe_do_not_stop_the_walk(tree: Tree):
    for stem in ("0035-6.13", "0035-6.14", "0035-6.15", "0035-6.16"):
        tree.plant(stem)
    tree.wav("0035-6.13").unlink()
    tree.wav("0035-6.13").symlink_to("nowhere.wav")
    tree.wav("0035-6.14").unlink()
    os.mkfifo(tree.wav("0035-6.14"))
    tree.wav("0035-6.15").unlink()
    tree.wav("0035-6.15").symlink_to(tree.wav("0035-6.15").name)
    fifo = tree.root / "TAT-MOE-train/json/TS_TSM0020/0035-6.16.json"
    fifo.unlink()
    os.mkfifo(fifo)
    part = train(tree)
    assert part.ids() == []
    assert sorted(part.said()) == sorted(
        [
            (REJECTED, reasons.AUDIO_NOT_FOUND),
            (REJECTED, reasons.UNREADABLE),
            (REJECTED, reasons.UNREADABLE),
            (REJECTED, reasons.UNREADABLE_LABEL),
        ]
    )


@pytest.mark.parametrize(
    ("name", "reason"), [("0035-6.13.json", reasons.UNREADABLE_LABEL), ("0035-6.13-03.wav", reasons.UNREADABLE)]
)
def test_file_without_permission_is_rejected(tree: Tree, monkeypatch: pytest.MonkeyPatch, name: str, reason: str):
    tree.plant()
    real = raw_file.read_start

    def denied(path: str, count: int):
        if path.endswith(name):
            raise PermissionError(13, "Permission denied", path)
        return real(path, count)

    monkeypatch.setattr("icefall_ext.corpora.tat_label.read_start", denied)
    monkeypatch.setattr("icefall_ext.corpora.audio_header.read_start", denied)
    part = train(tree)
    assert only_row(part, REJECTED, reason)["note"] == "Permission denied"


def test_speaker_folder_without_permission_is_rejected(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    tree.plant()
    real = os.scandir

    def denied(path):
        if str(path).endswith("json/TS_TSM0020"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    part = train(tree)
    assert part.said() == [(REJECTED, reasons.UNREADABLE_FOLDER), (REJECTED, reasons.AUDIO_WITHOUT_LABEL)]


def test_file_name_that_is_not_utf8_is_rejected(tree: Tree):
    tree.plant()
    folder = os.fsencode(tree.wav().parent)
    with open(os.path.join(folder, b"0035-\xff.wav"), "wb") as stream:
        stream.write(wav_bytes())
    part = train(tree)
    assert kept(part)
    assert only_row(part, REJECTED, reasons.BAD_FILE_NAME)["file"].endswith("0035-\\udcff.wav")


def test_white_space_in_a_file_name_is_rejected_because_ids_cannot_hold_it(tree: Tree):
    tree.plant("0035-6.13 (1)")
    only_row(train(tree), REJECTED, reasons.BAD_ID)


def test_same_speaker_in_two_volumes_gives_every_sentence_once(tree: Tree):
    tree.plant(part="TAT-Vol1-train")
    tree.plant(part="TAT-Vol2-train")
    part = train(tree)
    assert kept(part)
    assert only_row(part, REJECTED, reasons.DUPLICATE_ID)["file"].startswith("TAT-Vol2-train/")


def test_ids_that_only_look_alike_when_joined_are_told_apart(tree: Tree):
    tree.plant("1-1.0", speaker="A-1")
    tree.plant("1-1-1.0", speaker="A")
    part = train(tree)
    assert len(part.ids()) == len(set(part.ids())) == 1
    only_row(part, REJECTED, reasons.DUPLICATE_ID)


def test_speaker_in_two_parts_is_listed_with_the_second(tree: Tree):
    tree.plant()
    tree.plant("0035-6.14", part="TAT-MOE-test")
    parts = imported("tat", tree.root, tree.root.parent / "data")
    assert parts["train"].rows == []
    row = only_row(parts["test"], REPAIRED, reasons.SPEAKER_IN_TWO_PARTS)
    assert (row["value"], row["note"]) == ("TS_TSM0020", "kept; also in train")


def test_part_without_a_usable_sentence_is_an_error_after_its_rows_were_written(tree: Tree):
    tree.plant(part="TAT-MOE-test", wav=b"")
    data_dir = tree.root.parent / "data"
    with pytest.raises(UserError, match="no usable utterance in test"):
        imported("tat", tree.root, data_dir)
    assert read_part(DataDir(data_dir, "tat"), "test").said() == [(REJECTED, reasons.EMPTY_FILE)]


# -- siblings


def hat_label(speaker: str | None, number: int) -> bytes:
    fields = {
        "id": 145260,
        "客語漢字": "頭前斡轉正片",
        "客語拼音": "teu55 cien55",
        "華語字": "前面右轉",
        "錄音腔調": "海陸",
    }
    fields |= {"提示卡編號": "E1009", "發音員編號": speaker, "性別": "女性", "年齡": 60, "音檔編號": number}
    return as_json({**fields, "音檔長度": "1.00", "流暢度": "普通"})


def test_hat_is_read_with_its_own_keys(tmp_path: Path):
    tree = Tree(tmp_path / "corpus", number="")
    folder = "HF3010001E1009"
    write(tree.root / f"train/json/{folder}/{folder}_1.json", hat_label("HF301", 1))
    write(tree.root / f"train/wav/{folder}/{folder}_1.wav", wav_bytes())
    part = imported("hat", tree.root, tmp_path / "data")["train"]
    assert part.rows == []
    supervision = part.supervisions[0]
    assert supervision["id"] == "HF3010001E1009_1"
    assert (supervision["text"], supervision["language"]) == ("頭前斡轉正片", "hak")
    assert (supervision["speaker"], supervision["gender"]) == ("HF301", "F")
    custom = supervision["custom"]
    assert (custom["pinyin"], custom["card"], custom["sentence"], custom["age"]) == ("teu55 cien55", "E1009", "1", "60")


def test_hat_label_without_a_speaker_is_kept_and_listed(tmp_path: Path):
    write(tmp_path / "corpus/train/json/HF3010001E1009/HF3010001E1009_1.json", hat_label(None, 1))
    write(tmp_path / "corpus/train/wav/HF3010001E1009/HF3010001E1009_1.wav", wav_bytes())
    part = imported("hat", tmp_path / "corpus", tmp_path / "data")["train"]
    assert part.supervisions[0]["speaker"] == "HF3010001E1009"
    assert only_row(part, REPAIRED, reasons.MISSING_KEY)["field"] == "發音員編號"


def test_hat_without_parts_is_split_so_that_no_speaker_is_in_two(tmp_path: Path):
    root = tmp_path / "corpus"
    for speaker in range(10):
        for card in range(3):
            folder = f"HF3{speaker:02d}0001E{card:04d}"
            write(root / f"json/{folder}/{folder}_1.json", hat_label(f"HF3{speaker:02d}", 1))
            write(root / f"wav/{folder}/{folder}_1.wav", wav_bytes())
    parts = imported("hat", root, tmp_path / "data")
    speakers = {name: {s["speaker"] for s in part.supervisions} for name, part in parts.items()}
    assert {name: len(found) for name, found in speakers.items()} == {"train": 8, "dev": 1, "test": 1}
    assert len(set.union(*speakers.values())) == 10
    assert sum(len(part.supervisions) for part in parts.values()) == 30
