"""Cuts with their audio from the manifests and the prepared text, and a table of what they hold.

Below the data folder it reads manifests/{corpus}_recordings_{part}.jsonl.gz and
text/{corpus}_supervisions_{part}.jsonl.gz, and writes wav/{corpus}_cuts_{part}.jsonl.gz and statistics.tsv; with
--fbank also fbank/{corpus}_cuts_{part}.jsonl.gz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.files import read_jsonl, write_text


@dataclass
class Config:
    corpus: str = required("prefix of the manifests")
    data_dir: Path = required("where manifests and text are, and cuts go")
    parts: list[str] = option(["train", "dev", "test"], "parts of the corpus")
    speed_perturb: bool = option(False, "add copies of the training cuts at 0.9 and 1.1 of the speed")
    noise_dir: str = option("", "mix noise from the audio files in this folder into the training cuts")
    seed: int = option(42, "choice and level of the noise")
    fbank: bool = option(False, "extract 80 log-mel features too")
    shar_dir: str = option("", "also export the cuts, as recorded, as Shar archives below this folder")
    nj: int = option(2, "processes")


def main(cfg: Config) -> None:
    # lhotse brings torch along, which takes seconds to import: --help and wrong options should not wait for it.
    from lhotse import CutSet

    from icefall_ext.data import cuts, export, statistics

    noise = cuts.noise_cuts(Path(cfg.noise_dir)) if cfg.noise_dir else None
    of_part = {}
    for part in cfg.parts:
        recordings = cfg.data_dir / f"manifests/{cfg.corpus}_recordings_{part}.jsonl.gz"
        supervisions = cfg.data_dir / f"text/{cfg.corpus}_supervisions_{part}.jsonl.gz"
        path = cfg.data_dir / f"wav/{cfg.corpus}_cuts_{part}.jsonl.gz"
        is_train = part == "train"
        clean = cuts.at_speeds(recordings, supervisions, cuts.SPEEDS if cfg.speed_perturb and is_train else (1.0,))
        with_noise = is_train and noise is not None
        count = cuts.write_cuts(
            console.progress(cuts.with_noise(clean, noise, cfg.seed) if with_noise else clean, part), path
        )
        console.wrote(path, f"{count:,} cuts{', half of them with noise' if with_noise else ''}")
        of_part[part] = statistics.of_supervisions(read_jsonl(supervisions))
        if cfg.fbank:
            fbank_path = cfg.data_dir / f"fbank/{cfg.corpus}_cuts_{part}.jsonl.gz"
            name = export.export_fbank(CutSet.from_jsonl_lazy(path), cfg.data_dir / f"fbank/{part}", fbank_path, cfg.nj)
            console.wrote(fbank_path, f"80 log-mel features by {name}")
        if cfg.shar_dir:
            # Shar holds one recording a cut, so noise is left to be mixed when it is read.
            export.export_shar(CutSet(cuts.read_cuts(recordings, supervisions)), Path(cfg.shar_dir) / part)
            console.wrote(Path(cfg.shar_dir) / part, "Shar, as recorded")
    header, rows = statistics.table(of_part)
    lines = ["\t".join(row) for row in [header, *rows]]
    write_text(cfg.data_dir / "statistics.tsv", "\n".join(lines) + "\n")
    console.table(header, rows)


if __name__ == "__main__":
    run(main, Config)
