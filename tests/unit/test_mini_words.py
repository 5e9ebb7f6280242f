"""The mini corpus's isolated words: bases x tones x speakers x takes, the same bytes every time."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np
import pytest

from icefall_ext.bin.make_mini_words import Config, main
from icefall_ext.corpora.mini.pitch import measure_pitch
from icefall_ext.corpora.mini.words import LANGUAGES, MOST_BASES
from icefall_ext.errors import UsageError, UserError


def make(folder: Path, **options) -> Path:
    values = {"bases": 2, "speakers": 4, "unseen": 2, "takes": 2, "nj": 1} | options
    main(Config(corpus_dir=folder, **values))
    return folder / "words"


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("words"))


def rows(words: Path, language: str) -> list[dict[str, str]]:
    with open(words / language / "words.tsv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.mark.parametrize(("language", "tones"), [("taiwanese", "1234578"), ("mandarin", "1234")])
def test_every_speaker_says_every_base_in_every_tone(words, language, tones):
    table = rows(words, language)
    expected = {(base, tone) for base in {row["base"] for row in table} for tone in tones}
    for speaker in {row["speaker"] for row in table}:
        assert {(row["base"], row["tone"]) for row in table if row["speaker"] == speaker} == expected
    counts = {part: sum(row["part"] == part for row in table) for part in ("train", "dev", "test")}
    count = len(expected)
    assert counts == {"train": 4 * 2 * count, "dev": 2 * count, "test": (2 + 2) * count}


def test_unseen_speakers_are_in_no_other_part_and_every_part_has_both_sexes(words):
    table = rows(words, "taiwanese")
    of = {part: {(row["speaker"], row["gender"]) for row in table if row["part"] == part}
          for part in ("train", "dev", "test")}
    assert not of["train"] & of["dev"] and not of["dev"] & of["test"]
    assert len(of["test"] - of["train"]) == 2 and len(of["test"] & of["train"]) == 2
    for speakers in (of["train"], of["dev"], of["test"] - of["train"], of["test"] & of["train"]):
        assert {gender for _, gender in speakers} == {"F", "M"}


def test_a_take_is_another_recording_of_the_word(words):
    first, second = ((words / f"taiwanese/wav/taF001/taF001-tong1-{take}.wav").read_bytes() for take in (1, 2))
    assert first != second


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as stream:
        assert stream.getframerate() == 16000
        return np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")


def test_tones_are_in_the_pitch(words):
    """High level, falling and rising of one base by one speaker."""
    def semitones(language, word):
        pitch = measure_pitch(samples_of(words / f"{language}/wav/{language[:2]}M002/{language[:2]}M002-{word}-1.wav"))
        voiced = 12 * np.log2(pitch[~np.isnan(pitch)])
        third = len(voiced) // 3
        return voiced[:third].mean(), voiced[-third:].mean()

    for language, *words_said in (("taiwanese", "tong1", "tong2", "tong5"), ("mandarin", "ma1", "ma4", "ma2")):
        (a, b), (c, d), (e, f) = (semitones(language, word) for word in words_said)
        assert abs(a - b) < 2.5 and c - d > 3 and f - e > 2


def test_the_same_options_give_the_same_bytes(words, tmp_path):
    again = make(tmp_path, languages=["mandarin"])
    files = sorted(path.relative_to(again) for path in again.rglob("*.wav"))
    assert len(files) == 8 * (4 * 2 + 2 + 2 + 2)
    for path in [*files, Path("mandarin/words.tsv")]:
        assert (again / path).read_bytes() == (words / path).read_bytes()


def test_a_complete_corpus_is_kept_and_other_options_are_refused(words, capsys):
    make(words.parent)
    assert capsys.readouterr().out.count("kept") == 2
    with pytest.raises(UserError, match="made with --takes 2, not --takes 3"):
        make(words.parent, takes=3)


def test_all_bases_are_syllables_that_can_be_said():
    for language, tones in (("taiwanese", 7), ("mandarin", 4)):
        bases = LANGUAGES[language]()
        assert len(bases) == MOST_BASES and all(len(base) == tones for base in bases)
        assert len({word.text for base in bases for word in base}) == MOST_BASES * tones


@pytest.mark.parametrize("options", [{"bases": 1}, {"bases": 25}, {"speakers": 3}, {"unseen": 6}, {"takes": 0}])
def test_impossible_sizes_are_usage_errors(tmp_path, options):
    with pytest.raises(UsageError):
        make(tmp_path, **options)
    assert not any(tmp_path.iterdir())
