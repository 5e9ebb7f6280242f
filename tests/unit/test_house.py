"""The order of the house: imports go one way, files are short, the documents tell the truth about what is there."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each room may import from the rooms before it, and from itself.
ROOMS = ("", "text", "corpora", "data", "encoders", "transducer", "tone", "align", "optim", "distributed", "train",
         "score", "decode", "bin")
MODULES = sorted((ROOT / "icefall_ext").rglob("*.py"))
READABLE_IN_ONE_SITTING = 450


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "icefall_ext" / parts[1]).is_dir() else ""


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Modules that a file imports; with `at_import` only those that run when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found, pending = set(), [tree]
    while pending:
        node = pending.pop()
        if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = room_of(name_of(path))
    for module in imports(path):
        if module.startswith("icefall_ext."):
            assert ROOMS.index(room_of(module)) <= ROOMS.index(here), f"{here or 'the root'} imports {module}"


@pytest.mark.parametrize("room", ["", "text", "corpora"])
def test_rooms_that_start_in_a_blink_import_neither_torch_nor_lhotse(room):
    for path in (path for path in MODULES if room_of(name_of(path)) == room):
        heavy = {name.split(".")[0] for name in imports(path, at_import=True)} & {"torch", "lhotse", "torchaudio"}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_every_file_can_be_read_in_one_sitting():
    code = [*MODULES, *ROOT.glob("*.sh"), *ROOT.glob("local/*.sh"), *(ROOT / "benchmarks").glob("*.py")]
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    assert {path: length for path, length in lengths.items() if length > READABLE_IN_ONE_SITTING} == {}


def test_code_is_free_of_what_the_linter_finds():
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_options_of_prepare_sh_have_the_defaults_of_the_programs_they_go_to():
    shell = dict(re.findall(r"^  option (\w+) (\S+)", (ROOT / "prepare.sh").read_text(encoding="utf-8"), flags=re.M))
    of_programs: dict[str, set[str]] = {name: set() for name in shell}
    for name in ("make_mini_corpus", "prepare_manifests", "prepare_text", "train_bbpe", "prepare_cuts"):
        for field in dataclasses.fields(import_module(f"icefall_ext.bin.{name}").Config):
            default = field.default_factory() if field.default is dataclasses.MISSING else field.default
            typed = ",".join(default) if isinstance(default, list) else str(default)
            of_programs.get(field.name, set()).add(typed.lower() if isinstance(default, bool) else typed)
    for name in shell.keys() - {"corpus", "corpus_dir"}:  # which the programs must be given
        assert shell[name].strip('"') in of_programs[name], name


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_documents_name_only_files_programs_and_options_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    commands = re.findall(r"^(\./run\.sh|\./prepare\.sh|python -m [\w.]+)\b([^#\n]*)", text, flags=re.M)
    for program, arguments in commands:
        recipe = re.match(r" --recipe \w+", arguments)  # which has options of its own
        known = help_of(program + (recipe[0] if recipe else ""))
        for option in re.findall(r"(--[a-z-]+)", arguments):
            assert f"{option} " in known, f"{page.name}: {program} has no {option}"


@cache
def help_of(program: str) -> str:
    command = [sys.executable if word == "python" else word for word in program.split()]
    return subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["corpora.reasons", "text.prepare"])
def test_every_reason_of_the_audit_is_explained(module):
    explained = (ROOT / "docs/corpora.md").read_text(encoding="utf-8")
    constants = vars(import_module(f"icefall_ext.{module}"))
    reasons = [value for name, value in constants.items() if name.isupper() and isinstance(value, str)]
    assert len(reasons) >= 6 and [reason for reason in reasons if reason not in explained] == []
