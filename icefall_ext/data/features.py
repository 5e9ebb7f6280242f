"""Log-mel features, for baselines that want them, in shares: each is kept when it is done, and any machine can do it.

    fbank/train/2-of-8/{audio.jsonl.gz, feats/, cuts.jsonl.gz, made_from}    every eighth cut, from the second on
    fbank/x_cuts_train.jsonl.gz                                              all of them, in the order of the cuts
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from lhotse import CutSet, Fbank, FbankConfig
from lhotse.cut import Cut
from lhotse.features.base import FeatureExtractor
from lhotse.features.io import FeaturesWriter, LilcomChunkyWriter, NumpyFilesWriter
from lhotse.utils import is_module_available

from icefall_ext.data.cuts import write_cuts
from icefall_ext.files import open_jsonl_for_writing, read_jsonl, write_text
from icefall_ext.parallel import cores

_MELS = 80
_CUTS_WORTH_A_JOB = 500  # each is a Python of its own with torch in it: half a gigabyte, and seconds until it begins


class FbankExport:
    """`made_from` says what the cuts come from: a share that was made from something else does not count."""

    def __init__(self, cuts: Callable[[], Iterable[Cut]], folder: Path, shares: int, made_from: str, nj: int):
        self.cuts, self.folder, self.shares = cuts, folder, shares
        self.jobs = min(nj, cores())
        self.extractor, self.extractor_name = fbank_extractor()
        self.made_from = f"{made_from} {self.extractor_name}"

    def extract(self, shares: Sequence[int], again: bool = False) -> int:
        """Those of 1, 2, ... that are not there yet; how many that were."""
        missing = [share for share in shares if again or not self._is_there(share)]
        for share in missing:
            self._extract(share)
        return len(missing)

    def join(self, path: Path) -> int:
        """The cuts of all shares with their features."""
        for other in set(self.folder.iterdir()) - {self._of(share) for share in self._all}:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
        with open_jsonl_for_writing(path) as writer:
            for cut in _in_turn([self._of(share) / "cuts.jsonl.gz" for share in self._all]):
                writer.write(cut)
        return writer.count

    @property
    def _all(self) -> range:
        return range(1, self.shares + 1)

    def _of(self, share: int) -> Path:
        return self.folder / f"{share}-of-{self.shares}"

    def _is_there(self, share: int) -> bool:
        note = self._of(share) / "made_from"
        return note.is_file() and note.read_text(encoding="utf-8") == self.made_from

    def _extract(self, share: int) -> None:
        folder = self._of(share)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        count = write_cuts(islice(self.cuts(), share - 1, None, self.shares), folder / "audio.jsonl.gz")
        with_features: Iterable[Cut] = ()
        if count:
            with_features = CutSet.from_jsonl_lazy(folder / "audio.jsonl.gz").compute_and_store_features(
                self.extractor, folder / "feats", num_jobs=max(1, min(self.jobs, count // _CUTS_WORTH_A_JOB)),
                storage_type=_writer(), progress_bar=False,
            )
        write_cuts(with_features, folder / "cuts.jsonl.gz")
        write_text(folder / "made_from", self.made_from)


def fbank_extractor() -> tuple[FeatureExtractor, str]:
    """kaldifeat where it is installed (it can use a GPU), lhotse's own Kaldi-compatible extractor otherwise."""
    if is_module_available("kaldifeat"):
        from lhotse import KaldifeatFbank, KaldifeatFbankConfig
        from lhotse.features.kaldifeat import KaldifeatMelOptions

        return KaldifeatFbank(KaldifeatFbankConfig(mel_opts=KaldifeatMelOptions(num_bins=_MELS))), "kaldifeat"
    return Fbank(FbankConfig(num_mel_bins=_MELS)), "lhotse's extractor; kaldifeat is not installed"


def _writer() -> type[FeaturesWriter]:
    return LilcomChunkyWriter if is_module_available("lilcom") else NumpyFilesWriter


def _in_turn(shares: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The order that they were dealt out in."""
    for cuts in zip_longest(*map(read_jsonl, shares)):
        yield from (cut for cut in cuts if cut is not None)
