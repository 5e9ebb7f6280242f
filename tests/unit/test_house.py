"""The order of the house: imports go one way, files are short, the README tells the truth about what is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each room may import from the rooms before it, and from itself.
ROOMS = ("", "text", "corpora", "data", "encoders", "transducer", "tone", "optim", "train", "score", "bin")
MODULES = sorted((ROOT / "icefall_ext").rglob("*.py"))
READABLE_IN_ONE_SITTING = 450


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
    here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        if module.startswith("icefall_ext."):
            assert ROOMS.index(room_of(module)) <= ROOMS.index(here), f"{here or 'the root'} imports {module}"


@pytest.mark.parametrize("room", ["text", "corpora"])
def test_rooms_that_start_in_a_blink_import_neither_torch_nor_lhotse(room):
    for path in (ROOT / "icefall_ext" / room).rglob("*.py"):
        heavy = {name.split(".")[0] for name in imports(path, at_import=True)} & {"torch", "lhotse", "torchaudio"}
        assert not heavy, f"{path.name} imports {heavy}"


def test_every_file_can_be_read_in_one_sitting():
    code = [*MODULES, *ROOT.glob("*.sh"), *ROOT.glob("local/*.sh"), *(ROOT / "benchmarks").glob("*.py")]
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    assert {name: length for name, length in lengths.items() if length > READABLE_IN_ONE_SITTING} == {}


def test_code_is_free_of_what_the_linter_finds():
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_readme_names_only_files_and_options_that_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    options = subprocess.run(["./run.sh", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
        for line in re.findall(r"^\./(?:run|prepare)\.sh (.*)$", text, flags=re.MULTILINE):
            for option in re.findall(r"(--[a-z-]+)", line.split("#")[0]):
                assert f"{option} " in options, f"{page.name} uses {option}"
