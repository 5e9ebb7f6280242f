"""What some users want beside the cuts: log-mel features for baselines, and Shar archives for clusters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lhotse import CutSet, Fbank, FbankConfig
from lhotse.features.base import FeatureExtractor
from lhotse.features.io import FeaturesWriter, LilcomChunkyWriter, NumpyFilesWriter
from lhotse.utils import is_module_available

from icefall_ext.data.cuts import write_cuts
from icefall_ext.errors import UserError
from icefall_ext.files import atomic_dir
from icefall_ext.parallel import cores

_MELS = 80


def fbank_extractor() -> tuple[FeatureExtractor, str]:
    """kaldifeat where it is installed (it can use a GPU), lhotse's own Kaldi-compatible extractor otherwise."""
    if is_module_available("kaldifeat"):
        from lhotse import KaldifeatFbank, KaldifeatFbankConfig
        from lhotse.features.kaldifeat import KaldifeatMelOptions

        return KaldifeatFbank(KaldifeatFbankConfig(mel_opts=KaldifeatMelOptions(num_bins=_MELS))), "kaldifeat"
    return Fbank(FbankConfig(num_mel_bins=_MELS)), "lhotse's extractor; kaldifeat is not installed"


def _writer() -> type[FeaturesWriter]:
    return LilcomChunkyWriter if is_module_available("lilcom") else NumpyFilesWriter


def export_fbank(cuts: CutSet, storage: Path, cuts_path: Path, nj: int) -> str:
    """Features below `storage`, then the cuts that point to them: without the second the first does not count."""
    extractor, name = fbank_extractor()
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True)
    jobs = min(nj, cores())  # each is a Python of its own with torch in it, half a gigabyte
    with_features = cuts.compute_and_store_features(
        extractor, storage / "feats", num_jobs=jobs, storage_type=_writer(), progress_bar=False
    )
    write_cuts(with_features, cuts_path)
    return name


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
