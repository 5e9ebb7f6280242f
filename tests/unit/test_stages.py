"""Options and stages as run.sh uses them, driven through bash on a recipe of the test's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """\
set -euo pipefail
CALLED_AS=run.sh about="a test" list_stages=false
. {root}/local/parse_options.sh
. {root}/local/stages.sh
python() {{ {python} "$@"; }}
section "All"
option stage 0 int "first stage"
option stop_stage 9 int "last stage"
option force "" stages "stages to run again"
option verbose false bool "print commands"
option size 3 "int>=2" "a size"
option rate 0.5 number "a rate"
option kind a "a|b" "a kind"
option other "" text "not named by any stage"
parse_options "$@"
stages_dir=stages
trap stage_failed EXIT
if stage 0 "copy" --reads in.txt --writes out.txt --options size; then
  run cp in.txt out.txt
  echo ran 0
fi
if stage 1 "copy again" --reads out.txt --writes last.txt --options kind; then
  run cp out.txt last.txt
  [ "$kind" = a ] || false
  echo ran 1
fi
close_stage
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "in.txt").write_text("one\n")
    (tmp_path / "recipe.sh").write_text(SCRIPT.format(root=ROOT, python=sys.executable))

    def run(*args: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            ["bash", "recipe.sh", *args], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    run.folder = tmp_path
    return run


def stages_run(result: subprocess.CompletedProcess) -> list[str]:
    assert result.returncode == 0, result.stderr
    return [line[4:] for line in result.stdout.splitlines() if line.startswith("ran ")]


def test_stages_run_once_and_say_why_they_do_not_run_again(recipe):
    assert stages_run(recipe()) == ["0", "1"]
    again = recipe()
    assert stages_run(again) == []
    assert again.stdout.count("up to date") == 2


def test_changed_option_runs_only_the_stage_that_names_it(recipe):
    recipe()
    changed = recipe("--size", "4")
    assert stages_run(changed) == ["0"]
    assert "--size changed: 3 -> 4" in changed.stdout
    assert stages_run(recipe("--size", "4", "--other", "x")) == []


def test_changed_input_runs_what_depends_on_it_but_equal_content_stops_there(recipe):
    recipe()
    (recipe.folder / "in.txt").write_text("two\n")
    assert stages_run(recipe()) == ["0", "1"]
    (recipe.folder / "in.txt").touch()
    assert stages_run(recipe()) == []
    assert stages_run(recipe("--force", "1,0")) == ["0", "1"]
    assert stages_run(recipe("--force", "0")) == ["0"], "the same bytes came out, so stage 1 still holds"


def test_output_that_is_missing_or_changed_by_hand_is_made_again(recipe):
    recipe()
    (recipe.folder / "last.txt").unlink()
    assert stages_run(recipe()) == ["1"]
    (recipe.folder / "last.txt").write_text("edited")
    assert stages_run(recipe()) == ["1"]


def test_stage_that_failed_is_not_up_to_date(recipe):
    failed = recipe("--kind", "b")
    assert failed.returncode == 1
    assert "stage 1 stopped (exit status 1); the same command continues there" in failed.stderr
    assert "ran 0" in failed.stdout
    assert stages_run(recipe("--kind", "a")) == ["1"]


def test_stage_that_did_not_write_what_it_promised_stops_the_run(recipe):
    script = recipe.folder / "recipe.sh"
    script.write_text(script.read_text().replace("run cp in.txt out.txt", "run true"))
    result = recipe()
    assert result.returncode == 1 and "out.txt: the stage 'copy' ended well but did not write it" in result.stderr
    assert "stage 0  done" not in result.stdout and "stage 1" not in result.stdout


def test_first_and_last_stage_select(recipe):
    assert stages_run(recipe("--stop-stage", "0")) == ["0"]
    assert stages_run(recipe("--stage=1")) == ["1"]


def test_missing_input_names_it_and_the_way_out(recipe):
    result = recipe("--stage", "1")
    assert result.returncode == 1
    assert "stage 1 (copy again) reads out.txt: no such file or folder; run the stages before it" in result.stderr


def test_change_behind_a_link_to_a_folder_is_seen_and_a_circle_ends(recipe):
    script = recipe.folder / "recipe.sh"
    script.write_text(script.read_text().replace("--reads in.txt", "--reads corpus"))
    for name in ("disk", "corpus"):
        (recipe.folder / name).mkdir()
    (recipe.folder / "disk/a.wav").write_text("one")
    (recipe.folder / "corpus/train").symlink_to(recipe.folder / "disk")
    (recipe.folder / "corpus/again").symlink_to(recipe.folder / "corpus")
    (recipe.folder / "corpus/itself").symlink_to("itself")
    assert stages_run(recipe()) == ["0", "1"]
    assert stages_run(recipe()) == []
    (recipe.folder / "disk/a.wav").write_text("another")
    assert stages_run(recipe()) == ["0"]


def test_damaged_marker_counts_as_none(recipe):
    recipe()
    (recipe.folder / "stages" / "0.json").write_text("{")
    assert stages_run(recipe()) == ["0"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sise", "3"], "run.sh: --sise: unknown option"),
        (["--size"], "run.sh: --size: needs a value"),
        (["--size", "--kind", "a"], "run.sh: --size: needs a value"),
        (["--size", "1"], "run.sh: --size 1: must be at least 2"),
        (["--size=x"], "run.sh: --size x: must be a whole number"),
        (["--rate", "1.2.3"], "run.sh: --rate 1.2.3: must be a number"),
        (["--kind", "c"], "run.sh: --kind c: must be one of a, b"),
        (["--verbose", "yes"], "run.sh: --verbose yes: must be true or false"),
        (["size"], "run.sh: size: not an option"),
        (["--stage", "9999999999"], "run.sh: --stage 9999999999: must be a whole number"),
        (["--stage stop_stage", "3"], "run.sh: --stage stop_stage: unknown option"),
        (["--force", "first"], "run.sh: --force first: must be numbers of stages, or all"),
        (["--=3"], "run.sh: --: unknown option"),
    ],
)
def test_wrong_option_is_one_line_and_exit_status_2(recipe, args, message):
    result = recipe(*args)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1


