"""Cuts with their audio from the manifests and the prepared text, and a table of what they hold.

Below the data folder it reads manifests/{corpus}_recordings_{part}.jsonl.gz and
text/{corpus}_supervisions_{part}.jsonl.gz (with --as-imported those in manifests/), and writes
wav/{corpus}_cuts_{part}.jsonl.gz and statistics.tsv; with --fbank also fbank/{corpus}_cuts_{part}.jsonl.gz.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UsageError
from icefall_ext.files import digest_of_file, digest_of_lines, read_jsonl, write_text
from icefall_ext.parallel import processes

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

    from icefall_ext.data.features import FbankExport


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
    fbank_shares: int = option(8, "extract them in so many shares; a share that is done is not done again")
    only_shares: list[int] = option([], "these shares (1, 2, ...) and nothing else; a run without this joins them")
    force: bool = option(False, "extract also the shares that are done")
    nj: int = option(0, "worker processes for features; 0: one for each core")


def main(cfg: Config) -> None:
    nj = processes(cfg.nj)
    if not all(1 <= share <= cfg.fbank_shares for share in cfg.only_shares) or cfg.fbank_shares < 1:
        raise UsageError(f"--fbank-shares {cfg.fbank_shares}, --only-shares {cfg.only_shares}: shares are 1, 2, ...")
    if cfg.only_shares and not cfg.fbank:
        raise UsageError(f"--only-shares {cfg.only_shares}: only features come in shares; add --fbank true")
    # lhotse brings torch along, which takes seconds to import: --help and wrong options should not wait for it.
    from icefall_ext.data import cuts, export, statistics

    for part in cfg.parts if cfg.shar_dir else ():
        export.check_shar_folder(Path(cfg.shar_dir) / part)
    noise = cuts.noise_cuts(Path(cfg.noise_dir)) if cfg.noise_dir else None
    data_dir = DataDir(cfg.data_dir, cfg.corpus)
    if cfg.only_shares:
        for part in cfg.parts:
            extract_fbank(cfg, data_dir, part, noise, nj)
        return
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


def cuts_of_part(cfg: Config, data_dir: DataDir, part: str, noise: CutSet | None) -> Iterable[Cut]:
    """Speeds and noise are for training alone."""
    from icefall_ext.data import cuts

    manifests = data_dir.recordings(part), supervisions(cfg, data_dir, part)
    made = cuts.at_speeds(*manifests, cuts.SPEEDS if cfg.speed_perturb and part == "train" else (1.0,))
    return cuts.with_noise(made, noise, cfg.seed) if part == "train" and noise is not None else made


def prepare_part(cfg: Config, data_dir: DataDir, part: str, noise: CutSet | None, nj: int) -> None:
    from lhotse import CutSet

    from icefall_ext.data import cuts, export

    manifests, path = (data_dir.recordings(part), supervisions(cfg, data_dir, part)), data_dir.cuts(part)
    console.reads(manifests[1])
    count = cuts.write_cuts(console.progress(cuts_of_part(cfg, data_dir, part, noise), part), path)
    noisy = part == "train" and noise is not None
    console.wrote(path, f"{count:,} cuts" + ", half of them with noise" * noisy)
    if cfg.fbank:
        fbank_path = data_dir.cuts(part, "fbank")
        extracted = extract_fbank(cfg, data_dir, part, noise, nj)
        extracted.join(fbank_path)
        console.wrote(fbank_path, f"80 log-mel features by {extracted.extractor_name}")
    if cfg.shar_dir:
        # Shar holds one recording a cut, so noise is left to be mixed when it is read.
        export.export_shar(CutSet(cuts.read_cuts(*manifests)), Path(cfg.shar_dir) / part)
        console.wrote(Path(cfg.shar_dir) / part, "Shar, as recorded")


def extract_fbank(cfg: Config, data_dir: DataDir, part: str, noise: CutSet | None, nj: int) -> FbankExport:
    from icefall_ext.data.features import FbankExport

    read = [digest_of_file(path) for path in (data_dir.recordings(part), supervisions(cfg, data_dir, part))]
    mixed = [cut.recording.to_dict() for cut in noise] if noise is not None else []
    made_from = digest_of_lines([*read, repr((cfg.speed_perturb, cfg.seed, mixed))])
    export = FbankExport(lambda: cuts_of_part(cfg, data_dir, part, noise), data_dir.cuts(part, "fbank").parent / part,
                         cfg.fbank_shares, made_from, nj)
    shares = cfg.only_shares or range(1, cfg.fbank_shares + 1)
    done = export.extract(shares, cfg.force)
    console.says(f"{part}: features of {done} of {len(shares)} shares extracted"
                 + (", the others were there" if done < len(shares) else ""))
    return export


if __name__ == "__main__":
    run(main, Config)
