from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse import Recording
from tat_tree import Part, imported, write

from icefall_ext.audit import IGNORED, REJECTED, REPAIRED
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import Options, Shares
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.corpora.romanisation import looks_like_poj, split_sentence
from icefall_ext.errors import UserError

COLUMNS = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
PARTS = ("train", "dev", "test", "validated")


class Release:
    """A folder of Common Voice with clips of half a second."""

    def __init__(self, root: Path, columns: str = COLUMNS):
        self.root, self.columns = root, columns.split()
        self.lines: dict[str, list[str]] = {part: [] for part in PARTS}

    def row(self, part: str = "train", number: int = 1, *, clip: bool = True, **values: str) -> None:
        row = {
            "client_id": f"speaker{number}",
            "path": f"common_voice_nan-tw_{number}.mp3",
            "sentence": f"{number}我欲去（guá beh khì）",
            "up_votes": "2",
            "down_votes": "0",
            "age": "twenties",
            "gender": "female_feminine",
            "locale": "nan-tw",
        } | values
        self.lines[part].append("\t".join(row.get(name, "") for name in self.columns))
        path = self.root / "clips" / row["path"]
        if clip and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path.with_suffix(".mp3"), np.zeros(16000), 32000, format="MP3", bitrate_mode="VARIABLE")

    def save(self) -> Path:
        for part, lines in self.lines.items():
            write(self.root / f"{part}.tsv", "\n".join(["\t".join(self.columns), *lines, ""]).encode())
        return self.root


@pytest.fixture
def release(tmp_path: Path) -> Release:
    made = Release(tmp_path / "cv-corpus-25.0" / "nan-tw")
    for number, part in ((91, "train"), (92, "dev"), (93, "test")):
        made.row(part, number)
    return made


def train(release: Release, **options) -> Part:
    """The training part without the sound row that every release has."""
    part = imported("common_voice", release.save(), release.root.parents[1] / "data", **options)["train"]
    return Part(part.recordings, [s for s in part.supervisions if s["speaker"] != "speaker91"], part.rows)


def only_row(part: Part, done: str, reason: str) -> dict[str, str]:
    assert part.said() == [(done, reason)]
    return part.rows[0]


def test_row_becomes_a_supervision_with_text_reading_and_votes(release: Release):
    release.row(sentence="我欲去（guá beh khì）", variant="", accents="高雄", sentence_id="ab12")
    part = train(release)
    assert part.rows == []
    assert part.supervisions == [
        {
            "id": "common_voice_nan-tw_1",
            "recording_id": "common_voice_nan-tw_1",
            "start": 0.0,
            "duration": 0.5,
            "channel": 0,
            "text": "我欲去",
            "language": "nan",
            "speaker": "speaker1",
            "gender": "F",
            "custom": {
                "tailo": "guá beh khì",
                "poj": "",
                "sentence": "我欲去（guá beh khì）",
                "up_votes": 2,
                "down_votes": 0,
                "age": "twenties",
                "accent": "高雄",
                "variant": "",
                "sentence_id": "ab12",
            },
        }
    ]
    recording = next(r for r in part.recordings if r["id"] == "common_voice_nan-tw_1")
    assert (recording["sampling_rate"], recording["num_samples"]) == (16000, 8000)
    assert recording["transforms"][0]["kwargs"]["source_sampling_rate"] == 32000


def test_lhotse_reads_a_clip_at_16_khz_and_the_length_of_the_manifest(release: Release):
    release.row()
    recording = Recording.from_dict(train(release).recordings[1])
    assert recording.id == "common_voice_nan-tw_1" and recording.load_audio().shape == (1, 8000)


@pytest.mark.parametrize(
    ("sentence", "text", "reading", "problem"),
    [
        ("我 beh 去 (guá beh khì)", "我 beh 去", "guá beh khì", ""),
        ("食飽未？（Tsia̍h-pá--buē?)", "食飽未？", "Tsia̍h-pá--buē?", ""),
        ("媽祖 (Má-tsóo | Má-tsóo-pô)", "媽祖", "Má-tsóo", ""),
        ("媽祖（Má-tsóo/Má-tsóo-pô）", "媽祖", "Má-tsóo", ""),
        ("天 (thinn) 地 (tē)", "天 地", "thinn tē", ""),
        ("無括號", "無括號", "", reasons.NO_ROMANISATION),
        ("Guá beh khì", "Guá beh khì", "", reasons.NO_ROMANISATION),
        ("我（guá (gún)）去", "我 去", "", reasons.NESTED_PARENTHESES),
        ("我（guá 去", "我（guá 去", "", reasons.UNBALANCED_PARENTHESES),
        ("我 guá）去", "我 guá）去", "", reasons.UNBALANCED_PARENTHESES),
        ("高雄（市）", "高雄（市）", "", reasons.NOT_ROMANISATION),
        ("高雄（）", "高雄（）", "", reasons.NOT_ROMANISATION),
        ("(guá)", "", "guá", ""),
        ("", "", "", reasons.NO_ROMANISATION),
    ],
)
def test_sentence_is_split_at_its_parentheses(sentence: str, text: str, reading: str, problem: str):
    assert split_sentence(sentence) == (text, reading, problem)


