"""TAT and its siblings: which files belong together, what cannot be read, and the corpora of the same layout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tat_tree import Tree, as_json, imported, kept, only_row, read_part, train, wav_bytes, write

from icefall_ext.audit import IGNORED, REJECTED, REPAIRED
from icefall_ext.corpora import raw_file, reasons
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UserError


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
    with pytest.raises(UserError, match="no usable utterance in test; the rows say why"):
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
