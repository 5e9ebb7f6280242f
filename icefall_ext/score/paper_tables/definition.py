"""The tables of a recipe as data, egs/<recipe>/tables.yaml: rows that differ in options of run.sh.

    paper: {name: ..., corpus: TAT-MOE, corpus_option: tat, phase1_epochs: 20, phase2_epochs: 40}
    defaults: {phases: two, ...}      # run.sh's own, of every option that a row sets
    tables:
      "3":
        title: one phase or two
        question: Does ...?
        also: [phase1-syllable]
        rows:
          - {name: direct, title: Han-Lo alone, options: {phases: direct}, paper: "22.41"}
          - {name: ..., by_corpus: {mini: {encoder: tonal}, otherwise: {encoder: chinese-hubert-base}}}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from icefall_ext.errors import UsageError

OTHERWISE = "otherwise"  # in by_corpus: every corpus that it does not name


@dataclass
class Paper:
    name: str = "???"
    corpus: str = "???"
    corpus_option: str = "???"
    phase1_epochs: int = 0
    phase2_epochs: int = 0


@dataclass
class Row:
    name: str = "???"
    title: str = "???"
    options: dict[str, str] = field(default_factory=dict)
    by_corpus: dict[str, dict[str, str]] = field(default_factory=dict)
    longer: bool = False  # phase 2 alone, for as many epochs as the two phases of other rows
    paper: str = "-"  # its figure

    def options_for(self, corpus: str) -> dict[str, str]:
        return {**self.options, **self.by_corpus.get(corpus, self.by_corpus.get(OTHERWISE, {}))}


@dataclass
class Table:
    title: str = "???"
    question: str = "???"
    rows: list[Row] = field(default_factory=list)
    also: list[str] = field(default_factory=list)


@dataclass
class Definitions:
    paper: Paper = field(default_factory=Paper)
    defaults: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        if name not in self.tables:
            raise UsageError(f"--table {name}: there is no such table; there are {', '.join(self.tables)}")
        return self.tables[name]


def read_definitions(path: Path) -> Definitions:
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Definitions), OmegaConf.load(path)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except Exception as error:  # yaml and OmegaConf each have a family of their own
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None