@given(
    st.text(alphabet="我欲去，", min_size=1),
    st.text(alphabet="abgiknu̍á -", min_size=1),
    st.sampled_from(["()", "（）", "(）"]),
)
def test_text_and_reading_come_back_out(text: str, reading: str, brackets: str):
    reading = f"a{reading}"
    assert split_sentence(f"{text}{brackets[0]}{reading}{brackets[1]}") == (text, " ".join(reading.split()), "")


@given(st.text(alphabet="我a（）()| \0"))
def test_any_sentence_is_split_or_complained_about(sentence: str):
    split = split_sentence(sentence)
    assert split.problem or split.reading
    if split.problem in ("", reasons.NESTED_PARENTHESES):
        assert not set(split.text) & set("()（）")


@pytest.mark.parametrize(
    ("reading", "poj"),
    [
        ("guá beh khì", False),
        ("goá beh khì", True),
        ("chia̍h-pá", True),
        ("tsia̍h-pá", False),
        ("o͘-chhiú", True),
        ("oo-tshiú", False),
        ("saⁿ-ê", True),
        ("sann-ê", False),
        ("Tâi-oân-ōe", True),
        ("Tâi-uân-uē", False),
        ("Bîn-bêng", True),
        ("bîng-bîng", False),
        ("lí hó", False),
    ],
)
def test_poj_is_told_from_tailo_by_its_spelling(reading: str, poj: bool):
    assert looks_like_poj(reading) is poj
    assert looks_like_poj(reading, "nan-TW-pehoeji") and not looks_like_poj(reading, "nan-TW-tailo")


def test_poj_reading_is_kept_under_its_own_name(release: Release):
    release.row(sentence="我欲去（goá beh khì）")
    custom = train(release).supervisions[0]["custom"]
    assert (custom["tailo"], custom["poj"]) == ("", "goá beh khì")


@pytest.mark.parametrize(
    ("sentence", "done", "reason"),
    [
        ("", REJECTED, reasons.EMPTY_TEXT),
        ("（guá）", REJECTED, reasons.EMPTY_TEXT),
        ("我（guá", REJECTED, reasons.UNBALANCED_PARENTHESES),
        ("我（guá (gún)）去", REPAIRED, reasons.NESTED_PARENTHESES),
        ("我欲去", REPAIRED, reasons.NO_ROMANISATION),
        ("高雄（市）", REPAIRED, reasons.NOT_ROMANISATION),
    ],
)
def test_sentence_that_is_not_as_expected_is_listed(release: Release, sentence: str, done: str, reason: str):
    release.row(sentence=sentence)
    part = train(release)
    assert only_row(part, done, reason)["file"] == "train.tsv:3 clips/common_voice_nan-tw_1.mp3"
    assert len(part.supervisions) == (done == REPAIRED)


@pytest.mark.parametrize(
    ("written", "gender"),
    [("male_masculine", "M"), ("female_feminine", "F"), ("male", "M"), ("female", "F"), ("other", None), ("", None)],
)
def test_gender_is_read_in_old_and_new_words(release: Release, written: str, gender: str | None):
    release.row(gender=written)
    part = train(release)
    assert part.supervisions[0].get("gender") == gender and part.rows == []


