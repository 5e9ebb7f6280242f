"""The tables of a recipe as data, egs/<recipe>/tables.yaml: rows that differ in options of run.sh.

    figures: recognition              # what makes the columns, and where a run has it (bin/run_table.py)
    paper: {name: ..., corpus: TAT-MOE, corpus_option: tat, epochs: {phase 1: 20, Han-Lo: 40}}
    defaults: {phases: two, ...}      # run.sh's own, of every option that a row sets
    always: {methods: ...}            # given to every run, unless the command line says otherwise
    shared:                           # runs that others begin from, made once and handed on as a folder
      encoder: {option: encoder, values: [tonal], stop_stage: 5, gives: encoder}
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

from dataclasses import dataclass, field, replace
from pathlib import Path

from icefall_ext.errors import UsageError

OTHERWISE = "otherwise"  # in by_corpus: every corpus that it does not name


@dataclass
class Paper:
    name: str = "???"
    corpus: str = "???"
    corpus_option: str = "???"
    epochs: dict[str, int] = field(default_factory=dict)  # empty: not published


@dataclass
class Shared:
    """A run that rows wait for where their `option` has one of `values`, and get a folder in its place.

    In `options` {value} is that value, {folder} the folder of this run; they may ask for other shared runs in turn.
    """

    option: str = "???"
    values: list[str] = field(default_factory=list)
    unless: dict[str, str] = field(default_factory=dict)  # a row with one of these has no use for it
    each_seed: bool = False  # or once for all of them
    first_stage: int = 5
    stop_stage: int = 5
    gives: str = "???"  # below the folder of the run
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    name: str = "???"
    title: str = "???"
    options: dict[str, str] = field(default_factory=dict)
    by_corpus: dict[str, dict[str, str]] = field(default_factory=dict)
    longer: bool = False  # phase 2 alone, for as many epochs as the two phases of other rows
    model: str = ""  # of several that a run makes, the one that the row is about
    paper: str = "-"  # its figure

    def is_for(self, corpus: str) -> bool:
        return not self.by_corpus or self._named(corpus) is not None

    def options_for(self, corpus: str) -> dict[str, str]:
        return {**self.options, **(self._named(corpus) or {})}

    def _named(self, corpus: str) -> dict[str, str] | None:
        """By its name, by that without what follows a hyphen (mini for mini-mandarin), or by otherwise."""
        names = (corpus, corpus.partition("-")[0], OTHERWISE)
        return next((self.by_corpus[name] for name in names if name in self.by_corpus), None)


@dataclass
class Table:
    title: str = "???"
    question: str = "???"
    rows: list[Row] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)  # what its rows spend some on; empty: all that the paper names
    note: str = ""


@dataclass
class Definitions:
    figures: str = "recognition"
    paper: Paper = field(default_factory=Paper)
    defaults: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Shared] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def table(self, name: str, corpus: str) -> Table:
        """With the rows that there are for this corpus."""
        if name not in self.tables:
            raise UsageError(f"--table {name}: there is no such table; there are {', '.join(self.tables)}")
        table = self.tables[name]
        for row in table.rows:
            set_there = {*row.options, *(option for those in row.by_corpus.values() for option in those)}
            unknown = sorted(set_there - self.defaults.keys() - {"encoder"})
            if unknown:  # two rows that differ in it would be one run
                raise UsageError(f"--table {name}: row {row.name} sets {', '.join(unknown)}, and defaults: has no such "
                                 "option; runs are named after what they have other than these, so say there what "
                                 "run.sh takes")
        rows = [row for row in table.rows if row.is_for(corpus)]
        if len(rows) < 2:
            raise UsageError(f"--table {name}: nothing to compare on {corpus}; its rows are for "
                             f"{', '.join(dict.fromkeys(known for row in table.rows for known in row.by_corpus))}")
        return replace(table, rows=rows)


def read_definitions(path: Path) -> Definitions:
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Definitions), OmegaConf.load(path)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except Exception as error:  # yaml and OmegaConf each have a family of their own
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None
