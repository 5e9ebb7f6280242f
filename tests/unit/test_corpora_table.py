from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import CutSet, RecordingSet, SupervisionSet
from tat_tree import Part, imported, wav_bytes, write

from icefall_ext.audit import REJECTED, REPAIRED, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import Options, Shares
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.corpora.split import split_speakers
from icefall_ext.corpora.tabular import Table
from icefall_ext.data.cuts import read_cuts
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UserError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / f"corpus/audio/{name}.wav", wav_bytes(3.0))
    return tmp_path / "corpus"


def tsv(path: Path, *rows: str, header: str = "id audio text") -> Path:
    """Rows with `|` between their fields."""
    lines = [header.replace(" ", "\t"), *(row.replace("|", "\t") for row in rows)]
    return write(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def train(corpus: Path, **options) -> Part:
    return imported("table", corpus, corpus.parent / "data", **options)["train"]


def test_three_columns_are_enough(corpus: Path):
    tsv(corpus / "train.tsv", "u1|audio/a.wav|食飽未", "u2|audio/b.wav|猶未")
    part = train(corpus)
    assert part.rows == [] and part.ids() == ["u1", "u2"]
    assert part.supervisions[0] == {
        "id": "u1", "recording_id": "u1", "start": 0.0, "duration": 3.0, "channel": 0,
        "text": "食飽未", "language": "nan", "custom": {},
    }  # fmt: skip
    assert part.recordings[0]["sources"][0]["source"] == str(corpus / "audio/a.wav")


def test_all_columns_are_used_and_others_kept(corpus: Path):
    tsv(
        corpus / "train.tsv", "u1|audio/a.wav|食飽未|tsia̍h-pá buē|s1|女|0.5|2.25|台南",
        header="id audio text phonetic speaker gender start end accent",
    )  # fmt: skip
    part = train(corpus, language="hak")
    assert part.supervisions == [
        {
            "id": "u1", "recording_id": "audio/a.wav", "start": 0.5, "duration": 1.75, "channel": 0, "text": "食飽未",
            "language": "hak", "speaker": "s1", "gender": "F", "custom": {"accent": "台南", "tailo": "tsia̍h-pá buē"},
        }
    ]  # fmt: skip


def test_csv_quotes_commas_and_jsonl_takes_numbers(corpus: Path):
    write(corpus / "train.csv", 'id,audio,text\nu1,audio/a.wav,"食飽, 未"\n'.encode("utf-8-sig"))
    rows = [
        {"id": 7, "audio": "audio/b.wav", "text": "好", "start": 1, "end": 2.5},
        {"id": 8, "audio": "audio/c.wav", "text": "好"},
    ]
    write(corpus / "dev.jsonl", "\n".join(map(json.dumps, rows)).encode())
    parts = imported("table", corpus, corpus.parent / "data")
    assert parts["train"].supervisions[0]["text"] == "食飽, 未"
    assert [(s["id"], s["duration"]) for s in parts["dev"].supervisions] == [("7", 1.5), ("8", 3.0)]
    assert parts["train"].rows == parts["dev"].rows == []


def test_segments_of_a_file_share_one_recording_and_join_into_cuts(corpus: Path):
    header = "id audio text start end"
    rows = ("u1|audio/a.wav|一|0|1", "u2|audio/b.wav|二||", "u3|audio/a.wav|三|1|2.5", "u4|audio/b.wav|四|2|")
    tsv(corpus / "train.tsv", *rows, header=header)
    part = train(corpus)
    assert part.rows == []
    assert [r["id"] for r in part.recordings] == ["audio/a.wav", "u2"]
    assert [(s["id"], s["recording_id"]) for s in part.supervisions] == [
        ("u1", "audio/a.wav"), ("u3", "audio/a.wav"), ("u2", "u2"), ("u4", "u2"),
    ]  # fmt: skip
    data_dir = DataDir(corpus.parent / "data", "table")
    recordings, supervisions = data_dir.recordings("train"), data_dir.supervisions("train")
    cuts = list(read_cuts(recordings, supervisions))
    assert [(cut.id, cut.start, cut.duration) for cut in cuts] == [
        ("u1", 0.0, 1.0), ("u3", 1.0, 1.5), ("u2", 0.0, 3.0), ("u4", 2.0, 1.0),
    ]  # fmt: skip
    trimmed = CutSet.from_manifests(RecordingSet.from_file(recordings), SupervisionSet.from_file(supervisions))
    assert len(list(trimmed.trim_to_supervisions(keep_overlapping=False))) == 4


@pytest.mark.parametrize(
    ("row", "done", "reason", "field"),
    [
        ("u2|audio/a.wav|二|x|2", REJECTED, reasons.BAD_NUMBER, "start"),
        ("u2|audio/a.wav|二|-1|2", REJECTED, reasons.BAD_NUMBER, "start"),
        ("u2|audio/a.wav|二|1|inf", REJECTED, reasons.BAD_NUMBER, "end"),
        ("u2|audio/a.wav|二|2|2", REJECTED, reasons.END_BEFORE_START, "end"),
        ("u2|audio/a.wav|二|2|1", REJECTED, reasons.END_BEFORE_START, "end"),
        ("u2|audio/a.wav|二|1|4", REJECTED, reasons.END_BEYOND_AUDIO, "end"),
        ("u2|audio/a.wav|二|3|", REJECTED, reasons.END_BEYOND_AUDIO, "end"),
        ("u2|audio/a.wav|二|1|3.05", REPAIRED, reasons.END_BEYOND_AUDIO, "end"),
        ("u2|audio/a.wav||1|2", REJECTED, reasons.EMPTY_TEXT, "text"),
        ("|audio/a.wav|二|1|2", REJECTED, reasons.BAD_ROW, "id"),
        ("u2||二|1|2", REJECTED, reasons.BAD_ROW, "audio"),
        ("u2|audio/none.wav|二|1|2", REJECTED, reasons.AUDIO_NOT_FOUND, ""),
        ("u1|audio/b.wav|二|1|2", REJECTED, reasons.DUPLICATE_ID, "id"),
        ("u 2|audio/b.wav|二|1|2", REJECTED, reasons.BAD_ID, "id"),
        ("u2|audio/a.wav|二", REJECTED, reasons.BAD_ROW, ""),
        ("u2|audio/a.wav|\udcff|1|2", REJECTED, reasons.BAD_ROW, ""),
    ],
)
def test_bad_row_is_listed_with_its_line(corpus: Path, row: str, done: str, reason: str, field: str):
    tsv(corpus / "train.tsv", "u1|audio/a.wav|一||", row, header="id audio text start end")
    part = train(corpus)
    assert part.said() == [(done, reason)]
    assert part.rows[0]["file"].split()[0] == "train.tsv:3" and part.rows[0]["field"] == field
    assert len(part.ids()) == (2 if done == REPAIRED else 1)


def test_end_slightly_beyond_the_audio_is_set_to_its_end(corpus: Path):
    tsv(corpus / "train.tsv", "u1|audio/a.wav|一|1|3.05", header="id audio text start end")
    part = train(corpus)
    assert part.supervisions[0]["duration"] == 2.0 and part.rows[0]["note"] == "set to 3"


def test_two_rows_with_one_id_and_two_whole_files_leave_one_recording(corpus: Path):
    tsv(corpus / "train.tsv", "u1|audio/a.wav|一", "u1|audio/b.wav|二", "u2|audio/b.wav|三")
    part = train(corpus)
    assert part.said() == [(REJECTED, reasons.DUPLICATE_ID)]
    assert [(r["id"], r["sources"][0]["source"][-5:]) for r in part.recordings] == [("u1", "a.wav"), ("u2", "b.wav")]


def test_bad_audio_rejects_every_row_that_uses_it(corpus: Path):
    write(corpus / "audio/bad.wav", wav_bytes(1)[:100])
    tsv(
        corpus / "train.tsv", "u1|audio/bad.wav|一|0|0.5", "u2|audio/bad.wav|二|0.5|1", "u3|audio/a.wav|三|0|1",
        header="id audio text start end",
    )  # fmt: skip
    part = train(corpus)
    assert part.said() == [(REJECTED, reasons.TRUNCATED)] * 2 and part.ids() == ["u3"]


def test_other_rate_is_listed_once_for_a_file(corpus: Path):
    write(corpus / "audio/a.wav", wav_bytes(3.0, 44100))
    header = "id audio text start end"
    tsv(corpus / "train.tsv", "u1|audio/a.wav|一|0|1", "u2|audio/a.wav|二|1|2", header=header)
    assert train(corpus).said() == [(REPAIRED, reasons.OTHER_RATE)]


def test_parts_by_column(corpus: Path):
    rows = ("u1|audio/a.wav|一|train", "u2|audio/b.wav|二|eval", "u3|audio/c.wav|三|Test", "u4|audio/c.wav|四|x")
    tsv(corpus / "all.tsv", *rows, header="id audio text part")
    parts = imported("table", corpus, corpus.parent / "data")
    assert {name: part.ids() for name, part in parts.items()} == {"train": ["u1"], "dev": ["u2"], "test": ["u3"]}
    assert [name for name, part in parts.items() if part.rows] == ["train"]
    assert parts["train"].said() == [(REJECTED, reasons.UNKNOWN_PART)]
    assert parts["train"].rows[0]["file"] == "all.tsv:5"


def test_single_table_is_split_by_speaker(corpus: Path):
    rows = [f"u{n}|audio/{'abc'[n % 3]}.wav|一|s{n % 10}|{n / 50}|{n / 50 + 0.5}" for n in range(100)]
    tsv(corpus / "all.tsv", *rows, header="id audio text speaker start end")
    parts = imported("table", corpus / "all.tsv", corpus.parent / "data", shares=Shares(0.1, 0.2))
    speakers = {name: {s["speaker"] for s in part.supervisions} for name, part in parts.items()}
    assert {name: len(found) for name, found in speakers.items()} == {"train": 7, "dev": 1, "test": 2}
    assert len(set.union(*speakers.values())) == 10
    assert sum(len(part.supervisions) for part in parts.values()) == 100


def test_single_table_without_speakers_is_split_by_file(corpus: Path):
    rows = [f"u{n}|audio/{'abc'[n % 3]}.wav|一|{n / 10}|{n / 10 + 0.5}" for n in range(20)]
    tsv(corpus / "all.tsv", *rows, header="id audio text start end")
    parts = imported("table", corpus, corpus.parent / "data")
    files = [{r["id"] for r in part.recordings} for part in parts.values()]
    assert sorted(map(len, files)) == [1, 1, 1] and len(set.union(*files)) == 3


@given(
    st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 50), min_size=3, max_size=40),
    st.floats(0.01, 0.45), st.floats(0.01, 0.45),
)  # fmt: skip
def test_split_depends_on_names_alone_and_leaves_no_part_empty(sizes: dict[str, int], dev: float, test: float):
    part_of = split_speakers(sizes, Shares(dev, test))
    assert part_of == split_speakers(dict(reversed(sizes.items())), Shares(dev, test))
    assert set(part_of) == set(sizes) and set(part_of.values()) == {"train", "dev", "test"}
    for part, share in (("dev", dev), ("test", test)):
        held = [size for speaker, size in sizes.items() if part_of[speaker] == part]
        assert sum(held) <= share * sum(sizes.values()) or len(held) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.txt": ""}, "0 tables. Expected train.tsv, dev.tsv and test.tsv, or a single table"),
        ({"a.tsv": "", "b.csv": ""}, "2 tables. Expected"),
        ({"train.tsv": "id\taudio\n"}, "train.tsv: line 1: no column text. Expected id, audio, text; found: id, audio"),
        ({"train.tsv": ""}, "train.tsv: line 1: no column id, audio, text."),
        ({"train.tsv": "id\taudio\ttext\tid\n"}, "train.tsv: line 1: column id stands there twice"),
        ({"train.tsv": "id\taudio\ttext\ttailo\tphonetic\n"}, "columns phonetic and tailo mean the same"),
        ({"train.tsv": "id\taudio\ttext\n", "train.csv": "id,audio,text\n"}, "a second table for train"),
        ({"train.jsonl": "[1]\n"}, "train.jsonl: line 1: not a JSON object. Expected one JSON object a line"),
        ({"train.jsonl": ""}, "train.jsonl: line 1: an empty file"),
        ({"all.tsv": "id\taudio\ttext\nu1\ta.wav\t一\n"}, "1 speakers: too few"),
    ],
)
def test_tables_that_cannot_be_used_are_one_line(tmp_path: Path, files: dict[str, str], message: str):
    for name, content in files.items():
        write(tmp_path / name, content.encode())
    with pytest.raises(UserError) as caught:
        open_corpus("table", tmp_path, Options())
    assert message in str(caught.value)


