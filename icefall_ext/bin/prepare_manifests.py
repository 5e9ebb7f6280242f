"""Turn a corpus on disk into lhotse manifests, and list everything that was rejected or repaired on the way."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.corpora.base import AUTO, Options, Shares, Tolerances
from icefall_ext.corpora.common_voice import SPLITS
from icefall_ext.corpora.manifest import write_manifests
from icefall_ext.corpora.registry import NAMES, open_corpus
from icefall_ext.errors import UsageError
from icefall_ext.parallel import processes


@dataclass
class Config:
    corpus: str = required("which importer reads it", choices=NAMES)
    corpus_dir: str = required("folder of the corpus; for a table also the file itself")
    data_dir: str = option("data", "manifests/ and audit/ are written here")
    parts: list[str] = option([], "parts that there must be, of train, dev, test; by default those that there are")
    mic: list[str] = option([AUTO], "TAT, HAT: microphones, each its own recording; auto: the only one or condenser")
    nj: int = option(0, "worker processes; 0: one for each core")
    strict: bool = option(False, "exit with 1 if anything was rejected")
    check_only: bool = option(False, "look at the layout and write nothing")
    duration_tolerance: float = option(0.1, "seconds by which stated and real duration may differ unlisted")
    duration_factor: float = option(2.0, "TAT, HAT: reject audio so many times longer or shorter than its label says")
    failed_spelling: str = option("keep", "TAT: sentences that failed its spelling check", choices=("keep", "drop"))
    cv_split: str = option("official", "Common Voice: which rows make which part", choices=SPLITS)
    dev_share: float = option(0.1, "share of dev where a corpus comes without parts")
    test_share: float = option(0.1, "share of test where a corpus comes without parts")
    language: str = option("nan", "table: language of the supervisions")


def main(cfg: Config) -> None:
    if cfg.duration_tolerance < 0 or cfg.duration_factor < 1:
        raise UsageError("--duration-tolerance: at least 0; --duration-factor: at least 1")
    corpus = open_corpus(
        cfg.corpus,
        cfg.corpus_dir,
        Options(
            microphones=tuple(cfg.mic),
            tolerances=Tolerances(cfg.duration_tolerance, cfg.duration_factor),
            drop_failed_spelling=cfg.failed_spelling == "drop",
            common_voice_split=cfg.cv_split,
            shares=Shares(cfg.dev_share, cfg.test_share),
            language=cfg.language,
            nj=processes(cfg.nj),
        ),
    )
    missing = [part for part in cfg.parts if part not in corpus.parts]
    if missing:
        raise UsageError(
            f"{cfg.corpus_dir}: has {', '.join(corpus.parts)}, but not {', '.join(missing)}; "
            f"say which to use with --parts {','.join(part for part in cfg.parts if part not in missing) or 'NAMES'}"
        )
    if cfg.check_only:
        for line in corpus.describe():
            console.reads(line)
        return
    write_manifests(corpus, cfg.data_dir, parts=cfg.parts, strict=cfg.strict)


if __name__ == "__main__":
    run(main, Config)
