"""What tests in several files begin from."""

from __future__ import annotations

from pathlib import Path

import pytest
from tat_tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "corpus").sound_elsewhere()
