"""Tables of a recipe: what is written of their runs, and the whole program with a stand-in for run.sh."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icefall_ext.bin import run_table
from icefall_ext.errors import UserError
from icefall_ext.files import open_jsonl_for_writing
from icefall_ext.score.confidence import bootstrap
from icefall_ext.score.icefall_files import Recog, write_recogs
from icefall_ext.score.paper_tables.definition import Paper, Row, Table, read_definitions
from icefall_ext.score.paper_tables.recognition import MEASURES, Outcome, Recognition, read_outcome
from icefall_ext.score.paper_tables.section import Conditions, put_section, section

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "egs/clift/tables.yaml"
IDS = [f"u{number}" for number in range(6)]
METHOD = read_definitions(TABLES).always["methods"]
SPEAKERS = {id: f"s{number // 2}" for number, id in enumerate(IDS)}


# What is written

CONDITIONS = Conditions("mini", 2.02, "20 unseen speakers", "mini", {"phase 1": 6, "Han-Lo": 10}, "",
                        "./run.sh --table 3 | x")
PAPER = Paper("A paper", "TAT-MOE", "tat", {"phase 1": 20, "Han-Lo": 40})
TWO_ROWS = Table("a | b", "Is it?", [Row("a", "row a", {"phases": "two"}, paper="22.41"), Row("b", "row b")],
                 ["phase1-syllable"])


def outcomes(*errors: list[int], syllable: float | None = 5.0) -> dict[int, Outcome]:
    units = np.full(len(IDS), 10)
    return {seed: Outcome(IDS, np.array(wrong), units, {"phase1-syllable": syllable}, f"c{seed}")
            for seed, wrong in enumerate(errors, start=1)}


def written(rows, missing=(), conditions=CONDITIONS) -> str:
    columns = Recognition(TWO_ROWS.also, METHOD).columns(rows, "a", SPEAKERS)
    return section("3", TWO_ROWS, PAPER, rows, columns, conditions, missing)


def cells_of(text: str, row: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} ")]
    return line[2:-2].split(" | ")


def test_a_row_has_the_mean_over_seeds_its_spread_and_its_change_against_the_first_row():
    rows = {"a": outcomes([2, 2, 2, 2, 2, 2], [3, 3, 3, 3, 3, 3]), "b": outcomes([1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2],
                                                                                  syllable=None)}
    text = written(rows)
    first, second = cells_of(text, "row a"), cells_of(text, "row b")
    assert first == ["row a", "mini-2.0h, 20 unseen speakers", "25.00 (20.00 to 30.00)", "25.00 to 25.00", "-",
                     "5.0 (5.0 to 5.0)", "2", r"`./run.sh --table 3 \| x`", "c1, c2", "22.41"]
    assert second[2:7] == ["15.00 (10.00 to 20.00)", "15.00 to 15.00", "-40.0 % (-40.0 to -40.0)", "-", "2"]
    assert "paper (TAT-MOE) |" in text


def test_the_interval_draws_whole_speakers_and_pairs_the_rows():
    errors = [0, 0, 2, 2, 4, 4]
    rows = {"a": outcomes(errors), "b": outcomes([wrong + 1 for wrong in errors])}
    text = written(rows)
    expected = bootstrap(IDS, SPEAKERS).intervals([np.array(errors)], [np.full(6, 10)])[0]
    assert cells_of(text, "row a")[3] == f"{expected.low:.2f} to {expected.high:.2f}" and expected.high > expected.low
    assert cells_of(text, "row b")[4] == "+50.0 % (+50.0 to +50.0)", "one error more everywhere is sure"


def test_a_reduced_budget_and_another_corpus_are_said():
    text = " ".join(written({"a": outcomes([1] * 6)}).split())
    assert "Reduced budget (settings `mini`): 6 epochs of phase 1 and 10 epochs of Han-Lo over 2.0 h" in text
    assert "Measured on mini, not on TAT-MOE" in text
    full = replace(CONDITIONS, corpus="tat", conf="paper", epochs=PAPER.epochs)
    text = written({"a": outcomes([1] * 6)}, conditions=full)
    assert "educed" not in text and "not on TAT-MOE" not in text


def test_runs_that_are_missing_are_named():
    text = written({"a": outcomes([1] * 6)}, missing=["b-seed1", "b-seed2"])
    assert "Missing: b-seed1, b-seed2." in text
    assert cells_of(text, "row b")[2:7] == ["-"] * 5


def test_a_section_is_replaced_in_place_and_nothing_else_is_touched(tmp_path):
    path = tmp_path / "RESULTS.md"
    put_section(path, "2", "mini", "two\n")
    put_section(path, "3", "mini", "three\n")
    path.write_text(path.read_text() + "\nBy hand.\n")
    before = path.read_text()
    put_section(path, "2", "mini", "two anew\n")
    assert path.read_text() == before.replace("two\n", "two anew\n")
    put_section(path, "2", "tat", "two on tat\n")
    assert path.read_text().endswith(
        "\nBy hand.\n\n<!-- table 2 on tat: begin -->\ntwo on tat\n<!-- table 2 on tat: end -->\n")


@pytest.mark.parametrize("broken", ["<!-- table 2 on mini: begin -->\n",
                                    "<!-- table 2 on mini: end --><!-- table 2 on mini: begin -->"])
def test_a_file_with_half_a_section_is_left_as_it_is(tmp_path, broken):
    path = tmp_path / "RESULTS.md"
    path.write_text(broken)
    with pytest.raises(UserError, match="once each and in this order"):
        put_section(path, "2", "mini", "two\n")
    assert path.read_text() == broken


# All of it, with a stand-in for run.sh

STAND_IN = """\
#!{python}
import json, sys
from pathlib import Path
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = Path(options["--exp-dir"])
print("run.sh: cannot do", folder.name)
if folder.name in Path("{folder}/failing").read_text().split():
    sys.exit(1)
