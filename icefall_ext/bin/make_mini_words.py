"""Generate isolated words of two tonal languages by synthetic speakers, for the recipe sita.

Taiwanese has seven tones, the Mandarin-like language four. The same options always give the same bytes; an interrupted
run continues, a complete corpus is kept, and a folder that holds anything else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icefall_ext.cli import option, required, run
from icefall_ext.corpora.mini.build import build, check
from icefall_ext.corpora.mini.words import LANGUAGES, MOST_BASES, WordSizes, plan_words
from icefall_ext.errors import UsageError
from icefall_ext.parallel import processes


@dataclass
class Config:
    corpus_dir: Path = required("words/<language>/ is made in this folder")
    languages: list[str] = option(list(LANGUAGES), "which of them", choices=tuple(LANGUAGES))
    bases: int = option(16, f"bases of each language, each in all its tones; at most {MOST_BASES}")
    speakers: int = option(24, "speakers in training, as many women as men")
    unseen: int = option(8, "speakers in test, none of them in training; dev gets half as many others")
    takes: int = option(2, "recordings of each word by each speaker in training")
    seed: int = option(1, "another seed gives other speakers")
    nj: int = option(0, "worker processes; 0: one for each core")


def main(cfg: Config) -> None:
    if not 2 <= cfg.bases <= MOST_BASES:
        raise UsageError(f"--bases {cfg.bases}: at least 2, at most {MOST_BASES}")
    for flag, count in (("--speakers", cfg.speakers), ("--unseen", cfg.unseen)):
        if count < 2 or count % 2:
            raise UsageError(f"{flag} {count}: an even number, so that half of them are women")
    if cfg.unseen > cfg.speakers or cfg.takes < 1:
        raise UsageError(f"--unseen {cfg.unseen}, --takes {cfg.takes}: no more unseen speakers than --speakers "
                         f"{cfg.speakers}, and at least 1 take")
    sizes = WordSizes(cfg.bases, cfg.speakers, cfg.unseen, cfg.takes)
    plans = [plan_words(cfg.corpus_dir, language, sizes, cfg.seed) for language in dict.fromkeys(cfg.languages)]
    for plan in plans:
        check(plan)
    for plan in plans:
        build(plan, processes(cfg.nj))


if __name__ == "__main__":
    run(main, Config)
