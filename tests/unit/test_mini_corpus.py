"""The generated corpus as files: TAT-MOE's layout, its parts and traps, and the same bytes for the same options."""

from __future__ import annotations

import csv
import io
import json
import shutil
import wave
from pathlib import Path

import pytest

from icefall_ext.bin.make_mini_corpus import Config, main
from icefall_ext.corpora.mini import build as building
from icefall_ext.corpora.mini import tat_moe, traps
from icefall_ext.corpora.mini.build import build, check
from icefall_ext.corpora.mini.layout import PARTS
from icefall_ext.corpora.mini.sizes import sizes
from icefall_ext.corpora.mini.tat_moe import plan_corpus
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl

KEYS = """id 提示卡編號 句編號 漢羅台文 台羅 台羅數字調 白話字 發音人 性別 年齡 腔調 出生地 現居地 教育程度
字數 音檔長度 總錄音時間(分) 錄音環境 提示卡切換速度 通過漢羅用字檢查""".split()
HOURS = 0.02


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "corpus"
    main(Config(corpus_dir=folder, mini_hours=HOURS, source_hours=0.01, seed=3, nj=2))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planted(corpus: Path) -> list[dict[str, str]]:
    with open(corpus / "PLANTED.tsv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def truth(corpus: Path, part: str) -> list[dict]:
    return list(read_jsonl(corpus / f"ground_truth/{part}.jsonl.gz"))


def sound_labels(corpus: Path) -> list[Path]:
    spoilt = {row["file"] for row in planted(corpus)}
    return [
        path
        for path in sorted(corpus.glob("TAT-MOE-*/json/*/*.json"))
        if str(path.relative_to(corpus)) not in spoilt and not path.name.startswith(".")
    ]


def test_bytes_depend_neither_on_the_number_of_processes_nor_on_the_order(corpus, tmp_path):
    plan = plan_corpus(tmp_path / "corpus", HOURS, 3)
    building._write_marker(plan, {"complete": False})
    for task in reversed(plan.tasks):
        building._do(plan.make, plan.folder / ".building", task)
    main(Config(corpus_dir=tmp_path / "corpus", mini_hours=HOURS, source_hours=0.01, seed=3, nj=1))
    assert tree(tmp_path / "corpus") == tree(corpus)


def test_another_seed_gives_other_speech(corpus, tmp_path):
    task = plan_corpus(tmp_path, HOURS, 4).tasks[0]
    tat_moe.make_speaker_files(task)
    one, other = ({content for content in tree(root).values() if len(content) > 100} for root in (tmp_path, corpus))
    assert one and not one & other


def test_an_interrupted_run_continues_to_the_same_bytes(corpus, tmp_path, monkeypatch, capsys):
    written = []
    real = tat_moe._SpeakerWork._write

    def killed_in_the_middle_of_a_file(work, name, content):
        written.append(name)
        if len(written) == 40:
            real(work, name, content[: len(content) // 2])
            raise KeyboardInterrupt
        real(work, name, content)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tat_moe._SpeakerWork, "_write", killed_in_the_middle_of_a_file)
        build(plan_corpus(tmp_path / "corpus", HOURS, 3), 1)
    assert (tmp_path / "corpus/.building").exists()
    main(Config(corpus_dir=tmp_path / "corpus", mini_hours=HOURS, source_hours=0.01, seed=3, nj=1))
    assert "speakers, from an interrupted run" in capsys.readouterr().out
    assert tree(tmp_path / "corpus") == tree(corpus)


def test_a_complete_corpus_is_kept_and_not_touched(corpus, capsys):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    main(Config(corpus_dir=corpus, mini_hours=HOURS, source_hours=0.01, seed=3, nj=1))
    said = capsys.readouterr().out
    assert said.count("kept") == 3 and "wrote" not in said
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_a_corpus_made_with_other_options_is_refused_before_anything_is_written(corpus):
    before = tree(corpus)
    for options in ({"seed": 4}, {"mini_hours": 0.03}, {"source_hours": 0.02}):
        cfg = Config(corpus_dir=corpus, **{"mini_hours": HOURS, "source_hours": 0.01, "seed": 3, "nj": 1} | options)
        with pytest.raises(UserError, match="another --corpus-dir"):
            main(cfg)
    assert tree(corpus) == before


def test_a_folder_with_something_else_is_refused_by_name(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match=r"holds something else \(thesis.doc\)"):
        main(Config(corpus_dir=tmp_path, mini_hours=HOURS))
    (tmp_path / "thesis.doc").unlink()
    (tmp_path / "mini.json").write_text("{")
    with pytest.raises(UserError, match="not written by this program"):
        check(plan_corpus(tmp_path, HOURS, 1))
    with pytest.raises(UserError, match="a file; give another"):
        check(plan_corpus(tmp_path / "mini.json", HOURS, 1))


def test_a_complete_corpus_that_lost_files_is_noticed(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "copy")
    next((tmp_path / "copy/TAT-MOE-eval/condenser").rglob("[!.]*.wav")).unlink()
    with pytest.raises(UserError, match="1 of the .* files of this mini corpus are gone"):
        build(plan_corpus(tmp_path / "copy", HOURS, 3), 1)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        build(plan_corpus(tmp_path / "file" / "corpus", HOURS, 1), 1)


def test_too_little_space_is_said_before_work_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(building.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match="GB are needed and 0.0 GB free"):
        build(plan_corpus(tmp_path / "corpus", 100, 1), 1)


@pytest.mark.parametrize(
    "options",
    [{"mini_hours": 0}, {"mini_hours": float("nan")}, {"mini_hours": float("inf")}, {"source_hours": -1}, {"nj": -1}],
)
def test_impossible_sizes_are_usage_errors(tmp_path, options):
    with pytest.raises(UsageError, match="at least"):
        main(Config(corpus_dir=tmp_path / "corpus", **options))
    assert not (tmp_path / "corpus").exists()


def test_parts_share_no_speaker_and_hold_both_sexes(corpus):
    speakers = {part: {row["speaker"] for row in truth(corpus, part)} for part in PARTS}
    assert all({speaker[5] for speaker in of_part} == {"F", "M"} for of_part in speakers.values())
    assert sum(map(len, speakers.values())) == len(set.union(*speakers.values()))
    for part, folder in PARTS.items():
        assert {path.name for path in (corpus / folder / "json").iterdir()} == speakers[part]


def test_labels_hold_every_key_in_order_and_every_value_is_a_string(corpus):
    labels = sound_labels(corpus)
    assert labels
    for path in labels:
        label = json.loads(path.read_text(encoding="utf-8"))
        assert list(label) == KEYS
        assert all(isinstance(value, str) and value for value in label.values())
        assert path.stem == f"{label['提示卡編號']}-{label['句編號']}"
        assert path.parent.name == f"{path.parent.name[:2]}_{label['發音人']}"
        assert label["性別"] == label["發音人"][2]
    identities = [json.loads(path.read_text(encoding="utf-8"))["id"] for path in labels]
    assert len(identities) == len(set(identities))


def test_audio_is_16_bit_mono_at_16_khz_and_as_long_as_the_label_says(corpus):
    spoilt = {row["file"] for row in planted(corpus)}
    for part in PARTS:
        for row in truth(corpus, part):
            for name in set(row["audio"].values()) - spoilt:
                with wave.open(str(corpus / name)) as stream:
                    assert stream.getparams()[:4] == (1, 2, 16_000, row["samples"])
                label = corpus / f"{PARTS[part]}/json/{row['speaker']}/{row['card']}-{row['sentence']}.json"
                if "trap" not in row:
                    seconds = float(json.loads(label.read_text(encoding="utf-8"))["音檔長度"])
                    assert abs(seconds - row["samples"] / 16_000) <= 0.005


def test_microphones_are_not_aligned_one_to_one(corpus):
    def stems(microphone: str) -> set[str]:
        return {path.name[:-7] for path in corpus.glob(f"TAT-MOE-*/{microphone}/wav/*/[!.]*.wav")}

    assert stems("condenser") - stems("lavalier") and stems("lavalier") - stems("condenser")


def test_every_part_holds_every_trap_once(corpus):
    expected = sorted([trap.name for trap in traps.TRAPS] + [name for name, *_ in traps.LITTER])
    for part in PARTS:
        assert sorted(row["trap"] for row in planted(corpus) if row["part"] == part) == expected
    assert len({row["file"] for row in planted(corpus)}) == len(planted(corpus))


@pytest.mark.parametrize("speakers", [2, 10, 14, 20, 282, 3464])
def test_traps_are_spread_over_the_speakers_and_none_is_lost(speakers):
    homes = {trap.name: speaker for speaker in range(speakers) for _, trap in traps.traps_of(speaker, speakers)}
    assert homes.keys() == {trap.name for trap in traps.TRAPS}
    assert homes["sentence_6.1"] == homes["sentence_6.10"] and homes["unpadded_speaker"] == 0
    assert len(set(homes.values())) >= min(speakers, len(traps.TRAPS) - 1) - 1


def content(corpus: Path, row: dict[str, str]) -> bytes:
    return (corpus / row["file"]).read_bytes()


def wav_of(row: dict[str, str]) -> str:
    return row["file"].replace("/json/", "/condenser/wav/").replace(".json", "-03.wav")


def label_of(row: dict[str, str]) -> str:
    return row["file"].replace("/condenser/wav/", "/json/").replace("-03.wav", ".json")


def length_disagrees(corpus: Path, row: dict[str, str]) -> float:
    with wave.open(str(corpus / wav_of(row))) as stream:
        return float(json.loads(content(corpus, row))["音檔長度"]) - stream.getnframes() / 16_000


def is_cut_short(corpus: Path, row: dict[str, str]) -> bool:
    data = content(corpus, row)
    promised = int.from_bytes(data[40:44], "little")
    return data[36:40] == b"data" and 0 < len(data) - 44 < promised


def params(corpus: Path, row: dict[str, str]) -> tuple[int, int, int]:
    with wave.open(io.BytesIO(content(corpus, row))) as stream:
        return stream.getnchannels(), stream.getframerate(), stream.getnframes()


AS_LISTED = {
    "empty_transcript": lambda c, r: [json.loads(content(c, r))[key] for key in KEYS[3:7]] == [""] * 4,
    "label_without_audio": lambda c, r: not (c / wav_of(r)).exists() and json.loads(content(c, r))["漢羅台文"],
    "audio_without_label": lambda c, r: params(c, r)[2] > 0 and not (c / label_of(r)).exists(),
    "byte_order_mark": lambda c, r: content(c, r).startswith(b"\xef\xbb\xbf{"),
    "carriage_returns": lambda c, r: b"\r\n" in content(c, r) and json.loads(content(c, r))["漢羅台文"].endswith("\r"),
    "wide_spaces": lambda c, r: b"\xe3\x80\x80" in content(c, r) and b"\xc2\xa0" in content(c, r),
    "stray_han": lambda c, r: "臺灣" in json.loads(content(c, r))["台羅數字調"],
    "unpadded_speaker": lambda c, r: json.loads(content(c, r))["發音人"] not in r["file"],
    "duration_disagrees": lambda c, r: 1.2 < length_disagrees(c, r) < 1.4,
    "duration_of_another": lambda c, r: length_disagrees(c, r) > 3,
    "no_bytes": lambda c, r: content(c, r) == b"",
    "no_samples": lambda c, r: params(c, r) == (1, 16_000, 0),
    "cut_short": is_cut_short,
    "rate_8000": lambda c, r: params(c, r)[:2] == (1, 8_000),
    "rate_48000": lambda c, r: params(c, r)[:2] == (1, 48_000),
    "two_channels": lambda c, r: params(c, r)[:2] == (2, 16_000),
    "sentence_6.1": lambda c, r: json.loads(content(c, r))["句編號"] == "6.1",
    "sentence_6.10": lambda c, r: (c / r["file"].replace("6.10.json", "6.1.json")).exists(),
    "other_microphone_only": lambda c, r: (
        not (c / wav_of(r)).exists() and (c / wav_of(r).replace("condenser", "lavalier").replace("-03", "-02")).exists()
    ),
    "ds_store": lambda c, r: r["file"].endswith("/.DS_Store"),
    "apple_double": lambda c, r: Path(r["file"]).name.startswith("._"),
}


@pytest.mark.parametrize("trap", AS_LISTED)
def test_each_trap_is_on_disk_as_listed(corpus, trap):
    rows = [row for row in planted(corpus) if row["trap"] == trap]
    assert len(rows) >= len(PARTS)
    for row in rows:
        assert (corpus / row["file"]).is_file() and AS_LISTED[trap](corpus, row), row


def test_a_resampled_trap_lasts_as_long_as_the_original(corpus):
    samples = {(row["part"], row.get("trap")): row["samples"] for part in PARTS for row in truth(corpus, part)}
    for row in planted(corpus):
        if row["trap"].startswith("rate_"):
            _, rate, frames = params(corpus, row)
            assert abs(frames / rate - samples[row["part"], row["trap"]] / 16_000) < 0.001


def test_ground_truth_tells_the_spoken_tone_of_every_written_syllable(corpus):
    for part in PARTS:
        for row in truth(corpus, part):
            if "trap" in row:
                continue
            label = json.loads(
                (corpus / f"{PARTS[part]}/json/{row['speaker']}/{row['card']}-{row['sentence']}.json").read_text(
                    "utf-8"
                )
            )
            written = label["台羅數字調"].lower().replace("--", "-").rstrip(".?").replace(",", "").replace(" ", "-")
            assert "-".join(s["tailo"] for s in row["syllables"]) == written
            assert label["字數"] == str(len(row["syllables"]))
            for slot in row["slots"]:
                assert label["漢羅台文"][slot["character"]] == slot["han"]


def test_source_languages_come_with_a_table_whose_audio_exists(corpus):
    for language in ("tonal", "nontonal"):
        folder = corpus / "source" / language
        with open(folder / "utterances.tsv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        assert list(rows[0]) == ["id", "audio", "text", "speaker", "gender"]
        assert {row["gender"] for row in rows} == {"F", "M"} and all(row["text"] for row in rows)
        assert len({row["id"] for row in rows}) == len(rows)
        on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*.wav")}
        assert {row["audio"] for row in rows} == on_disk


def test_source_languages_can_be_added_to_a_corpus_later(corpus, tmp_path):
    main(Config(corpus_dir=tmp_path / "corpus", mini_hours=0.01, nj=1))
    main(Config(corpus_dir=tmp_path / "corpus", mini_hours=0.01, source_hours=0.01, nj=1))
    main(Config(corpus_dir=tmp_path / "corpus", mini_hours=0.01, nj=1))
    assert (tmp_path / "corpus/source/tonal/utterances.tsv").exists()


@pytest.mark.parametrize("hours", [0.01, 0.03, 0.5, 2.0, 40.0, 300.0])
def test_parts_grow_with_the_hours_and_have_as_many_women_as_men(hours):
    size = sizes(hours)
    assert size["train"].seconds == hours * 3600
    assert size["eval"] == size["test"]
    assert all(part.speakers >= 2 and part.speakers % 2 == 0 for part in size.values())
    assert all(part.seconds_each > 8 for part in size.values())


def test_the_usual_size_has_hundreds_of_training_speakers_and_twenty_unseen_ones():
    size = sizes(2.0)
    assert size["train"].speakers > 200 and size["eval"].speakers == 20 and size["eval"].seconds == 480


def test_hours_come_out_as_asked(corpus):
    samples = sum(row["samples"] for row in truth(corpus, "train") if "trap" not in row)
    assert samples / 16_000 / 3600 == pytest.approx(HOURS, rel=0.15)


def test_pictures_and_wavs_of_the_tones_are_written(tmp_path):
    from icefall_ext.bin.plot_tones import Config as PlotConfig
    from icefall_ext.bin.plot_tones import main as plot

    plot(PlotConfig(out_dir=tmp_path / "tones", base="kun", speakers=1))
    assert (tmp_path / "tones/tones.png").stat().st_size > 10_000
    assert sorted(path.stem.split("_")[2] for path in tmp_path.glob("tones/*.wav")) == sorted(
        ["kun1", "kun2", "kun3", "kut4", "kun5", "kun7", "kut8", "sentence"]
    )