if options["--stop-stage"] == "5":
    (folder / "encoder").mkdir(parents=True, exist_ok=True)
    sys.exit(0)
assert Path(options["--encoder"]).is_dir()
for phase in ("phase1", "phase2"):
    made = folder / phase / options["--methods"]
    made.mkdir(parents=True, exist_ok=True)
    wrong = int(options["--train-seed"]) if options["--context-size"] == "2" else 0
    (made / "recogs-test-x.txt").write_text(Path("{folder}/recogs" + str(wrong)).read_text())
    (made.parent / "decoded-test.txt").write_text(str(made / "recogs-test-x.txt") + chr(10))
    (made.parent / "run.json").write_text(json.dumps({{"commit": "abc"}}))
"""


def config(folder: Path, **changes) -> run_table.Config:
    values = dict(
        table="predictor", definitions=TABLES, data_dir=folder / "data", corpus="mini", encoder="tonal",
        exp_dir=folder / "exp", results=folder / "RESULTS.md", conf="egs/clift/conf/mini",
        epochs=["phase 1=6", "Han-Lo=10"], pretrained="on 0.4 h of their language", seeds=2, jobs=2, device="cpu",
        command=[str(folder / "run.sh"), "--table", "predictor", "--seeds", "2", "--methods", "greedy_search"],
    )  # fmt: skip
    return run_table.Config(**{**values, **changes})


@pytest.mark.parametrize(
    ("gpus", "processes", "jobs", "expected"),
    [
        (["0", "3"], 1, 0, ["0", "3"]),
        (["0", "1", "2", "3", "4"], 2, 0, ["0,1", "2,3"]),
        (["0"], 2, 0, ["0"]),
        (["0", "1"], 1, 3, ["0", "1", "0"]),
    ],
)
def test_runs_side_by_side_have_gpus_of_their_own(monkeypatch, gpus, processes, jobs, expected):
    monkeypatch.setattr(run_table, "visible_gpus", lambda: gpus)
    places = run_table.environments(config(Path("."), jobs=jobs, processes=processes, device="auto"))
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == expected


def test_on_cores_each_run_has_one_thread(monkeypatch):
    monkeypatch.setattr(run_table, "cores", lambda: 5)
    assert run_table.environments(config(Path("."), processes=2)) == [{"OMP_NUM_THREADS": "1"}] * 2
    assert len(run_table.environments(config(Path("."), jobs=3, processes=2))) == 3


def test_a_table_compares_rows_by_one_method():
    with pytest.raises(UserError, match="fast_beam_search: a table compares rows by one method"):
        run_table.main(config(Path("."), command=["./run.sh", "--methods", "greedy_search,fast_beam_search"]))


@pytest.fixture
def recipe(tmp_path):
    script = tmp_path / "run.sh"
    script.write_text(STAND_IN.format(python=sys.executable, folder=tmp_path))
    script.chmod(0o755)
    (tmp_path / "failing").write_text("")
    for wrong in range(3):
        text = ["我", "欲", "去"]
        write_recogs(tmp_path / f"recogs{wrong}", [Recog(id, text, text[wrong:]) for id in IDS])
    for place, part, speakers in (("wav/mini_cuts", "test", SPEAKERS), ("text/mini_supervisions", "train", {"t": "x"})):
        with open_jsonl_for_writing(tmp_path / f"data/{place}_{part}.jsonl.gz") as items:
            for id, speaker in speakers.items():
                items.write({"id": id, "duration": 3600.0, "speaker": speaker, "text": "我欲去"})
    return tmp_path


def test_a_table_is_run_and_written_and_says_how_far_it_is(recipe, capsys):
    assert run_table.main(config(recipe)) == 0
    printed = capsys.readouterr().out
    assert "(7 of 7)" in printed and "context_size-4-seed2" in printed and "strict CER 66.67 %" in printed
    text = (recipe / "RESULTS.md").read_text(encoding="utf-8")
    row = cells_of(text, "stateless, 2 tokens")
    assert row[1:5] == ["mini-1.0h, 3 unseen speakers", "50.00 (33.33 to 66.67)", "50.00 to 50.00", "-"]
    assert row[5:] == ["2", f"`{recipe}/run.sh --table predictor --seeds 2 --methods greedy_search`", "abc", "20.94"]
    assert cells_of(text, "stateless, 4 tokens")[2:5] == ["0.00 (0.00 to 0.00)", "0.00 to 0.00",
                                                           "-100.0 % (-100.0 to -100.0)"]
    assert "pre-trained here on 0.4 h" in " ".join(text.split())


def test_a_failed_run_is_named_with_its_log_and_results_stay_as_they_were(recipe, capsys):
    (recipe / "failing").write_text("predictor-lstm-seed1")
    (recipe / "RESULTS.md").write_text("as it was")
    assert run_table.main(config(recipe)) == 1
    printed = capsys.readouterr().out.splitlines()
    why = "predictor-lstm-seed1  failed (exit status 1): run.sh: cannot do predictor-lstm-seed1"
    assert f"{why}; log: {recipe}/exp" in printed[-2]
    assert (recipe / "RESULTS.md").read_text() == "as it was"
    partial = (recipe / "exp/table-runs/incomplete-predictor.md").read_text(encoding="utf-8")
    assert "Missing: predictor-lstm-seed1." in partial and cells_of(partial, "LSTM, all tokens so far")[5] == "1"

    (recipe / "failing").write_text("")
    (recipe / "RESULTS.md").write_text("before\n")
    assert run_table.main(config(recipe)) == 0
    assert not (recipe / "exp/table-runs/incomplete-predictor.md").exists()
    assert (recipe / "RESULTS.md").read_text(encoding="utf-8").startswith("before\n\n<!-- table predictor on mini:")


def test_without_its_encoder_no_row_is_run(recipe, capsys):
    (recipe / "failing").write_text("tonal")
    assert run_table.main(config(recipe)) == 1
    assert capsys.readouterr().out.count("not run, as it needs encoder-tonal") == 12  # when it is known, and at the end
    assert not (recipe / "RESULTS.md").exists() and not list((recipe / "exp/table-runs").glob("*-seed*"))


def test_rows_on_different_test_sets_are_not_compared(recipe):
    write_recogs(recipe / "recogs0", [Recog(id, ["我"], ["我"]) for id in IDS[1:]])
    with pytest.raises(UserError, match="different test sets"):
        run_table.main(config(recipe))
    assert not (recipe / "RESULTS.md").exists()


def test_figures_beside_the_error_rate_come_from_the_scores(tmp_path):
    rates = {name: {"percent": rate} for name, rate in (("syllable", 7.0), ("surface-tone", 7.0), ("tone", 5.0))}
    tones = {"surface-tone": {"confusable": {"among_percent": 9.0}}, "tone": {"confusable": {"among_percent": 4.0}}}
    for phase, systems in (("phase1", ["tailo"]), ("phase2", ["hanlo", "tailo"])):
        made = tmp_path / phase / METHOD
        made.mkdir(parents=True)
        write_recogs(made / "recogs-test-x.txt", [Recog("a", ["我"], ["你"])])
        (tmp_path / phase / "decoded-test.txt").write_text(f"elsewhere/{METHOD}/recogs-test-x.txt\n")
        about = [{"script": script, "rates": rates, "tones": tones} for script in systems]
        (made / "scores-test-x.json").write_text(json.dumps({"systems": about}))
        (tmp_path / phase / "run.json").write_text(json.dumps({"commit": "abc"}))
    outcome = read_outcome(tmp_path, METHOD, list(MEASURES))
    assert outcome.percent == 100 and outcome.commit == "abc"
    assert outcome.also == {"phase1-syllable": 7.0, "phase1-surface-tone": 7.0, "phase1-surface-confusable": 9.0,
                            "phase1-tone": 5.0, "phase1-confusable": 4.0, "phase2-tone": 5.0,
                            "phase2-confusable": 4.0}
    del rates["tone"], tones["tone"]  # phase 1 on surface tones
    path = tmp_path / "phase1" / METHOD / "scores-test-x.json"
    path.write_text(json.dumps({"systems": [{"script": "tailo", "rates": rates, "tones": tones}]}))
    also = read_outcome(tmp_path, METHOD, ["phase1-tone", "phase1-confusable", "phase2-tone"]).also
    assert also == {"phase1-tone": None, "phase1-confusable": None, "phase2-tone": 5.0}
