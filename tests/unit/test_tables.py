"""Tables of a recipe: what they run, what becomes of runs that fail, and what is written of those that do not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
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
from icefall_ext.score.paper_tables.plan import Asked, plan
from icefall_ext.score.paper_tables.recognition import MEASURES, Outcome, Recognition, read_outcome
from icefall_ext.score.paper_tables.section import Conditions, put_section, section
from icefall_ext.score.paper_tables.side_by_side import LEFT_OUT, Job, run_side_by_side

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "egs/clift/tables.yaml"
DEFINITIONS = read_definitions(TABLES)
BY_RECIPE = {"clift": DEFINITIONS, "sita": read_definitions(ROOT / "egs/sita/tables.yaml")}
IDS = [f"u{number}" for number in range(6)]
METHOD = DEFINITIONS.always["methods"]
SPEAKERS = {id: f"s{number // 2}" for number, id in enumerate(IDS)}


# What tables.yaml says


def help_of(recipe: str) -> str:
    command = ["./run.sh", "--recipe", recipe, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def help_text():
    return help_of("clift")


CORPORA = {"clift": ("mini", "tat"), "sita": ("mini-taiwanese", "mini-mandarin", "words")}
ALL_TABLES = [(recipe, name) for recipe, definitions in BY_RECIPE.items() for name in definitions.tables]


@pytest.mark.parametrize(("recipe", "name"), ALL_TABLES)
def test_every_row_uses_options_and_values_that_run_sh_has(recipe, name):
    definitions, text = BY_RECIPE[recipe], help_of(recipe)
    assert len({row.name for row in definitions.tables[name].rows}) == len(definitions.tables[name].rows) >= 2
    for corpus in CORPORA[recipe]:
        if (recipe, name, corpus) == ("sita", "transfer", "words"):
            with pytest.raises(UserError, match="table transfer: nothing to compare on words; its rows are for mini"):
                definitions.table(name, corpus)
            continue
        table = definitions.table(name, corpus)
        run_table.figures_of(definitions, table, Asked("./run.sh", {}, definitions.always))  # knows what is in `also`
        rows = [row.options_for(corpus) for row in table.rows]
        systems = {(*options.items(), row.longer, row.model) for options, row in zip(rows, table.rows)}
        assert len(systems) == len(rows), "the same"
        assert len({frozenset(options) for options in rows}) == 1, "a row leaves open what another one sets"
        given = {"recipe": recipe, "corpus": corpus.partition("-")[0], "corpus_dir": "."}
        command = Asked("./run.sh", given, definitions.always).command
        for options in {tuple(options.items()): options for options in rows}.values():
            for option in options:
                assert f"  --{option.replace('_', '-')} " in text
            # What bash makes of the values, without running anything.
            result = subprocess.run([*command(options), "--list-stages"], cwd=ROOT, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("recipe", BY_RECIPE)
def test_run_sh_offers_the_tables_of_the_file(recipe):
    assert f"(none, {', '.join(BY_RECIPE[recipe].tables)}; default none)" in help_of(recipe)


def test_encoders_of_the_mini_corpus_are_those_that_its_settings_pre_train():
    settings = (ROOT / "egs/clift/conf/mini/encoder.yaml").read_text(encoding="utf-8")
    random = DEFINITIONS.tables["2"].rows[-1].options_for("mini")["encoder"]
    assert re.search(rf"source: {random}$", settings, flags=re.M), "an untrained encoder of another size proves nothing"


def test_a_wrong_key_in_the_file_is_one_line(tmp_path):
    path = tmp_path / "tables.yaml"
    path.write_text(TABLES.read_text(encoding="utf-8").replace("question:", "answer:"), encoding="utf-8")
    with pytest.raises(UserError, match="answer"):
        read_definitions(path)


# What is run


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        ("2", {"phases": "two"}, "--phases two: table 2 sets that for its rows (tonal: direct"),
        ("3", {"freeze_phase1": "all"}, "--freeze-phase1 all: table 3 sets that"),
        ("3", {"train_seed": "5"}, "--train-seed 5"),
        ("3", {"stop_stage": "7"}, "--stop-stage 7"),
        ("3", {"stage": "7"}, "--stage 7"),
    ],
)
def test_options_that_contradict_a_table_are_refused(table, given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Asked("./run.sh", given).check(table, DEFINITIONS.tables[table], "mini")


def test_a_table_compares_rows_by_one_method():
    with pytest.raises(UserError, match="fast_beam_search: a table compares rows by one method"):
        run_table.main(config(Path("."), command=["./run.sh", "--methods", "greedy_search,fast_beam_search"]))


def test_options_that_agree_with_a_table_or_have_nothing_to_do_with_it_are_taken():
    given = {"phases": "direct", "phase2_epochs": "2", "stage": "5", "stop_stage": "9", "methods": "greedy_search"}
    Asked("./run.sh", given).check("2", DEFINITIONS.tables["2"], "mini")


def planned(name="2", corpus="mini", encoder="tonal", seeds=2, **given):
    words = ["./run.sh", *(word for k, v in given.items() for word in (f"--{k.replace('_', '-')}", v))]
    asked = Asked.of(words, DEFINITIONS.always)
    return plan(DEFINITIONS.table(name, corpus), DEFINITIONS, asked, corpus, encoder, 16, Path("exp/x"), seeds)


def options_of(job: Job) -> dict[str, str]:
    return dict(zip(job.command[1::2], job.command[2::2]))


def test_each_language_is_pre_trained_once_and_only_the_rows_that_need_it_wait():
    made = planned()
    assert [job.name for job in made.shared["encoder"]] == ["encoder-tonal", "encoder-nontonal"]
    systems = ["phases-direct" + encoder for encoder in ("", "-encoder-nontonal", "-encoder-random_mel-mini")]
    assert [run.job.name for run in made.runs] == [f"{system}-seed{seed}" for seed in (1, 2) for system in systems]
    assert [run.job.after for run in made.runs[:3]] == [("encoder-tonal",), ("encoder-nontonal",), ()]
    assert options_of(made.runs[0].job)["--encoder"] == options_of(made.jobs[0])["--exp-dir"] + "/encoder"
    assert options_of(made.jobs[0])["--stop-stage"] == "5"


def test_a_run_has_its_own_folder_and_seed_one_thread_and_what_was_given():
    run = planned("3", table="3", stage="5", results="r.md", phase2_epochs="3", nj="1").runs[4]
    assert run.job.name == "phases-direct-seed2" and run.job.log == Path("exp/x/table-runs/phases-direct-seed2.log")
    assert options_of(run.job) == {
        "--threads": "1", "--methods": METHOD, "--phase2-epochs": "3", "--nj": "1",
        "--phases": "direct", "--freeze-phase1": "none", "--encoder": "exp/x/table-encoders/tonal/encoder",
        "--stage": "5", "--stop-stage": "9", "--exp-dir": "exp/x/table-runs/phases-direct-seed2", "--train-seed": "2",
    }  # fmt: skip


def test_rows_that_are_the_same_system_are_one_run_in_all_tables():
    folders = {(table, run.row.name): run.folder.name for table in DEFINITIONS.tables for run in planned(table).runs
               if run.seed == 1}
    assert folders["2", "tonal"] == folders["3", "direct"]
    assert folders["3", "two"] == folders["predictor", "context2"] == folders["sandhi", "citation"] == "default-seed1"
    assert folders["tone", "without"] == "default-seed1"
    assert len(set(folders.values())) == len(folders) - 4
    with_lstm = planned("3", predictor="lstm").runs
    assert [run.folder.name for run in with_lstm[:2]] == ["phases-direct-predictor-lstm-seed1", "predictor-lstm-seed1"]


def test_rows_with_tone_losses_share_the_syllables_of_their_seed_and_the_others_wait_for_none():
    table = planned("tone")
    (of_first, of_second) = table.shared["aligner"]
    assert options_of(of_first)["--stop-stage"] == "6" and options_of(of_first)["--phases"] == "direct"
    assert options_of(of_first)["--aligner"] == "here" and options_of(of_second)["--train-seed"] == "2"
    for run in table.runs:
        options = options_of(run.job)
        if run.row.name == "without":
            assert "aligner" not in str(run.job.after) and "--aligner" not in options
        else:
            assert f"aligner-here-seed{run.seed}" in run.job.after
            assert options["--aligner"] == f"exp/x/table-aligners/here-seed{run.seed}/alignments.jsonl.gz"


def test_the_row_of_equal_length_has_the_epochs_of_both_phases():
    *others, longer = planned("3", phase2_epochs="10", seeds=1).runs
    assert options_of(longer.job)["--phase2-epochs"] == "16" and longer.folder.name == "phases-direct-longer-seed1"
    assert {options_of(run.job)["--phase2-epochs"] for run in others} == {"10"}


@pytest.mark.parametrize("recipe", BY_RECIPE)
def test_the_defaults_of_the_tables_are_those_of_run_sh(recipe):
    definitions, text = BY_RECIPE[recipe], help_of(recipe)
    rows = [row for table in definitions.tables.values() for row in table.rows]
    given = {option for row in rows for options in (row.options, *row.by_corpus.values()) for option in options}
    shared = {one.option for one in definitions.shared.values()}
    assert given - {"encoder"} <= definitions.defaults.keys() <= given | shared
    for option, value in definitions.defaults.items():
        (line,) = (line for line in text.splitlines() if f"  --{option.replace('_', '-')} " in line)
        assert line.endswith(f"default {value})") if value else "default" not in line, line


def test_published_encoders_are_named_and_nothing_is_pre_trained():
    made = planned(corpus="tat", encoder="chinese-hubert-base")
    assert made.shared == {}
    assert [options_of(run.job)["--encoder"] for run in made.runs[:3]] == [
        "chinese-hubert-base", "hubert-base-ls960", "random:hubert-base"]  # fmt: skip


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


# How it is run


def shell(name: str, script: str, folder: Path, after: str = "") -> Job:
    return Job(name, ["bash", "-c", script], folder / f"{name}.log", (after,) if after else ())


def test_one_that_fails_is_named_with_its_last_words_and_the_others_go_on(tmp_path):
    jobs = [shell("bad", "echo why; echo 'x: the same command continues there'; exit 3", tmp_path),
            shell("needs-bad", "echo never", tmp_path, after="bad"), shell("good", "echo $PLACE", tmp_path)]
    heard = []
    ended = {one.job.name: one for one in run_side_by_side(jobs, [{"PLACE": "here"}], heard.append)}
    assert {name: one.status for name, one in ended.items()} == {"bad": 3, "needs-bad": LEFT_OUT, "good": 0}
    assert ended["bad"].why == f"failed (exit status 3): why; log: {tmp_path / 'bad.log'}"
    assert ended["needs-bad"].why == "not run, as it needs bad" and not (tmp_path / "needs-bad.log").exists()
    assert (tmp_path / "good.log").read_text().splitlines()[-1] == "here"
    assert len(heard) == 3


def test_as_many_run_at_once_as_there_are_places_and_a_needed_one_comes_first(tmp_path):
    count = f"touch {tmp_path}/on-$$; ls {tmp_path}/on-* | wc -l; sleep 0.3; rm {tmp_path}/on-$$"
    jobs = [shell("first", "sleep 0.3; touch first-is-done", tmp_path),
            shell("second", "test -e first-is-done", tmp_path, after="first"),
            *(shell(f"job{number}", count, tmp_path) for number in range(4))]
    jobs = [replace(job, command=[*job.command[:2], f"cd {tmp_path}; {job.command[2]}"]) for job in jobs]
    assert [one.status for one in run_side_by_side(jobs, [{}] * 2, lambda _: None)] == [0] * 6
    at_once = [int((tmp_path / f"job{number}.log").read_text().splitlines()[-1]) for number in range(4)]
    assert max(at_once) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_that_was_started(tmp_path, number):
    program = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from icefall_ext.score.paper_tables.side_by_side import Job, run_side_by_side
script = "sleep 60 & echo $! >child; touch started; wait"
run_side_by_side([Job("one", ["bash", "-c", "cd {tmp_path}; " + script], Path("{tmp_path}/one.log"))], [{{}}], print)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "started").exists)
    parent.send_signal(number)
    assert parent.wait(15) != 0
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))


def wait_until(true, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


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