def test_values_are_never_evaluated_by_the_shell(recipe):
    assert stages_run(recipe("--other", "$(touch evil)`touch evil`; touch evil")) == ["0", "1"]
    assert not (recipe.folder / "evil").exists()


@pytest.fixture
def bare(tmp_path):
    """The scripts alone, with a Python that satisfies nothing and no package index to ask."""
    for name in ("local", "egs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("run.sh", "prepare.sh", "requirements.txt", "requirements-k2.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def in_bare(bare: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {
        k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHON", "LANE", "CALLED_AS", "PYTHONPATH")
    }
    return subprocess.run(command, cwd=bare, capture_output=True, text=True, env={**clean, **environment})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["./run.sh", "--nope"], "run.sh: --nope: unknown option"),
        (["./run.sh", "--corpus", "tat"], "run.sh: --corpus tat: needs --corpus-dir"),
        (["./run.sh", "--corpus", "tat", "--corpus-dir", "nowhere"], "run.sh: --corpus-dir nowhere: no such folder"),
        (
            ["./run.sh", "--corpus-dir", "a\nb"],
            "run.sh: --corpus-dir, --data-dir",
        ),
        (["./run.sh", "--parts", "dev,test"], "run.sh: --parts dev,test: stage 3 learns from train"),
        (["./run.sh", "--recipe"], "run.sh: --recipe: needs a value"),
        (["./run.sh", "--recipe", "nothing"], "run.sh: --recipe nothing: no egs/nothing/stages.sh; there is:"),
        (["./run.sh", "--stage", "4", "--stop-stage", "2"], "run.sh: --stage 4: is after --stop-stage 2"),
        (["./prepare.sh", "--stop-stage", "7"], "prepare.sh: --stop-stage 7: the last stage here is 4"),
        (["./run.sh", "--python", "no-python"], "run.sh: --python no-python: no such program"),
        (["local/env.sh", "--lane", "k3"], "local/env.sh: --lane k3: must be default or k2"),
    ],
)
def test_wrong_start_is_one_line_before_anything_is_built(bare, command, message):
    result = in_bare(bare, *command)
    assert result.returncode == 2 and result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert not (bare / ".venv").exists()


@pytest.mark.parametrize("script", ["./run.sh", "./prepare.sh"])
def test_help_and_list_stages_need_no_environment(bare, script):
    helped = in_bare(bare, script, "--help")
    assert helped.returncode == 0 and "--mini-hours" in helped.stdout and "--lane" in helped.stdout
    listed = in_bare(bare, script, "--list-stages", PATH="/usr/bin:/bin")
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()][:5] == ["0", "1", "2", "3", "4"]
    assert not (bare / ".venv").exists() and not (bare / "data").exists()


def test_environment_that_satisfies_the_requirements_is_taken_as_it_is(bare):
    (bare / "requirements.txt").write_text("omegaconf>=2\n")
    result = in_bare(bare, "local/env.sh", "--python", sys.executable)
    assert result.returncode == 0 and sys.executable in result.stdout
    assert not (bare / ".venv").exists()