def test_table_in_another_encoding_is_one_line(tmp_path: Path):
    write(tmp_path / "train.tsv", "id\taudio\ttext\t腔調\n".encode("big5"))
    with pytest.raises(UserError, match=r"train.tsv: line 1: not UTF-8; save the table in that encoding"):
        open_corpus("table", tmp_path)
    write(tmp_path / "train.tsv", "id\taudio\ttext\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"train.tsv: line 1: not UTF-8"):
        open_corpus("table", tmp_path)


def test_broken_quotes_of_a_csv_name_the_line(tmp_path: Path):
    write(tmp_path / "train.csv", b'id,audio,text\nu1,a.wav,"open\n')
    with pytest.raises(UserError, match=r"train.csv: line 2: unexpected end of data"):
        list(Table(str(tmp_path / "train.csv"), ("id",)).rows(Rows(), "train.csv"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0\t\r\n", exclude_categories=["Cs"])), min_size=1))
def test_any_text_passes_through_each_kind_of_table(tmp_path: Path, texts: list[str]):
    import csv

    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    write(tmp_path / "a.tsv", "".join("\t".join(r.values()) + "\n" for r in [{"i": "id", "t": "text"}, *rows]).encode())
    write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    for name in ("a.tsv", "a.csv", "a.jsonl"):
        report = Rows()
        read = [line.values for line in Table(str(tmp_path / name), ("id", "text")).rows(report, name)]
        assert (name, read, report) == (name, rows, [])


def test_what_is_shorter_than_a_frame_is_rejected_and_everything_else_loads_at_any_speed(corpus: Path):
    write(corpus / "audio/click.wav", wav_bytes(0.005))
    tsv(
        corpus / "train.tsv", "u1|audio/click.wav|食||", "u2|audio/a.wav|食|1|1.0099", "u3|audio/a.wav|食|1.2|1.21",
        "u4|audio/a.wav|食|2.9999|", "u5|audio/b.wav|食|0.1|1.3333333333",
        header="id audio text start end",
    )  # fmt: skip
    part = train(corpus)
    assert part.ids() == ["u3", "u5"]
    assert [(row["done"], row["reason"]) for row in part.rows] == [(REJECTED, reasons.ZERO_LENGTH)] * 3
    folder = DataDir(corpus.parent / "data", "table")
    for cut in read_cuts(folder.recordings("train"), folder.supervisions("train")):
        for speed in (0.9, 1.0, 1.1):
            changed = cut.perturb_speed(speed) if speed != 1.0 else cut
            assert changed.load_audio().shape == (1, changed.num_samples) and changed.num_samples > 0
