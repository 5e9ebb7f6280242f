"""What tables.yaml says, and the runs that are planned from it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from icefall_ext.bin import run_table
from icefall_ext.errors import UserError
from icefall_ext.score.paper_tables.definition import read_definitions
from icefall_ext.score.paper_tables.plan import Asked, plan
from icefall_ext.score.paper_tables.side_by_side import Job

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "egs/clift/tables.yaml"
DEFINITIONS = read_definitions(TABLES)
BY_RECIPE = {"clift": DEFINITIONS, "sita": read_definitions(ROOT / "egs/sita/tables.yaml")}


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
        "--threads": "1", "--methods": DEFINITIONS.always["methods"], "--phase2-epochs": "3", "--nj": "1",
        "--phases": "direct", "--freeze-phase1": "none", "--encoder": "exp/x/table-encoders/tonal/encoder",
        "--stage": "5", "--stop-stage": "9", "--exp-dir": "exp/x/table-runs/phases-direct-seed2", "--train-seed": "2",
    }  # fmt: skip


def test_rows_that_are_the_same_system_are_one_run_in_all_tables():
    folders = {(table, run.row.name): run.folder.name for table in DEFINITIONS.tables for run in planned(table).runs
               if run.seed == 1}
    assert folders["2", "tonal"] == folders["3", "direct"]
    assert folders["3", "two"] == folders["predictor", "context2"] == folders["sandhi", "citation"] == "default-seed1"
    assert folders["tone", "without"] == "default-seed1"
    assert folders["tone", "with"] == folders["syllables", "both"]
    assert len(set(folders.values())) == len(folders) - 5
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


def test_a_row_with_an_option_that_defaults_do_not_have_is_refused():
    """Rows that differ in it would be one run, and have its figures both."""
    definitions = read_definitions(ROOT / "egs/sita/tables.yaml")
    definitions.tables["loss"].rows[0].options["stage2_epochs"] = "3"
    with pytest.raises(UserError, match="--table loss: row infonce sets stage2_epochs, and defaults: has no such"):
        definitions.table("loss", "mini-taiwanese")