def test_relative_path_is_meant_from_where_the_command_is_typed(bare, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("else where")
    result = in_bare(elsewhere, str(bare / "run.sh"), "--corpus", "tat", "--corpus-dir", "mine", CDPATH=str(bare))
    assert result.returncode == 2 and result.stderr == f"run.sh: --corpus-dir {elsewhere}/mine: no such folder\n"
    (elsewhere / "data").write_text("a file")
    (bare / "requirements.txt").write_text("omegaconf>=2\n")
    options = ["--data-dir", "data", "--python", sys.executable]
    result = in_bare(elsewhere, str(bare / "run.sh"), *options)
    assert result.returncode == 2 and f"run.sh: --data-dir {elsewhere}/data" in result.stderr
    assert result.stderr.count("\n") == 1


def test_python_that_is_given_and_is_not_enough_is_named(bare):
    """Else a run with --python .venv-k2/bin/python would be one of the default lane, and nobody would know."""
    asked, built = bare / "asked", bare / ".venv/bin/python"
    built.parent.mkdir(parents=True)
    for python in (asked, built):
        python.symlink_to(Path(sys.executable).resolve())
    (bare / "requirements.txt").write_text("no-such-package-as-this>=99\n")
    digest = subprocess.run("cat requirements.txt | cksum | tr ' ' '-'", cwd=bare, shell=True, capture_output=True)
    (bare / ".venv/.satisfies-run").write_bytes(digest.stdout)
    result = in_bare(bare, "local/env.sh", "--python", str(asked))
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"{asked} alone is not enough for the default lane; in use: {built}\n"


def test_program_that_is_no_python_is_not_taken_for_one(bare):
    result = in_bare(bare, "./run.sh", "--python", "/bin/true")
    assert result.returncode == 2 and "no Python 3.10 to 3.14" in result.stderr


def test_interrupt_while_the_environment_is_looked_for_ends_the_run(bare):
    """A Python that is interrupted as it starts looks like one that does not fit."""
    (bare / "python").write_text("#!/bin/bash\ntrap '' INT\nkill -INT 0\nexit 1\n")
    (bare / "python").chmod(0o755)
    command = [str(bare / "run.sh"), "--python", str(bare / "python")]
    result = subprocess.run(command, cwd=bare, capture_output=True, text=True, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a job of nohup has none
    assert (result.returncode, result.stdout) == (130, "")
    assert not (bare / ".venv").exists() and not (bare / "data").exists()


def test_environment_is_built_in_a_folder_with_spaces(bare, tmp_path):
    spaced = tmp_path / "my own copy"
    bare.mkdir(exist_ok=True)
    shutil.copytree(bare / "local", spaced / "local")
    (spaced / "requirements.txt").write_text("no-such-package-as-this>=99\n")
    result = in_bare(spaced, "local/env.sh", "--python", sys.executable, PIP_NO_INDEX="1")
    assert "no-such-package-as-this" in result.stderr, "pip got as far as the file"


def test_build_that_fails_says_what_and_where_the_log_is_and_leaves_no_stamp(bare):
    (bare / "requirements.txt").write_text("no-such-package-as-this>=99\n")
    result = in_bare(bare, "local/env.sh", "--python", sys.executable, PIP_NO_INDEX="1")
    assert result.returncode == 2
    assert "pip could not install" in result.stderr and "install.log" in result.stderr
    assert not list((bare / ".venv").glob(".satisfies*"))


def wheel(folder: Path, name: str, module: str) -> str:
    """Writes a wheel of a package k2, version 9.9, adds it to the page of links and returns its hash."""
    files = {"k2/__init__.py": module, "k2-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: k2\nVersion: 9.9\n",
             "k2-9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    record = "".join(f"{file},,\n" for file in (*files, "k2-9.9.dist-info/RECORD"))
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file, content in {**files, "k2-9.9.dist-info/RECORD": record}.items():
            archive.writestr(file, content)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    with (folder / "index.html").open("a") as page:
        page.write(f'<a href="{name}#sha256={digest}">{name}</a>\n')
    return digest


@pytest.mark.k2
def test_wheel_of_k2_is_the_one_that_is_named_whatever_pip_would_take(bare, tmp_path_factory):
    """k2 names the wheels of all Pythons as if each suited them all."""
    wheels = tmp_path_factory.mktemp("wheels")
    modules = {"py3.8": "made_for = '3.8'", "py3.10": "made_for = '3.10'", "py3.9": "import _k2"}
    hashes = {tag: wheel(wheels, f"k2-9.9-{tag}-none-any.whl", module) for tag, module in modules.items()}

    def build(tag: str) -> subprocess.CompletedProcess:
        (bare / "requirements-k2.txt").write_text(f"k2==9.9   # sha256:{hashes[tag]}\n")
        command = ["local/env.sh", "--lane", "k2", "--python", sys.executable, "--", "python", "-c"]
        return in_bare(bare, *command, "import k2; print(k2.made_for)", PIP_NO_INDEX="1",
                       PIP_FIND_LINKS=str(wheels / "index.html"))

    for tag in ("py3.8", "py3.10"):
        result = build(tag)
        assert result.returncode == 0 and result.stdout.splitlines()[-1] == tag[2:], result.stdout + result.stderr
    for _ in range(2):  # nor does an environment without a k2 that loads count as built
        result = build("py3.9")
        assert result.returncode == 2 and "k2 is installed and does not load: ModuleNotFoundError: " in result.stderr
