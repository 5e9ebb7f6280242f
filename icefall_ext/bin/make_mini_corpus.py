"""Generate the mini corpus: Hokkien by synthetic speakers in TAT-MOE's layout, and two languages to pre-train on.

The same options always give the same bytes. An interrupted run continues, a complete corpus is kept as it is, and a
folder that holds anything else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icefall_ext.cli import option, required, run
from icefall_ext.corpora.mini.build import build, check
from icefall_ext.corpora.mini.sizes import LONGEST, SHORTEST
from icefall_ext.corpora.mini.source_corpus import plan_source
from icefall_ext.corpora.mini.source_languages import LANGUAGES
from icefall_ext.corpora.mini.tat_moe import plan_corpus
from icefall_ext.errors import UsageError
from icefall_ext.parallel import processes


@dataclass
class Config:
    corpus_dir: Path = required("the corpus is made in this folder")
    mini_hours: float = option(2.0, "hours of training speech; eval and test add a fifteenth each")
    source_hours: float = option(0.0, "hours of each source language, in source/{tonal,nontonal}; 0 for none")
    seed: int = option(1, "another seed gives other speakers and other sentences")
    nj: int = option(0, "worker processes; 0: one for each core")


def main(cfg: Config) -> None:
    for flag, hours in (("--mini-hours", cfg.mini_hours), ("--source-hours", cfg.source_hours or SHORTEST)):
        if not SHORTEST <= hours <= LONGEST:
            raise UsageError(f"{flag} {hours:g}: at least {SHORTEST:g} (36 seconds), at most {LONGEST:g}")
    nj = processes(cfg.nj)
    plans = [plan_corpus(cfg.corpus_dir, cfg.mini_hours, cfg.seed)]
    if cfg.source_hours:
        plans += [plan_source(cfg.corpus_dir, language, cfg.source_hours, cfg.seed) for language in LANGUAGES]
    for plan in plans:
        check(plan)
    for plan in plans:
        build(plan, nj)


if __name__ == "__main__":
    run(main, Config)
