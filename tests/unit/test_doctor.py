from __future__ import annotations

import os
import subprocess
import sys

import pytest

from icefall_ext.bin.doctor import PACKAGES, Installed, problems

FITTING = {name: "1.0" for name in PACKAGES} | {"torch": "2.11.0+cu130", "torchaudio": "2.11.0", "lhotse": "1.33.0"}


def found(lane="default", broken=(), **versions):
    installed = Installed({**FITTING, **versions}, dict(broken))
    return problems(installed, lane)


def test_environment_that_fits_has_no_problem():
    assert found(numpy="2.4.1") == []
    assert found("k2", torch="1.13.1", torchaudio="0.13.1", numpy="1.26.4", k2="1.23.4") == []


@pytest.mark.parametrize(
    ("lane", "versions", "broken", "what", "mend"),
    [
        ("default", {"lhotse": "2.0.0rc1"}, {}, "lhotse 2.0.0rc1", "pip install 'lhotse>=1.33,<2'"),
        (
            "k2",
            {"torch": "1.13.1", "torchaudio": "0.13.1", "numpy": "2.1.0", "k2": "1"},
            {},
            "numpy 2.1.0",
            "'numpy<2'",
        ),
        ("default", {"torchaudio": "2.9.0"}, {}, "torchaudio 2.9.0 with torch", "'torchaudio==2.11.*'"),
        ("default", {"torch": "1.13.1"}, {}, "torchaudio 2.11.0 with torch 1.13.1", "'torchaudio==0.13.*'"),
        ("default", {"k2": "1.24.4"}, {"k2": "undefined symbol"}, "k2 1.24.4 does not load", "pip uninstall -y k2"),
        ("k2", {"torch": "1.13.1", "torchaudio": "0.13.1"}, {}, "this is the k2 lane", "local/env.sh --lane k2"),
    ],
)
def test_each_broken_combination_names_the_command_that_mends_it(lane, versions, broken, what, mend):
    (problem,) = found(lane, broken.items(), **versions)
    assert what in problem[0] and mend in problem[1]


def test_missing_package_comes_before_what_follows_from_it():
    installed = Installed(
        {k: v for k, v in FITTING.items() if k != "soundfile"}, {"lhotse": "No module named soundfile"}
    )
    (problem,) = problems(installed, "default")
    assert "not installed: soundfile" in problem[0] and "local/env.sh" in problem[1]


def run_doctor(**environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "icefall_ext.bin.doctor"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_doctor_says_what_is_here_and_what_would_run():
    result = run_doctor(LANE="default")
    assert result.returncode == 0, result.stdout + result.stderr
    for word in (
        "Python",
        "torch",
        "lhotse",
        "k2",
        "GPU",
        "cores, memory",
        "disk",
        "loss",
        "search",
        "everything fits",
    ):
        assert word in result.stdout
    assert len(result.stdout.splitlines()) <= 25, "one screen"


def test_k2_binary_that_does_not_load_is_found_where_it_really_stands(tmp_path):
    (tmp_path / "k2").mkdir()
    (tmp_path / "k2/__init__.py").write_text("raise ImportError('_k2.so: undefined symbol: _ZN3c10')")
    (tmp_path / "k2-9.9.dist-info").mkdir()
    (tmp_path / "k2-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: k2\nVersion: 9.9\n")
    result = run_doctor(PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]), LANE="default")
    assert result.returncode == 1
    assert "k2 9.9 does not load: _k2.so: undefined symbol" in result.stdout and "uninstall -y k2" in result.stdout
