"""Shar archives of the cuts, for clusters."""

from __future__ import annotations

import re
from pathlib import Path

from lhotse import CutSet

from icefall_ext.errors import UserError
from icefall_ext.files import atomic_dir


def check_shar_folder(folder: Path) -> None:
    """An export replaces an earlier one; raises UserError if anything else would go with it."""
    if "%" in str(folder):
        raise UserError(f"--shar-dir: {folder} has a % in it, which lhotse takes for a number to fill in; rename it")
    if folder.is_dir():
        other = sorted(p.name for p in folder.iterdir() if not re.fullmatch(r"(cuts|recording)\.\d+\.\w[\w.]*", p.name))
        if not other:
            return
        found = f"holds {', '.join(other[:3])}"
    elif folder.exists():
        found = "is a file"
    else:
        return
    raise UserError(f"--shar-dir: {folder} {found}, which is no Shar export; give another folder")


def export_shar(cuts: CutSet, folder: Path) -> None:
    """Cuts and FLAC audio in archives of 1,000, read in sequence instead of file by file."""
    check_shar_folder(folder)
    with atomic_dir(folder) as temporary:
        cuts.to_shar(temporary, fields={"recording": "flac"}, shard_size=1000)
