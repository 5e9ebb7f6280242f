"""Cuts with their audio from the manifests and the prepared text, and a table of what they hold.

Below the data folder it reads manifests/{corpus}_recordings_{part}.jsonl.gz and
text/{corpus}_supervisions_{part}.jsonl.gz (with --as-imported those in manifests/), and writes
wav/{corpus}_cuts_{part}.jsonl.gz and statistics.tsv; with --fbank also fbank/{corpus}_cuts_{part}.jsonl.gz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.data_dir import DataDir
from icefall_ext.files import read_jsonl, write_text
from icefall_ext.parallel import processes

if TYPE_CHECKING:
    from lhotse import CutSet


@dataclass
class Config:
    corpus: str = required("prefix of the manifests")
    data_dir: Path = required("where manifests and text are, and cuts go")
    parts: list[str] = option(["train", "dev", "test"], "parts of the corpus")
    speed_perturb: bool = option(False, "add copies of the training cuts at 0.9 and 1.1 of the speed")
    as_imported: bool = option(False, "take the text as the corpus has it, of which no stage made a canonical form")
    noise_dir: str = option("", "mix noise from the audio files in this folder into the training cuts")
    seed: int = option(42, "choice and level of the noise")
    fbank: bool = option(False, "extract 80 log-mel features too")
    shar_dir: str = option("", "also export the cuts, as recorded, as Shar archives below this folder")
    nj: int = option(0, "worker processes for features; 0: one for each core")


def main(cfg: Config) -> None:
    nj = processes(cfg.nj)
    # lhotse brings torch along, which takes seconds to import: --help and wrong options should not wait for it.
    from icefall_ext.data import cuts, export, statistics

    for part in cfg.parts if cfg.shar_dir else ():
        export.check_shar_folder(Path(cfg.shar_dir) / part)
    noise = cuts.noise_cuts(Path(cfg.noise_dir)) if cfg.noise_dir else None
    data_dir = DataDir(cfg.data_dir, cfg.corpus)
    of_part = {}
    for part in cfg.parts:
        prepare_part(cfg, data_dir, part, noise, nj)
        of_part[part] = statistics.of_supervisions(read_jsonl(supervisions(cfg, data_dir, part)))
    header, rows = statistics.table(of_part)
    lines = ["\t".join(row) for row in [header, *rows]]
    write_text(cfg.data_dir / "statistics.tsv", "\n".join(lines) + "\n")
    console.table(header, rows)


def supervisions(cfg: Config, data_dir: DataDir, part: str) -> Path:
    return data_dir.supervisions(part) if cfg.as_imported else data_dir.prepared_supervisions(part)


def prepare_part(cfg: Config, data_dir: DataDir, part: str, noise: CutSet | None, nj: int) -> None:
    """Speeds and noise are for training alone."""
    from lhotse import CutSet

    from icefall_ext.data import cuts, export

    manifests = data_dir.recordings(part), supervisions(cfg, data_dir, part)
    is_train, path = part == "train", data_dir.cuts(part)
    console.reads(manifests[1])
    made = cuts.at_speeds(*manifests, cuts.SPEEDS if cfg.speed_perturb and is_train else (1.0,))
    note = ""
    if is_train and noise is not None:
        made, note = cuts.with_noise(made, noise, cfg.seed), ", half of them with noise"
    count = cuts.write_cuts(console.progress(made, part), path)
    console.wrote(path, f"{count:,} cuts{note}")
    if cfg.fbank:
        fbank_path = data_dir.cuts(part, "fbank")
        name = export.export_fbank(CutSet.from_jsonl_lazy(path), fbank_path.parent / part, fbank_path, nj)
        console.wrote(fbank_path, f"80 log-mel features by {name}")
    if cfg.shar_dir:
        # Shar holds one recording a cut, so noise is left to be mixed when it is read.
        export.export_shar(CutSet(cuts.read_cuts(*manifests)), Path(cfg.shar_dir) / part)
        console.wrote(Path(cfg.shar_dir) / part, "Shar, as recorded")


if __name__ == "__main__":
    run(main, Config)
