"""Tables of recipes that learn from words: what they run, and what is read of the models that a run has made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.paper_tables.definition import Row, Table, read_definitions
from icefall_ext.score.paper_tables.plan import Asked, Plan, plan
from icefall_ext.score.paper_tables.section import Conditions, section
from icefall_ext.score.paper_tables.words import Words
from tests.report_toys import words_of

DEFINITIONS = read_definitions(Path(__file__).parents[2] / "egs/sita/tables.yaml")


def planned(name: str, corpus: str = "mini-taiwanese", seeds: int = 1, encoder: str = "pretrain", **given: str) -> Plan:
    asked = Asked("./run.sh", {"recipe": "sita", **given}, DEFINITIONS.always)
    return plan(DEFINITIONS.table(name, corpus), DEFINITIONS, asked, corpus, encoder, 18, Path("exp/x"), seeds)


def options_of(made: Plan, job: str) -> dict[str, str]:
    (command,) = [one.command for one in made.jobs if one.name == job]
    return dict(zip(command[1::2], command[2::2]))


def test_rows_that_are_the_same_system_are_one_run_in_one_table_and_in_several():
    made = planned("ablation", seeds=3)
    before, *_, both = [run for run in made.runs if run.seed == 2]
    assert (before.row.model, both.row.model) == ("before", "stage1") and before.job is both.job
    assert len(made.jobs) == 1 + 3 * 4, "an encoder, and four trainings for each seed"
    assert both.folder.name == "scheme-stage1-seed2"
    assert planned("layers").runs[0].folder.name == planned("transfer").runs[2].folder.name == "scheme-stage1-seed1"
    assert planned("loss").runs[0].folder.name == planned("staged").runs[0].folder.name == "default-seed1"


@pytest.mark.parametrize("name", ["ablation", "layers", "transfer"])
def test_tables_about_stage_1_train_no_teacher_and_no_stage_2(name):
    made = planned(name)
    assert "teacher" not in made.shared
    assert all(options_of(made, run.job.name)["--scheme"] == "stage1" for run in made.runs)


def test_a_teacher_is_trained_once_for_each_seed_on_an_encoder_that_is_pre_trained_once():
    made = planned("staged", seeds=2)
    assert [job.name for job in made.jobs] == [
        "encoder-pretrain", "teacher-train-seed1", "default-seed1", "scheme-single-seed1",
        "teacher-train-seed2", "default-seed2", "scheme-single-seed2",
    ]  # fmt: skip
    teacher, single = options_of(made, "teacher-train-seed2"), options_of(made, "scheme-single-seed2")
    assert (teacher["--stop-stage"], teacher["--train-seed"]) == ("6", "2")
    assert single["--teacher"] == teacher["--exp-dir"] + "/teacher"
    assert single["--encoder"] == teacher["--encoder"] == "exp/x/table-encoders/pretrain/encoder"


def test_the_other_language_is_made_and_learnt_by_the_table_itself():
    made = planned("transfer", "mini-mandarin", seeds=2, data_dir="data/here", word_bases="4")
    words, source = options_of(made, "word-taiwanese"), options_of(made, "source-taiwanese-seed2")
    assert (words["--stage"], words["--stop-stage"], words["--word-bases"]) == ("0", "4", "4")
    assert words["--data-dir"] == source["--data-dir"] == "exp/x/table-words/taiwanese/data"
    assert words["--word-language"] == source["--word-language"] == "taiwanese"
    assert source["--init-from"] == "" and source["--encoder"] == "exp/x/table-encoders/pretrain/encoder"
    (row,) = [run for run in made.runs if run.seed == 2 and run.row.name == "long-transfer"]
    assert row.job.after == ("encoder-pretrain", "source-taiwanese-seed2")
    of_row = options_of(made, row.job.name)
    assert of_row["--init-from"] == source["--exp-dir"] + "/stage1" and of_row["--data-dir"] == "data/here"
    names = [job.name for job in made.jobs]
    assert names.count("word-taiwanese") == 1 and "source-taiwanese-seed1" in names
    assert planned("transfer", "mini-taiwanese").shared["source"][0].name == "source-mandarin-seed1"


def test_an_encoder_that_is_given_is_not_pre_trained():
    assert planned("staged", encoder="random:tiny-mel").shared.keys() == {"teacher"}


# What is read


@pytest.fixture
def run(tmp_path) -> Path:
    words_of(tmp_path / "before", 0.01)
    words_of(tmp_path / "stage1", 0.5, batches=30)
    words_of(tmp_path / "stage2", 0.675, errors=True, batches=40)
    words_of(tmp_path / "single", 0.6, errors=True, batches=70)
    return tmp_path


def row(model: str) -> Row:
    return Row(model, model, model=model)


def test_a_row_has_the_figures_of_its_model_on_unseen_speakers_unless_it_is_said_otherwise(run):
    figures = Words(["hard", "hard@seen", "before:hard", "soft", "word", "speaker", "steps"])
    outcome = figures.read(run, row("stage2"))
    assert outcome.values == [0.675, 0.3375, 0.01, None, 51.25, 0.625, 70.0], "steps of both stages"
    assert outcome.gallery == (8, 8) and outcome.commit == "0123456789abcdef"
    assert figures.in_short(outcome) == "hard distance 0.675"
    assert Words(["steps"]).read(run, row("single")).values == [70.0]
    assert Words(["word", "steps"]).read(run, row("before")).values == [None, None]


def test_steps_of_several_batches_are_not_given_as_batches(run):
    (run / "stage2/config.yaml").write_text("train: {accumulate: 4}\n")
    assert Words(["steps"]).read(run, row("stage2")).values == [None]


def test_speakers_are_all_seen_where_none_is_new(run):
    path = run / "stage1/scores/words.json"
    content = json.loads(path.read_text())
    del content["sets"]["unseen"]
    path.write_text(json.dumps(content))
    assert Words(["hard"]).read(run, row("stage1")).values == [0.25]
    assert Words(["hard"]).tested({"a", "b"}, {"a", "b"}) == {"a", "b"}
    assert Words(["hard"]).tested({"a", "b"}, {"a"}) == {"b"}


@pytest.mark.parametrize(
    ("also", "message"),
    [([], "names no figure"), (["hardness"], "hardness: has to be one of base, cer, "), (["later:hard"], "later:hard")],
)
def test_figures_that_there_are_not_are_one_line(also, message):
    with pytest.raises(UsageError, match=message):
        Words(also)


def test_a_row_without_a_model_and_a_run_without_scores_are_one_line(run):
    with pytest.raises(UsageError, match="row x: model: has to be one of before"):
        Words(["hard"]).read(run, Row("x", "x"))
    with pytest.raises(UserError, match="words.json: missing or damaged"):
        Words(["hard"]).read(run, row("teacher"))


def written(figures: Words, folders: dict[str, list[Path]]) -> str:
    table = Table("t", "Is it?", [row("before"), row("stage2")], epochs=["stage 1"], note="And that.")
    seeds_of = {name: {seed: figures.read(folder, row(name)) for seed, folder in enumerate(of_row, start=1)}
                for name, of_row in folders.items()}  # fmt: skip
    conditions = Conditions("mini-x", 0.12, "2 unseen speakers", "mini", {"teacher": 3, "stage 1": 6}, "", "./run.sh")
    return section("t", table, DEFINITIONS.paper, seeds_of, figures.columns(seeds_of, "before", {}), conditions, [])


def test_a_section_compares_runs_of_the_same_seed_and_says_what_its_figures_are_of(tmp_path):
    seeds = [tmp_path / "1", tmp_path / "2"]
    for folder, hard in zip(seeds, (0.01, 0.03)):
        words_of(folder / "before", hard)
        words_of(folder / "stage2", 0.5 + 3 * hard, errors=True, batches=9)
    text = written(Words(["hard", "word", "top1", "speaker"]), {"before": seeds, "stage2": seeds})
    before, stage2 = ([cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith(
        ("| before", "| stage2")))
    assert before[3:8] == ["0.020 (0.010 to 0.030)", "-", "-", "0.500 (0.500 to 0.500)", "0.625 (0.625 to 0.625)"]
    assert stage2[3:6] == ["0.560 (0.530 to 0.590)", "+0.540 (+0.520 to +0.560)", "51.2 (51.2 to 51.2)"]
    note = " ".join(text.split())
    assert "6 epochs of stage 1 over 0.1 h" in note and "teacher" not in note, "what the table does not spend"
    assert "those of SITA (arXiv 2601.09050) are not known to us" in note and "And that." in note
    assert "a gallery of 8 recordings" in note and "right at 0.500 for the speaker" in note


def test_rows_on_different_test_sets_are_not_compared(run):
    path = run / "before/scores/words.json"
    path.write_text(path.read_text().replace('"gallery": 8', '"gallery": 9'))
    with pytest.raises(UserError, match="different test sets"):
        written(Words(["hard"]), {"before": [run], "stage2": [run]})
