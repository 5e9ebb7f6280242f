"""`./run.sh --table sandhi` with models of a few thousand weights: real runs of two rows, and the section they make."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_clift_stages import LOOP

ROOT = Path(__file__).parents[2]
BUDGET = "conf_phase1_epochs=1\nconf_phase2_epochs=1\nconf_avg=1\nconf_source_hours=0.02\nconf_processes=2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    (folder / "conf").mkdir()
    for name, content in (("phase1.yaml", LOOP), ("phase2.yaml", LOOP), ("budget.sh", BUDGET)):
        (folder / "conf" / name).write_text(content, encoding="utf-8")
    return folder


def run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    fixed = ["--mini-hours", "0.05", "--vocab-size", "300", "--nj", "2", "--python", sys.executable,
             "--encoder", "random:tiny-mel", "--methods", "greedy_search", "--seeds", "1", "--jobs", "2"]
    places = [word for name in ("conf", "data", "exp") for word in (f"--{name}{'' if name == 'conf' else '-dir'}",
                                                                   str(folder / name))]
    environment = {k: v for k, v in os.environ.items() if k not in ("CALLED_AS", "PYTHON")}
    return subprocess.run(["./run.sh", *fixed, *places, "--results", str(folder / "RESULTS.md"), *options], cwd=ROOT,
                          capture_output=True, text=True, env=environment)


def test_a_table_runs_its_rows_side_by_side_and_a_second_time_has_nothing_to_do(folder):
    result = run(folder, "--table", "sandhi")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    first = (folder / "RESULTS.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0][2:]: line.split(" | ") for line in first.splitlines() if line.startswith("| Tai-lo")}
    assert list(rows) == ["Tai-lo as written", "Tai-lo as spoken"]
    for name, cells in rows.items():
        assert cells[1] == "mini-0.1h, 2 unseen speakers" and float(cells[2]) > 0, name
        assert all(float(cell) >= 0 for cell in cells[5:8]), "the figures about tones"
    assert float(rows["Tai-lo as spoken"][4].split(" %")[0]) != 0, "other text, other result"
    for system in ("default", "sandhi-surface"):
        assert (folder / f"exp/table-runs/{system}-seed1/report/index.html").is_file()
        assert "stage 7  done in" in (folder / f"exp/table-runs/{system}-seed1.log").read_text(encoding="utf-8")

    again = run(folder, "--table", "sandhi", "--stage", "5")
    assert again.returncode == 0, again.stderr
    for system in ("default", "sandhi-surface"):
        log = (folder / f"exp/table-runs/{system}-seed1.log").read_text(encoding="utf-8")
        assert log.count("up to date") == 5
    assert (folder / "RESULTS.md").read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "9"], "--table 9: must be one of none, 2, 3, predictor, sandhi, tone, syllables"),
        (["--table", "3", "--phases", "two"], "--phases two: table 3 sets that for its rows (direct: direct, two: two"),
        (["--table", "3", "--train-seed", "7"], "--train-seed 7: the rows of a table take seeds from 1 on"),
    ],
)
def test_a_wrong_choice_is_one_line_before_anything_runs(folder, options, message):
    result = run(folder, *options)
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert "stage 0" not in result.stdout
