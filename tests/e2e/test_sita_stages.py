"""`./run.sh --recipe sita` from nothing to its scores, with a few generated words and models of a thousand weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOP = """
encoder: {dropout: 0.0, mask_time_prob: 0.0}
train: {lr: 0.03, lr_warmup: 1, accumulate: 1, average_period: 1, log_every: 1}
workers: 0
"""
ENCODER = """
encoder: {source: "random:tiny-mel"}
prediction: {clusters: 4}
min_seconds: 0.1
valid_share: 0.2
train: {epochs: 1}
workers: 0
"""
BUDGET = """
conf_encoder=pretrain conf_frozen=0 conf_feature_layer=1 conf_avg=2
conf_teacher_epochs=2 conf_stage1_epochs=1 conf_stage2_epochs=1
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sita tiny")  # with a space, as some home folders have
    conf = folder / "conf"
    conf.mkdir()
    files = {"encoder.yaml": ENCODER, "budget.sh": BUDGET, **dict.fromkeys(
        ("teacher.yaml", "stage1.yaml", "stage2.yaml"), LOOP)}
    for name, content in files.items():
        (conf / name).write_text(content, encoding="utf-8")
    return folder


def run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    words = ["--word-language", "mandarin", "--word-bases", "2", "--word-speakers", "4", "--word-unseen", "2",
             "--word-takes", "1"]
    places = ["--conf", str(folder / "conf"), "--data-dir", str(folder / "data"), "--exp-dir", str(folder / "exp")]
    fixed = ["--recipe", "sita", "--nj", "1", "--threads", "1", "--python", sys.executable]
    environment = {k: v for k, v in os.environ.items() if k not in ("CALLED_AS", "PYTHON")}
    return subprocess.run(["./run.sh", *fixed, *words, *places, *options], cwd=ROOT, capture_output=True, text=True,
                          env=environment)


@pytest.fixture(scope="module")
def done(workplace) -> tuple[Path, str]:
    result = run(workplace, "--stage", "0", "--stop-stage", "9")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return workplace, result.stdout


def test_the_whole_recipe_ends_with_scores_of_every_model(done):
    folder, printed = done
    for stage in (0, 1, 4, 5, 6, 7, 8, 9):
        assert f"stage {stage}  done in" in printed
    assert "Top-1 F->M, gallery" in printed and "hard distance" in printed and "WER %, base and tone" in printed
    for name in ("before", "teacher", "stage1", "stage2"):
        scores = json.loads((folder / f"exp/{name}/scores/words.json").read_text(encoding="utf-8"))
        assert set(scores["sets"]) == {"seen", "unseen"} and scores["feature_layer"] == 1
        assert (folder / f"exp/{name}/scores/words.png").is_file()
        assert ("errors" in scores["sets"]["unseen"]) == (name in ("teacher", "stage2"))
    page = (folder / "exp/report/index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,iVBOR") == 4 and "src=\"http" not in page


def test_the_jobs_of_a_cluster_wait_for_what_they_read(workplace):
    result = run(workplace, "--cluster", "slurm", "--dry-run", "--gpus-per-node", "1")
    assert result.returncode == 0, result.stderr
    jobs = result.stdout.split("# sbatch")[1:]
    found = {}
    for job in jobs:
        first, *lines = job.splitlines()
        (number,) = re.findall(r"^run_job (\d)", job, flags=re.M)
        found[int(number)] = re.findall(r"<job of stage (\d)>", first), "#SBATCH --gpus-per-node=1" in lines
    assert found == {
        0: ([], False), 1: (["0"], False), 4: (["1"], False), 5: (["4"], True), 6: (["4", "5"], True),
        7: (["4", "5", "6"], True), 8: (["4", "5", "6", "7"], True), 9: (["4", "5", "6", "7", "8"], True),
    }  # fmt: skip


def test_a_second_run_does_nothing(done):
    folder, _ = done
    result = run(folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("up to date") == 8


def test_all_losses_at_once_take_a_teacher_that_was_given_and_leave_stage_1_out(done):
    folder, _ = done
    single = ["--exp-dir", str(folder / "single"), "--scheme", "single", "--encoder", str(folder / "exp/encoder"),
              "--teacher", str(folder / "exp/teacher"), "--frozen", "0", "--stage", "5"]
    result = run(folder, *single)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert (folder / "single/single/epoch-2.pt").is_file() and not (folder / "single/stage1").exists()
    scored = {path.parts[-3] for path in (folder / "single").glob("*/scores/words.json")}
    assert scored == {"before", "teacher", "single"}


def test_a_table_matches_steps_and_writes_its_section(done):
    """Real runs of all four rows: two trainings, and what a teacher and a model before training are."""
    folder, _ = done
    places = ["--encoder", "random:tiny-mel", "--results", str(folder / "RESULTS.md"), "--jobs", "1", "--seeds", "1"]
    result = run(folder, *places, "--table", "staged", "--stage", "5", "--stage1-epochs", "2")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    ended = next(line for line in result.stdout.splitlines() if " stage1_epochs-2-seed1  done in " in line)
    assert ", staged: WER %, base and tone " in ended and "; teacher: WER %" in ended, "each model that it has"
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    found = [dict(zip(header, row)) for row in rows]
    assert [row["row"].split(",")[0] for row in found] == [
        "stage 1", "all losses at once", "teacher", "before"]  # fmt: skip
    steps = [row["steps"] for row in found]
    assert steps[0] == steps[1] != "-" and steps[2:] == ["-", "-"]
    assert all(float(row["WER %, base and tone"]) > 0 for row in found[:3]) and found[3]["WER %, base and tone"] == "-"
    assert all(0 <= float(row["Top-1"]) <= 1 for row in found)
    assert {row["corpus, test set"] for row in found} == {"mini-mandarin-0.0h, 2 unseen speakers"}
    assert "2 epochs of stage 1" in " ".join(text.split())
    assert sorted(path.name for path in (folder / "exp/table-runs").iterdir() if path.is_dir()) == [
        "scheme-single-stage1_epochs-2-seed1", "stage1_epochs-2-seed1"]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vocab-size", "300"], "--vocab-size: unknown option (see --help)"),
        (["--frozen", "none"], "--frozen none: must be auto or a whole number"),
        (["--frozen", "3", "--feature-layer", "2"], "no block would learn in stage 1"),
        (["--cluster", "slurm", "--num-nodes", "2"], "a training of sita is one process, on one GPU at most"),
        (["--table", "2"], "--table 2: must be one of none, ablation, layers, staged, loss, transfer"),
        (["--table", "loss", "--tone-loss", "margin"], "--tone-loss margin: table loss sets that for its rows"),
        (["--corpus", "tat", "--corpus-dir", "."], "sita learns from isolated words; take mini, words or tone_perfect"),
        (["--conf", "no/such"], "no folder with a budget.sh; there is: mini paper"),
        (["--conf", "paper", "--encoder", "pretrain"], "egs/sita/conf/paper has no encoder.yaml that says how; take"),
        (["--teacher", "no/such"], "--teacher no/such: no epoch-*.pt there"),
        (["--init-from", "no/such"], "--init-from no/such: no epoch-*.pt there"),
        (["--parts", "dev,test"], "--parts: unknown option"),
        (["--word-unseen", "5"], "--word-unseen 5: even numbers, for as many women as men"),
        (["--tone-loss", "hinge"], "--tone-loss hinge: must be one of infonce, margin"),
    ],
)
def test_a_wrong_choice_is_one_line(workplace, options, message):
    result = run(workplace, *options)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
