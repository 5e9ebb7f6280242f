"""bin/score as it is run: what it prints and writes, and one line for input that cannot be scored."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from icefall_ext.bin.score import Config, main, name_of
from icefall_ext.cli import parse
from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.icefall_files import Recog, read_errs, read_wer_summary, write_recogs
from icefall_ext.score.inputs import Entry, read_manifest

ROOT = Path(__file__).parents[2]
NAME = "test-greedy_search-epoch-3-avg-1-beam-20.0"
HAN = [("A-1", "我 beh 去", "我 欲 去"), ("A-2", "食 飯", "食 飯"), ("B-1", "伊 食 飯", "我 食 飯 無"), ("B-2", "", "")]
TAILO = [("A-1", "gua2 beh4 khi3", "gua2 beh8 khi3"), ("A-2", "tai5-uan5", "tai7-uan5"), ("B-1", "tsit8", "tsit8")]
TEXTS = {
    "A-1": ("我 beh 去", "gua2 beh4 khi3", "A"),
    "A-2": ("食飯", "tsiah8-png7", "A"),
    "B-1": ("伊食飯", "i1 tsiah8-png7", "B"),
    "B-2": ("無", None, "B"),
}


def recogs(folder: Path, texts, name=NAME) -> Path:
    path = folder / f"recogs-{name}.txt"
    write_recogs(path, [Recog(id, ref.split(), hyp.split()) for id, ref, hyp in texts])
    return path


def manifest(path: Path, texts=TEXTS, cuts=False) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        for id, (text, romanised, speaker) in texts.items():
            item = {"id": id, "text": text, "speaker": speaker, "custom": {"tailo": romanised} if romanised else {}}
            print(json.dumps({"id": id, "supervisions": [item]} if cuts else item), file=stream)
    return path


def run(*args: object) -> None:
    main(parse(Config, list(map(str, args))))


def rows(printed: str) -> dict[str, list[str]]:
    """Table rows by their first cell."""
    cells = [line.strip().split("  ") for line in printed.splitlines()]
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in cells if len(row) > 1}


def test_every_rate_is_printed_by_name_with_its_interval_and_counts(tmp_path, capsys):
    run("--script", "hanlo", "--recogs", recogs(tmp_path, HAN), "--manifest", manifest(tmp_path / "m.jsonl.gz"))
    printed = capsys.readouterr().out
    assert f"{NAME}: 4 utterances; intervals by bootstrap over 2 speakers" in printed
    table = rows(printed)
    # Speaker A has 3 errors in 7 characters, B has 2 in 3: a resample is A twice, B twice, or both.
    assert table["strict CER"] == ["50.00", "42.86 to 66.67", "1", "2", "2", "10"]
    assert table["mixed rate"] == ["37.50", "20.00 to 66.67", "1", "0", "2", "8"]


def test_files_of_each_rate_stand_beside_the_recogs_file_and_agree(tmp_path):
    run("--script", "hanlo", "--recogs", recogs(tmp_path, HAN))
    expected = {"recogs": "", "errs": "", "errs-cer": "", "wer-summary": "", "wer-summary-cer": ""}
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}-{NAME}.txt" for kind in expected} | {
        f"scores-{NAME}.json"
    }
    assert read_errs(tmp_path / f"errs-{NAME}.txt").percent == 37.5
    assert read_errs(tmp_path / f"errs-cer-{NAME}.txt").percent == 50
    assert read_wer_summary(tmp_path / f"wer-summary-{NAME}.txt") == {NAME: 37.5}
    (system,) = json.loads((tmp_path / f"scores-{NAME}.json").read_text())["systems"]
    assert system["rates"]["cer"]["percent"] == 50 and system["rates"]["cer"]["substitutions"] == 2
    assert system["resampled"] == "4 utterances, as no speaker is known" and system["tones"] == {}


def test_tailo_gives_tone_rates_a_picture_and_the_confusion_of_5_7_8(tmp_path, capsys):
    run("--script", "tailo", "--recogs", recogs(tmp_path, TAILO), "--out-dir", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "citation tones, 5, 7 and 8 (3 syllables): 33.33 % recognised as another of the three" in printed
    assert rows(printed)["tone error rate"][0] == "33.33"
    assert (tmp_path / f"out/tones-{NAME}.png").stat().st_size > 10_000
    tones = json.loads((tmp_path / f"out/scores-{NAME}.json").read_text())["systems"][0]["tones"]
    assert tones["tone"]["confusable"]["among_percent"] == pytest.approx(100 / 3)
    place = tones["tone"]["tones"].index
    assert tones["tone"]["counts"][place(5)][place(7)] == 1


def test_several_files_are_a_sweep_with_the_best_first(tmp_path, capsys):
    paths = [recogs(tmp_path, HAN, "test-beam_4"), recogs(tmp_path, [(i, r, r) for i, r, _ in HAN], "test-beam_8")]
    run("--script", "hanlo", "--recogs", *paths)
    assert list(read_wer_summary(tmp_path / "wer-summary-cer-sweep.txt").items()) == [
        ("test-beam_8", 0.0),
        ("test-beam_4", 50.0),
    ]
    ranking = capsys.readouterr().out.split("strict CER %")[1].splitlines()[1:3]
    assert [line.split()[:2] for line in ranking] == [["test-beam_8", "0.00"], ["test-beam_4", "50.00"]]
    assert len(json.loads((tmp_path / "scores-sweep.json").read_text())["systems"]) == 2


def test_experiments_with_results_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    paths = [recogs(tmp_path / "a", HAN), recogs(tmp_path / "b", [(i, r, r) for i, r, _ in HAN])]
    run("--script", "hanlo", "--recogs", *paths)
    assert read_errs(tmp_path / f"a/errs-{NAME}.txt").percent == 37.5
    assert read_errs(tmp_path / f"b/errs-{NAME}.txt").percent == 0
    summary = read_wer_summary(tmp_path / "a/wer-summary-sweep.txt")
    assert summary == {f"{tmp_path}/b/{NAME}": 0, f"{tmp_path}/a/{NAME}": 37.5}


def test_systems_are_compared_with_the_baseline_on_paired_resamples(tmp_path, capsys):
    better = recogs(tmp_path, [(i, r, r) for i, r, _ in HAN], "test-b")
    baseline = recogs(tmp_path, HAN, "test-a")
    run("--script", "hanlo", "--recogs", better, "--baseline", baseline)
    *found, _, relative, share = rows(capsys.readouterr().out.split("against")[1])["strict CER"]
    assert found == ["50.00", "0.00", "-50.00"] and relative == "-100.0"
    # Of the 255 of 256 draws with any character in them, 15 have A-2 and B-2 alone: a tie.
    assert float(share.removesuffix(" %")) == pytest.approx(100 * (1 - 15 / 255 / 2), abs=0.4)
    (system,) = json.loads((tmp_path / "scores-test-b.json").read_text())["systems"]
    assert system["against_baseline"]["cer"]["difference"] == -50
    assert not (tmp_path / "errs-test-a.txt").exists()


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
@pytest.mark.parametrize("cuts", [False, True])
def test_hypotheses_beside_a_manifest_score_like_a_recogs_file(tmp_path, ending, cuts):
    hyp = tmp_path / f"{NAME}.{ending}"
    lines = [(id, hyp) for id, _, hyp in TAILO] + [("B-2", "")]
    written = [
        json.dumps({"id": i, "text": t}) if ending == "jsonl" else f"{i} {t}".strip() for i, t in reversed(lines)
    ]
    hyp.write_text("\n".join(written) + "\n")
    texts = {id: ("", ref, id[0]) for id, ref, _ in TAILO} | {"B-2": ("", None, "B")}
    run(
        "--script",
        "tailo",
        "--hyp",
        hyp,
        "--manifest",
        manifest(tmp_path / "m.jsonl.gz", texts, cuts),
        "--out-dir",
        tmp_path,
    )
    from_pair = (tmp_path / f"errs-tone-{NAME}.txt").read_text()
    run("--script", "tailo", "--recogs", recogs(tmp_path, TAILO))
    assert (tmp_path / f"errs-tone-{NAME}.txt").read_text() == from_pair


def test_references_without_tailo_are_left_out_by_number(tmp_path, capsys):
    (tmp_path / "h.txt").write_text("A-1 gua2\nA-2\nB-1 i1\nB-2 bo5\n")
    run("--script", "tailo", "--hyp", tmp_path / "h.txt", "--manifest", manifest(tmp_path / "m.jsonl.gz"))
    printed = capsys.readouterr().out
    assert "1 utterances have no reference in tailo and are left out" in printed and "h: 3 utterances" in printed


def test_tones_are_counted_in_hanlo_output_by_its_readings(tmp_path, capsys):
    texts = manifest(tmp_path / "m.jsonl.gz")
    run("--script", "hanlo", "--recogs", recogs(tmp_path, HAN[:3]), "--manifest", texts, "--readings", texts)
    printed = capsys.readouterr().out
    # 欲 and 無 have no reading, 我 for 伊 has one: of 8 reference tones one is lost and one is wrong.
    assert rows(printed.split(f"{NAME}-as-tailo")[1])["tone error rate"][2:] == ["0", "1", "1", "8"]
    assert "1 utterances of" in printed  # B-2 was not decoded
    assert (tmp_path / f"tones-{NAME}-as-tailo.png").exists()
    _, as_tailo = json.loads((tmp_path / f"scores-{NAME}.json").read_text())["systems"]
    assert list(as_tailo["rates"]) == ["syllable", "base", "tone", "surface-tone"]  # words are nobody's spelling


def test_the_order_of_a_recogs_file_changes_no_result(tmp_path):
    for folder, texts in (("a", HAN), ("b", HAN[::-1])):
        (tmp_path / folder).mkdir()
        run("--script", "hanlo", "--recogs", recogs(tmp_path / folder, texts))
    for path in (tmp_path / "a").glob("[ew]*"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    a, b = (json.loads((tmp_path / f / f"scores-{NAME}.json").read_text())["systems"][0]["rates"] for f in "ab")
    assert a == b


def test_a_cut_of_two_speakers_has_both_texts_and_no_speaker(tmp_path):
    supervisions = [{"text": "我", "speaker": "a"}, {"text": "去", "speaker": "b", "custom": {"tailo": "khi3"}}]
    (tmp_path / "cuts.jsonl").write_text(json.dumps({"id": "u", "supervisions": supervisions}))
    assert read_manifest(tmp_path / "cuts.jsonl") == {"u": Entry("我 去", "khi3", None)}


def test_the_name_of_a_result_is_that_of_the_recogs_file():
    assert name_of(Path(f"x/recogs-{NAME}.txt")) == name_of(Path(f"{NAME}.jsonl.gz")) == NAME


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--recogs", "{r}", "--hyp", "{r}"], "give one of the two"),
        ([], "give one of the two"),
        (["--hyp", "{r}"], "--hyp: needs --manifest"),
        (["--recogs", "{r}", "--resamples", "10"], "at least 1,000"),
        (["--recogs", "{r}", "--seed", "-1"], "0 or more"),
        (["--recogs", "{r}", "--readings", "{r}"], "--readings: for --script hanlo with --manifest"),
        (["--recogs", "{r}", "--written-tones", "surface"], "for --script tailo only"),
        (["--recogs", "{r}", "{r}"], "results of both would be called"),
        (["--recogs", "none.txt"], "none.txt: no such file"),
        (["--recogs", "."], "no such file"),
    ],
)
def test_wrong_options_stop_before_anything_is_written(tmp_path, args, complaint):
    path = recogs(tmp_path, HAN)
    with pytest.raises(UsageError, match=complaint):
        run("--script", "hanlo", *(arg.format(r=path) for arg in args))
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("files", "args", "complaint"),
    [
        ({"r.txt": ""}, ["--recogs", "r.txt"], "r.txt: no utterance in it"),
        ({"r.txt": "x"}, ["--recogs", "r.txt"], "r.txt: line 1: not"),
        (
            {"r.txt": "u:\tref=['a']\nu:\thyp=['\\ud800']\n"},
            ["--recogs", "r.txt"],
            "u: .* half a surrogate",
        ),
        ({"r.txt": "u:\tref=[]\nu:\thyp=['a']\n"}, ["--recogs", "r.txt"], "r.txt: strict CER: nothing to count"),
        (
            {"r.txt": "u:\tref=['a']\nu:\thyp=[]\n"},
            ["--recogs", "r.txt", "--manifest", "m"],
            "m: 1 of the 1 utter.*r.txt",
        ),
        ({"h.txt": "A 我\n"}, ["--hyp", "h.txt", "--manifest", "m"], "h.txt: 1 of the 2 utterances in m .* B;"),
        (
            {"h.txt": "A 我\nB 去\nC 去\n"},
            ["--hyp", "h.txt", "--manifest", "m"],
            "m: 1 of the 3 utter.* in h.txt .* C;",
        ),
        ({"h.txt": "A 我\nA 我\n"}, ["--hyp", "h.txt", "--manifest", "m"], "h.txt: line 2: A occurs a second time"),
        ({"h.txt": "A 我\n\n"}, ["--hyp", "h.txt", "--manifest", "m"], "h.txt: line 2: empty"),
        ({"h.jsonl": '{"id": 1}\n'}, ["--hyp", "h.jsonl", "--manifest", "m"], "h.jsonl: line 1: not an object"),
        (
            {"h.txt": "A 我", "n": "[]"},
            ["--hyp", "h.txt", "--manifest", "n"],
            "n: line 1: neither a supervision nor a cut",
        ),
        (
            {"h.txt": "A 我", "n": '{"id": "A"}'},
            ["--hyp", "h.txt", "--manifest", "n"],
            "n: no utterance has a reference",
        ),
        (
            {"h.txt": "A 我", "n": '{"id": "A"}\n' * 2},
            ["--hyp", "h.txt", "--manifest", "n"],
            "n: line 2: A occurs a second",
        ),
        (
            {"r.txt": "u:\tref=['a']\nu:\thyp=[]\n", "s.txt": "u:\tref=['b']\nu:\thyp=[]\n"},
            ["--recogs", "r.txt", "--baseline", "s.txt"],
            "the references of u differ",
        ),
        (
            {"r.txt": "u:\tref=['a']\nu:\thyp=[]\n", "s.txt": "v:\tref=['a']\nv:\thyp=[]\n"},
            ["--recogs", "r.txt", "--baseline", "s.txt"],
            "s.txt: 1 of the 1 utterances in r.txt are not in it",
        ),
        (
            {"r.txt": "u:\tref=['a']\nu:\thyp=[]\n", "s.txt": "u:\tref=['a']\nu:\thyp=[]\nv:\tref=['a']\nv:\thyp=[]\n"},
            ["--recogs", "r.txt", "--baseline", "s.txt"],
            "r.txt: 1 of the 2 utterances in s.txt are not in it, the first is v",
        ),
    ],
)
def test_input_that_cannot_be_scored_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, files, args, complaint):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": id, "text": text, "speaker": "s"}) for id, text in (("A", "我"), ("B", "去"))]
    for name, text in {"m": "\n".join(lines), **files}.items():
        Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as error:
        run("--script", "hanlo", *args)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"m", *files}


def test_program_ends_with_one_line_and_an_exit_status(tmp_path):
    (tmp_path / "r.txt").write_text("x\n")
    result = subprocess.run(
        [sys.executable, "-m", "icefall_ext.bin.score", "--script", "hanlo", "--recogs", str(tmp_path / "r.txt")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "CALLED_AS": "run.sh"},
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == f"run.sh: {tmp_path}/r.txt: line 1: not `id:<tab>ref=[...]` or `id:<tab>hyp=[...]`: x\n"