def test_missing_empty_and_truncated_clips_are_listed(release: Release):
    clips = release.root / "clips"
    for number in (1, 2, 3, 4):
        release.row(number=number)
    (clips / "common_voice_nan-tw_1.mp3").unlink()
    write(clips / "common_voice_nan-tw_2.mp3", b"")
    whole = (clips / "common_voice_nan-tw_3.mp3").read_bytes()
    write(clips / "common_voice_nan-tw_3.mp3", whole[: len(whole) // 2])
    write(clips / "common_voice_nan-tw_4.mp3", b"<html>not found</html>")
    part = train(release)
    assert part.said() == [
        (REJECTED, reasons.AUDIO_NOT_FOUND),
        (REJECTED, reasons.EMPTY_FILE),
        (REJECTED, reasons.TRUNCATED),
        (REJECTED, reasons.NOT_AUDIO),
    ]
    assert part.supervisions == []


def test_clip_durations_are_a_second_opinion(release: Release):
    release.row(number=1)
    release.row(number=2)
    table = "clip\tduration[ms]\ncommon_voice_nan-tw_1.mp3\t540\ncommon_voice_nan-tw_2.mp3\t3100\n"
    write(release.root / "clip_durations.tsv", table.encode())
    part = train(release)
    row = only_row(part, REPAIRED, reasons.DURATION_DISAGREES)
    assert (row["value"], row["note"]) == ("3.1", "kept; the clip has 0.50 s")
    assert [s["duration"] for s in part.supervisions] == [0.5, 0.5]


def test_old_tables_without_suffixes_and_new_columns_are_read(tmp_path: Path):
    release = Release(tmp_path / "nan-tw", "client_id path sentence up_votes down_votes age gender accent")
    for number, part in ((1, "train"), (2, "dev"), (3, "test")):
        release.row(part, number, path=f"common_voice_nan-tw_{number}", accent="台南")
    part = imported("common_voice", release.save(), tmp_path / "data")["train"]
    assert part.rows == [] and part.supervisions[0]["custom"]["accent"] == "台南"
    assert part.supervisions[0]["custom"]["variant"] == ""


def test_quotation_marks_in_a_tsv_are_characters(release: Release):
    release.row(sentence='伊講"好（i kóng "hó）')
    assert train(release).supervisions[0]["text"] == '伊講"好'


def test_row_with_a_missing_field_is_listed_with_its_line(release: Release):
    release.row(number=1)
    release.lines["train"].append("speaker2\tcommon_voice_nan-tw_2.mp3")
    row = only_row(train(release), REJECTED, reasons.BAD_ROW)
    assert (row["file"], row["note"]) == ("train.tsv:4", "2 fields under 13 columns")


def test_validated_leaves_out_speakers_and_sentences_of_dev_and_test(release: Release):
    release.row("validated", 1)
    release.row("validated", 2, client_id="speaker92")
    release.row("validated", 3, sentence="93我欲去 (gúa  beh  khì)")
    part = train(release, common_voice_split="validated")
    assert [s["id"] for s in part.supervisions] == ["common_voice_nan-tw_1"]
    assert part.said() == [(IGNORED, reasons.HELD_OUT_SPEAKER), (IGNORED, reasons.HELD_OUT_SENTENCE)]
    assert part.rows[0]["value"] == "common_voice_nan-tw_2.mp3"


def test_resplit_shares_neither_speakers_nor_sentences_and_loses_nothing_unlisted(release: Release):
    for number in range(1, 41):
        release.row("validated", number, client_id=f"s{number % 10}", sentence=f"{number % 30}我（guá）")
    parts = imported(
        "common_voice", release.save(), release.root.parents[1] / "data",
        common_voice_split="resplit", shares=Shares(0.2, 0.2),
    )  # fmt: skip
    speakers = {name: {s["speaker"] for s in part.supervisions} for name, part in parts.items()}
    texts = {name: {s["text"] for s in part.supervisions} for name, part in parts.items()}
    assert len(speakers["dev"]) == len(speakers["test"]) == 2
    assert not speakers["train"] & (speakers["dev"] | speakers["test"]) and not speakers["dev"] & speakers["test"]
    assert not texts["train"] & (texts["dev"] | texts["test"])
    listed = sum(len(part.rows) for part in parts.values())
    assert sum(len(part.supervisions) for part in parts.values()) + listed == 40


def test_folder_around_the_locale_will_do(release: Release):
    release.save()
    assert open_corpus("common_voice", release.root.parent).parts == ("train", "dev", "test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test.tsv").unlink(), "test.tsv: cannot be read (No such file or directory)"),
        (lambda root: (root / "clips").rename(root / "audio"), "clips: not there. Expected cv-corpus-<version>/nan-tw"),
        (lambda root: write(root / "dev.tsv", b"path\tsentence\n"), "dev.tsv: line 1: no column client_id."),
        (lambda root: write(root / "dev.tsv", b""), "dev.tsv: line 1: no column client_id, path, sentence."),
        (lambda root: write(root / "clip_durations.tsv", b"clip\tms\n"), "no column duration[ms]; found: clip, ms"),
    ],
)
def test_release_of_another_layout_is_one_line(release: Release, spoil, message: str):
    spoil(release.save())
    with pytest.raises(UserError) as caught:
        open_corpus("common_voice", release.root, Options())
    assert message in str(caught.value)


def test_other_locales_are_named_when_nan_tw_is_missing(tmp_path: Path):
    write(tmp_path / "cv/zh-TW/train.tsv", b"")
    with pytest.raises(UserError, match="found: zh-TW/"):
        open_corpus("common_voice", tmp_path / "cv")
