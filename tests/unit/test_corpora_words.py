"""Isolated words: a plain table, Hmong in a table, and Tone Perfect's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from tat_tree import Part, imported, wav_bytes, write

from icefall_ext.audit import REJECTED, REPAIRED, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import Options, Shares
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.corpora.split import split_by_gender
from icefall_ext.errors import UserError

HEADER = "word base tone speaker gender audio part"
ROWS = ("tong1|tong|1|s1|F|wav/a.wav|train", "tok4|tong|4|s2|男|wav/b.wav|dev", "tong5|tong|5|s3|m|wav/c.wav|test")


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    for name in "abc":
        write(folder / f"wav/{name}.wav", wav_bytes(0.5))
    lines = [header.replace(" ", "\t"), *(row.replace("|", "\t") for row in rows)]
    write(folder / "words.tsv", ("\n".join(lines) + "\n").encode())
    return folder


def read(folder: Path, corpus: str = "words", **options) -> dict[str, Part]:
    return imported(corpus, folder, folder.parent / "data", **options)


def reasons_of(part: Part) -> list[tuple[str, str, str]]:
    return [(row["done"], row["reason"], row["field"]) for row in part.rows]


def test_a_word_comes_with_its_base_tone_speaker_and_gender(tmp_path):
    parts = read(table(tmp_path / "corpus", *ROWS))
    assert all(part.rows == [] for part in parts.values())
    (dev,) = parts["dev"].supervisions
    assert dev == {
        "id": "wav/b", "recording_id": "wav/b", "start": 0.0, "duration": 0.5, "channel": 0, "text": "tok4",
        "language": "nan", "speaker": "s2", "gender": "M", "custom": {"base": "tong", "tone": "4"},
    }  # fmt: skip
    assert parts["train"].ids() == ["wav/a"] and parts["test"].supervisions[0]["gender"] == "M"


def test_ids_and_further_columns_are_kept(tmp_path):
    folder = table(tmp_path / "corpus", "w1|tong1|tong|1|s1|F|wav/a.wav|train|3", header=f"id {HEADER} take")
    with pytest.raises(UserError, match="no usable utterance in dev; the corpus has nothing for it"):
        read(folder)
    corpus = open_corpus("words", folder, Options())
    (word,) = corpus.utterances("train", Rows())
    assert word.id == "w1" and '"take": "3"' in word.supervision


def test_without_parts_speakers_are_split(tmp_path):
    rows = [f"tong1|tong|1|s{n}|{'FM'[n % 2]}|wav/{'abc'[n % 3]}.wav" for n in range(12)]
    corpus = open_corpus("words", table(tmp_path / "c", *rows, header=HEADER.removesuffix(" part")),
                         Options(shares=Shares(0.2, 0.2)))
    of = {part: {word.speaker for word in corpus.utterances(part, Rows())} for part in corpus.parts}
    assert sorted(len(speakers) for speakers in of.values()) == [2, 2, 8]
    assert len(set.union(*of.values())) == 12
    assert all({int(name[1:]) % 2 for name in speakers} == {0, 1} for speakers in of.values()), "women and men in each"


@pytest.mark.parametrize(("women", "men", "unknown"), [(3, 3, 0), (3, 9, 0), (10, 10, 1), (5, 4, 6)])
def test_each_part_has_women_and_men_where_there_are_enough(women, men, unknown):
    gender_of = {f"{gender}{n}": gender for gender, count in (("F", women), ("M", men)) for n in range(count)}
    sizes = dict.fromkeys([*gender_of, *(f"x{n}" for n in range(unknown))], 5)
    part_of = split_by_gender(sizes, gender_of, Shares(0.1, 0.1))
    assert part_of.keys() == sizes.keys()
    for part in ("train", "dev", "test"):
        assert {gender_of.get(name) for name, its in part_of.items() if its == part} >= {"F", "M"}


def test_two_men_are_too_few_to_be_split_on_their_own():
    sizes = dict.fromkeys(["F1", "F2", "F3", "M1", "M2"], 5)
    part_of = split_by_gender(sizes, {name: name[0] for name in sizes}, Shares(0.1, 0.1))
    assert sorted(part_of.values()) == ["dev", "test", "train", "train", "train"]


def test_too_few_speakers_name_the_table_and_the_way_out(tmp_path):
    folder = table(tmp_path / "c", "tong1|tong|1|s1|F|wav/a.wav", header=HEADER.removesuffix(" part"))
    with pytest.raises(UserError, match=r"words.tsv: 1 speakers: too few for .*; or say in a column part what belongs"):
        open_corpus("words", folder, Options())


def test_a_tone_for_each_syllable_of_the_base(tmp_path):
    rows = ("hue tshia|hue tshia|1 1|s1|F|wav/a.wav|train", "hue tshia|hue tshia|1|s1|F|wav/b.wav|train")
    corpus = open_corpus("words", table(tmp_path / "c", *rows), Options())
    audit = Rows()
    assert [word.id for word in corpus.utterances("train", audit)] == ["wav/a"]
    (row,) = audit
    assert row.note == "2 syllables in base, 1 in tone; spaces between them in both"


def test_hmong_words_get_base_and_tone_from_their_spelling(tmp_path):
    folder = table(tmp_path / "corpus", "pob|s1|F|wav/a.wav|train", "Hmoob dawb|s2|M|wav/b.wav|dev",
                   "po|s3|F|wav/c.wav|test", header="word speaker gender audio part")
    parts = read(folder, language="mww")
    found = {part: its.supervisions[0]["custom"] for part, its in parts.items()}
    assert found == {"train": {"base": "po", "tone": "b"}, "dev": {"base": "hmoo daw", "tone": "b b"},
                     "test": {"base": "po", "tone": "-"}}


def test_hmong_labels_that_contradict_the_spelling_are_kept_and_listed(tmp_path):
    folder = table(tmp_path / "corpus", "pob|po|j|s1|F|wav/a.wav|train", "Strong|str|b|s1|F|wav/b.wav|train",
                   "xyz|||s1|F|wav/c.wav|train", "Pob|Po|B|s1|F|wav/c.wav|train")
    corpus = open_corpus("words", folder, Options(language="hmn"))
    report = Rows()
    words = list(corpus.utterances("train", report))
    assert [word.id for word in words] == ["wav/a", "wav/b", "wav/c"] and '"tone": "j"' in words[0].supervision
    assert '"base": "po", "tone": "b"' in words[2].supervision, "one base, however it is written"
    assert [(row.done, row.reason) for row in report] == [
        (REPAIRED, reasons.LABEL_DISAGREES), (REPAIRED, reasons.NOT_RPA), (REJECTED, reasons.NOT_RPA)
    ]


def test_what_is_wrong_with_a_row_is_listed_and_the_others_are_kept(tmp_path):
    folder = table(
        tmp_path / "corpus", *ROWS, "tong2|tong||s1|F|wav/a.wav|train", "|tong|2|s1|F|wav/a.wav|train",
        "tong2|tong|2|s1|F|wav/none.wav|train", "tong3|tong|3|s1|?|wav/b.wav|train", "tong3|tong|3|s1|F|wav/b.wav|x",
        "too|few",
    )
    parts = read(folder)
    assert sorted(reasons_of(parts["train"])) == sorted([
        (REJECTED, reasons.BAD_ROW, "tone"), (REJECTED, reasons.BAD_ROW, "word"),
        (REJECTED, reasons.AUDIO_NOT_FOUND, ""), (REPAIRED, reasons.UNKNOWN_GENDER, "gender"),
        (REJECTED, reasons.UNKNOWN_PART, "part"), (REJECTED, reasons.BAD_ROW, ""),
    ])
    assert parts["train"].ids() == ["wav/a", "wav/b"] and "gender" not in parts["train"].supervisions[1]


@pytest.mark.parametrize(
    ("header", "message"),
    [("word base tone speaker audio", "no column gender"), ("word speaker gender audio", "no column base, tone")],
)
def test_missing_columns_are_one_line(tmp_path, header, message):
    with pytest.raises(UserError, match=message):
        open_corpus("words", table(tmp_path / "corpus", header=header), Options())


def test_two_tables_in_a_folder_are_refused(tmp_path):
    folder = table(tmp_path / "corpus", *ROWS)
    write(folder / "more.tsv", b"word\n")
    with pytest.raises(UserError, match="2 tables. Expected a single table"):
        open_corpus("words", folder, Options())


# -------------------------------------------------------------------- Tone Perfect


def tone_perfect(folder: Path) -> Path:
    for speaker in ("FV1", "FV2", "FV3", "MV1", "MV2", "MV3"):
        for word in ("ba1", "ba4", "lv3"):
            write(folder / f"audio/{word}_{speaker}_MP3.wav", wav_bytes(0.6, 44100))
    return folder


def test_tone_perfects_names_say_syllable_tone_speaker_and_gender(tmp_path):
    parts = read(tone_perfect(tmp_path / "corpus"), "tone_perfect")
    assert {part: sorted({s["speaker"] for s in its.supervisions}) for part, its in parts.items()} == {
        "train": ["FV3", "MV3"], "dev": ["FV1", "MV1"], "test": ["FV2", "MV2"]
    }, "a woman and a man each"
    first = parts["train"].supervisions[0]
    assert (first["id"], first["text"], first["gender"]) == ("ba1_FV3", "ba1", "F")
    assert first["custom"] == {"base": "ba", "tone": "1"} and first["language"] == "cmn"
    assert parts["train"].ids()[-1] == "lv3_MV3" and parts["train"].rows == []


def test_metadata_is_kept_and_believed_less_than_the_name(tmp_path):
    folder = tone_perfect(tmp_path / "corpus")
    write(folder / "xml/ba1_FV3_CUSTOM.xml", "<a><pinyin>bā</pinyin><tone>1</tone></a>".encode())
    write(folder / "xml/ba4_FV3_CUSTOM.xml", b"<a><tone>2</tone></a>")
    write(folder / "xml/lv3_FV3_CUSTOM.xml", b"<a><tone>")
    write(folder / "xml/lv3_MV3_CUSTOM.xml", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>')
    write(folder / "notes.txt", b"...")
    train = read(folder, "tone_perfect")["train"]
    assert train.supervisions[0]["custom"]["metadata"] == {"pinyin": "bā", "tone": "1"}
    assert [(row["done"], row["reason"]) for row in train.rows] == [
        ("ignored", reasons.FOREIGN_FILE), (REPAIRED, reasons.LABEL_DISAGREES),
        (REPAIRED, reasons.BAD_METADATA), (REPAIRED, reasons.BAD_METADATA),
    ]
    assert len(train.supervisions) == 6


def test_a_folder_without_such_names_is_one_line(tmp_path):
    write(tmp_path / "corpus/readme.txt", b"")
    with pytest.raises(UserError, match="no recording. Expected audio named .*found: readme.txt"):
        open_corpus("tone_perfect", tmp_path / "corpus", Options())
