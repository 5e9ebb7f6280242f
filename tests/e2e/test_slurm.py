"""`./run.sh --cluster slurm` on a real Slurm of one node, which the tests start and end (tests/slurm.py).

Without Slurm's programs these tests are left out by name (tests/conftest.py); with REQUIRE_SLURM=1, as .ci/run sets it,
they fail.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm import PACKAGES, Slurm, missing

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
LOOP = """
model: {predictor_dim: 16, joiner_dim: 16}
loss: {warm_batches: 4}
batch: {max_duration: 20}
train: {lr: LR, accumulate: 1, average_period: 1, save_every: 1000, log_every: 1}
workers: 0
"""
PHASE2_EPOCHS = 30  # long enough to be interrupted
BUDGET = f"conf_phase1_epochs=1\nconf_phase2_epochs={PHASE2_EPOCHS}\nconf_avg=1\nconf_source_hours=0\nconf_processes=1"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing():
        pytest.fail(f"needs {', '.join(missing())}: apt-get install --no-install-recommends {PACKAGES}")
    with Slurm(tmp_path_factory.mktemp("slurm")) as started:
        for name in ("CALLED_AS", "PYTHON"):
            started.environment.pop(name, None)
        yield started


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clift on slurm")  # with spaces, as some home folders have
    for name, rate in (("conf", "0.02"), ("wrong conf", "-1")):
        (folder / name).mkdir()
        for phase in ("phase1", "phase2"):
            (folder / name / f"{phase}.yaml").write_text(LOOP.replace("LR", rate))
        (folder / name / "budget.sh").write_text(BUDGET)
    return folder


class Recipe:
    def __init__(self, slurm: Slurm, folder: Path, exp: str, conf: str = "conf"):
        self.slurm, self.exp = slurm, folder / exp
        self.options = [
            "--mini-hours", "0.05", "--vocab-size", "300", "--nj", "1", "--fbank", "true", "--fbank-shares", "2",
            "--python", sys.executable, "--threads", "1", "--encoder", "random:tiny-mel", "--methods",
            "greedy_search,modified_beam_search", "--conf",
            str(folder / conf), "--data-dir", str(folder / "data"), "--exp-dir", str(self.exp)]

    def run(self, *options: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.slurm.run("./run.sh", *self.options, *options, check=check, cwd=ROOT)

    def submit(self, *options: str, check: bool = True) -> subprocess.CompletedProcess:
        resources = ["--partition", "normal", "--time", "30", "--cpus-per-process", "1"]
        return self.run("--cluster", "slurm", *resources, *options, check=check)

    def status(self) -> str:
        return self.run("--status").stdout

    def logs(self) -> str:
        return "".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in self.exp.glob("cluster/logs/*"))


def jobs_of(submitted: str) -> dict[str, str]:
    """Job by stage; the array of a stage comes before the job that concludes it."""
    found = re.findall(r"job (\d+)  stage (\d+)  (.*)", submitted)
    return {stage + ("-parts" if "parts" in title else ""): id for id, stage, title in found}


@pytest.fixture(scope="module")
def gone_through(slurm, workplace):
    """The whole recipe as jobs; in the middle of phase 2, a more urgent job takes the node."""
    recipe = Recipe(slurm, workplace, "exp")
    jobs = jobs_of(recipe.submit().stdout)
    waiting = {job: slurm.run("scontrol", "show", "job", job).stdout for job in jobs.values()}
    again = recipe.submit(check=False)
    training = recipe.exp / "phase2/epoch-1.pt"
    deadline = time.monotonic() + 1200  # all of it takes a minute on two idle cores
    while not training.exists():
        assert time.monotonic() < deadline and slurm.queue(), recipe.status() + recipe.logs()
        time.sleep(0.2)
    in_the_middle = recipe.status()
    urgent = workplace / "urgent.sh"
    urgent.write_text("#!/bin/bash\nsleep 1\n")
    slurm.run("sbatch", "--partition=urgent", "--exclusive", "--wait", f"--output={workplace}/urgent.log", str(urgent))
    reached = {int(path.stem.split("-")[1]) for path in (recipe.exp / "phase2").glob("epoch-*.pt")}
    slurm.wait_until_empty(1200)
    return recipe, jobs, waiting, again, in_the_middle, max(reached)


def test_the_recipe_goes_through_as_jobs(gone_through):
    recipe, jobs, *_ = gone_through
    assert list(jobs) == ["0", "1", "2", "3", "4-parts", "4", "5", "6", "7", "8-parts", "8", "9"]
    status = recipe.status()
    assert len(re.findall(r"^stage \d  .*: done", status, flags=re.M)) == 10, status + recipe.logs()
    assert "strict CER" in (recipe.exp / "report/index.html").read_text(encoding="utf-8")
    assert "strict CER" in (recipe.exp / f"cluster/logs/stage-9.{jobs['9']}.log").read_text()


def test_each_job_waits_for_those_whose_results_it_reads(gone_through):
    _, jobs, waiting, *_ = gone_through

    def before(stage: str) -> set[str]:
        return set(re.findall(r"afterok:(\d+)", waiting[jobs[stage]]))

    assert before("9") == {jobs["8"]} and before("8") == {jobs["8-parts"]} and before("8-parts") == {jobs["7"]}
    assert before("7") == {jobs["6"]} and jobs["4"] in before("6")
    assert before("4") == {jobs["4-parts"]} and before("4-parts") == {jobs["3"]}


def test_features_are_extracted_by_the_tasks_of_an_array_and_joined_by_the_stage(gone_through):
    recipe, jobs, *_ = gone_through
    logs = [(recipe.exp / f"cluster/logs/stage-4-parts.{jobs['4-parts']}_{task}.log").read_text() for task in (1, 2)]
    assert all(log.count("features of 1 of 1 shares extracted") == 3 for log in logs), logs
    whole = (recipe.exp / f"cluster/logs/stage-4.{jobs['4']}.log").read_text()
    assert whole.count("features of 0 of 2 shares extracted") == 3 and "stage 4  done in" in whole


def test_readings_are_decoded_by_the_tasks_of_an_array_and_put_together_by_the_stage(gone_through):
    recipe, jobs, *_ = gone_through
    of_task = f"cluster/logs/stage-8-parts.{jobs['8-parts']}_{{}}.log"
    logs = [(recipe.exp / of_task.format(task)).read_text() for task in range(1, 5)]
    wrote = [re.findall(r"wrote .*/(phase\d/\w+)/recogs", log) for log in logs]
    assert sorted(wrote) == [[f"phase{phase}/{method}"] for phase in (1, 2) for method in
                             ("greedy_search", "modified_beam_search")]
    whole = (recipe.exp / f"cluster/logs/stage-8.{jobs['8']}.log").read_text()
    assert whole.count("same model, cuts and options") == 4 and "stage 8  done in" in whole


def test_a_training_makes_room_and_goes_on_where_it_was(gone_through):
    recipe, jobs, *_, reached = gone_through
    log = (recipe.exp / f"cluster/logs/stage-7.{jobs['7']}.log").read_text()
    assert log.count("stage 7  phase 2") == 2 and "stage 7  done in" in log, log
    goes_on = re.search(r"goes on +\w+ batch \d+ of epoch (\d+)", log)
    assert goes_on and reached <= int(goes_on.group(1)) <= reached + 1 < PHASE2_EPOCHS, (reached, log)
    epochs = re.findall(r"epoch (\d+)/", log)
    assert epochs == [str(n + 1) for n in range(PHASE2_EPOCHS)], "none was trained twice, none left out"


def test_the_status_shows_how_far_a_training_is(gone_through):
    recipe, jobs, _, _, in_the_middle, _ = gone_through
    assert re.search(r"stage 7  phase 2: .*: running", in_the_middle), in_the_middle
    assert re.search(r"stage 9  score and report: waiting", in_the_middle), in_the_middle
    progress = rf"phase2: epoch \d+ of {PHASE2_EPOCHS}, batch \d+ of \d+, loss [\d.]+.*0:\d\d:\d\d to go"
    assert re.search(progress, in_the_middle), in_the_middle
    assert f"logs     {recipe.exp}/cluster/logs" in in_the_middle


def test_a_second_submission_into_a_folder_is_refused_while_the_first_is_in_the_queue(gone_through):
    *_, again, _, _ = gone_through
    assert again.returncode == 2 and "jobs of an earlier submission are in the queue" in again.stderr


def test_jobs_run_the_code_of_when_they_were_submitted_and_see_the_data_of_the_repository(gone_through):
    recipe, *_ = gone_through
    (code,) = recipe.exp.glob("cluster/code-*")
    assert not (code / "run.sh").is_symlink() and (code / "icefall_ext/bin/train.py").is_file()
    assert (code / "tests").resolve() == ROOT / "tests", "what is no code is linked"
    assert list(code.rglob("__pycache__")) == [] or not (code / "local/__pycache__").exists()


def test_a_failing_stage_stops_those_that_wait_for_it_and_says_why(slurm, workplace, gone_through):
    recipe = Recipe(slurm, workplace, "exp wrong", conf="wrong conf")
    recipe.submit("--stage", "6")
    slurm.wait_until_empty(300)
    status = recipe.status()
    why = r"exit status 2: run.sh: lr -1.0: must be above 0"
    assert re.search(rf"stage 6  .*: failed\n +job \d+ +failed: {why}", status), status
    assert re.search(r"; log .*/exp wrong/cluster/logs/stage-6\.\d+\.log", status)
    assert re.search(r"stage 7  .*: not run\n +job \d+ +dropped: stage 6 failed", status), status
    assert re.search(r"stage 9  .*: not run\n +job \d+ +dropped: stage 8 did not run", status), status
    assert not (recipe.exp / "phase2").exists()


def test_a_cancelled_job_does_not_come_back(slurm, workplace, gone_through):
    recipe = Recipe(slurm, workplace, "exp cancelled")
    job = jobs_of(recipe.submit("--stage", "7", "--stop-stage", "7", "--phases", "direct").stdout)["7"]
    deadline = time.monotonic() + 300
    while not (recipe.exp / "phase2/epoch-1.pt").exists():
        assert time.monotonic() < deadline, recipe.logs()
        time.sleep(0.2)
    slurm.run("scancel", job)
    slurm.wait_until_empty(120)
    time.sleep(1)
    assert slurm.queue() == {}
    assert "failed" in recipe.run("--status", "--phases", "direct").stdout


def test_srun_gives_launchers_and_processes_their_ranks(slurm, workplace):
    python = [sys.executable, "-m"]
    toy = ["tests.rank_toy", "sum"]
    for command in ([*python, "icefall_ext.bin.launch", "1", *toy], [*python, *toy]):
        result = slurm.run("srun", "--ntasks=2", "--kill-on-bad-exit=1", *command, cwd=ROOT)
        assert result.stdout == "2 processes, sum of ranks 1\n"
    failed = slurm.run("srun", "--ntasks=2", "--kill-on-bad-exit=1", *python, "tests.rank_toy", "fail", "1",
                       str(workplace), cwd=ROOT, check=False)
    assert failed.returncode and "the disk of this machine is on fire" in failed.stderr
    assert time.time() - (workplace / "hangs-0").stat().st_mtime < 60


def test_a_dry_run_prints_the_jobs_and_leaves_nothing_behind(slurm, workplace):
    recipe = Recipe(slurm, workplace, "exp dry")
    shown = recipe.submit("--dry-run", "--num-nodes", "2", "--gpus-per-node", "8").stdout
    assert shown.count("#SBATCH --nodes=2\n") == 2 and shown.count("#SBATCH --gpus-per-node=8\n") == 2
    assert "--processes 16" in shown and "--array=1-4" in shown and "afterok:<job of stage 7>" in shown
    assert not (recipe.exp / "cluster").exists() and slurm.queue() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "nowhere"], "--partition nowhere: no such partition; there is: normal urgent"),
        (["--num-nodes", "0"], "--num-nodes 0: must be at least 1"),
        (["--num-nodes", "5", "--processes", "5"], "--cluster slurm: "),  # more than there are: Slurm says so
        (["--table", "2"], "--table 2: its rows are runs of their own"),
        (["--part", "1/2"], "--part 1/2: has no use with --cluster slurm"),
        (["--processes", "3", "--num-nodes", "2"], "--processes 3: cannot be shared evenly by --num-nodes 2"),
    ],
)
def test_a_wrong_submission_is_one_line_and_nothing_is_queued(slurm, workplace, options, message):
    result = Recipe(slurm, workplace, "exp nothing").submit(*options, check=False)
    assert result.returncode == 2 and result.stderr.startswith(f"run.sh: {message}"), result.stderr
    assert result.stderr.count("\n") == 1 and slurm.queue() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "slurm"], "--cluster slurm: no sbatch on this machine"),
        (["--gpus-per-node", "8"], "--gpus-per-node 8: has no use without --cluster slurm"),
        (["--num-nodes", "2"], "--num-nodes 2: has no use without --cluster slurm"),
        (["--cluster", "slurm", "--time", "soon"], "--time soon: must be minutes"),
    ],
)
def test_without_a_cluster_its_options_are_refused(tmp_path, options, message):
    for name in ("bash", "env", "dirname", "basename", "getconf", "sed", "tr", "date"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")} | {"PATH": str(tmp_path)}
    result = subprocess.run(["./run.sh", *options], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith(f"run.sh: {message}"), result.stderr
    assert result.stderr.count("\n") == 1
