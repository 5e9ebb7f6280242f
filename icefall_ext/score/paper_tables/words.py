"""Columns of recipes that learn from isolated words: retrieval, distances, probes and word errors out of words.json.

`also:` names them, the first one being what rows are compared by: a measure (`top1`), of another model of the run
(`before:top1`), on the speakers of the training (`top1@seen`). Where no speaker of the test set is new, all figures
are those of seen ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.paper_tables.definition import Row
from icefall_ext.score.paper_tables.figures import Columns, read_json, spread
from icefall_ext.score.report.metrics import read_metrics
from icefall_ext.score.word_scores import DISTANCES, MEASURES, MODELS, tested_on

SEEN = "@seen"
STEPS = "steps"
# What a model has been trained in, one after the other.
_TRAININGS = {"stage2": ("stage1", "stage2"), "stage1": ("stage1",), "single": ("single",)}


@dataclass(frozen=True)
class Column:
    """One name of `also:`, taken apart."""

    model: str  # empty: the row's own
    measure: str
    on_seen: bool

    @classmethod
    def of(cls, name: str) -> Column:
        model, _, measure = name.rpartition(":")
        column = cls(model, measure.removesuffix(SEEN), measure.endswith(SEEN))
        known = {*MEASURES, STEPS}
        if column.measure not in known or column.model not in ("", *MODELS):
            raise UsageError(f"also: {name}: has to be one of {', '.join(sorted(known))}, before it perhaps one of "
                             f"{', '.join(MODELS)} and a colon, after it perhaps {SEEN}")
        return column

    @property
    def title(self) -> str:
        what = "steps" if self.measure == STEPS else MEASURES[self.measure].title
        return f"{f'{self.model}: ' if self.model else ''}{what}{', seen speakers' if self.on_seen else ''}"

    @property
    def digits(self) -> int:
        return 0 if self.measure == STEPS else MEASURES[self.measure].digits


@dataclass(frozen=True)
class Outcome:
    values: list[float | None]  # of each column
    gallery: tuple[int, ...]  # of each direction
    chances: dict[str, float]  # of the probes
    commit: str


class Words:
    def __init__(self, also: Sequence[str]):
        if not also:
            raise UsageError(f"also: names no figure; there are {', '.join(MEASURES)}, {STEPS}")
        self.also = [Column.of(name) for name in also]

    def read(self, folder: Path, row: Row) -> Outcome:
        if row.model not in MODELS:
            raise UsageError(f"row {row.name}: model: has to be one of {', '.join(MODELS)}")
        values = [self._value(folder, column.model or row.model, column) for column in self.also]
        found = _set_of(folder, row.model, on_seen=False)
        gallery = tuple(way["gallery"] for way in found.get("retrieval", ()))
        chances = {name: of_one["chance"] for name, of_one in found.get("probes", {}).items()}
        trained = next((folder / name / "run.json" for name in ("single", "stage2", "stage1")
                        if (folder / name / "run.json").is_file()), None)
        return Outcome(values, gallery, chances, read_json(trained).get("commit", "") if trained else "")

    def _value(self, folder: Path, model: str, column: Column) -> float | None:
        if column.measure == STEPS:
            return _steps(folder, model)
        return MEASURES[column.measure].of(_set_of(folder, model, column.on_seen))

    def in_short(self, outcome: Outcome) -> str:
        return self._shown(outcome, 0)

    def _shown(self, outcome: Outcome, place: int) -> str:
        column, value = self.also[place], outcome.values[place]
        return f"{column.title} {'-' if value is None else f'{value:.{column.digits}f}'}"

    def tested(self, speakers: set[str], trained: set[str]) -> set[str]:
        return speakers - trained or speakers

    def columns(
        self, seeds_of: Mapping[str, Mapping[int, Outcome]], first: str, speaker_of: Mapping[str, str | None]
    ) -> Columns:
        every = [outcome for by_seed in seeds_of.values() for outcome in by_seed.values()]
        if len({outcome.gallery for outcome in every}) > 1:
            raise UserError("the rows were scored on different test sets; remove the folders of the older ones and run "
                            "the same command again")
        header = [column.title for column in self.also]
        cells = {name: [spread(_present(outcome.values[place] for outcome in by_seed.values()), column.digits)
                        for place, column in enumerate(self.also)] for name, by_seed in seeds_of.items()}
        header.insert(1, f"{self.also[0].title}, against the first row")
        for name, by_seed in seeds_of.items():
            gains = [] if name == first else _gains(by_seed, seeds_of.get(first, {}))
            cells[name].insert(1, spread(gains, self.also[0].digits, signed=True))
        return Columns(header, cells, self._note(every), "the test set")

    def _note(self, every: Sequence[Outcome]) -> str:
        """Galleries and chances are those of the test set, and so the same for all."""
        sentences = ["A figure is the mean over the seeds, in brackets the smallest and the largest of them; a "
                     "difference is of runs with the same seed. How far a figure would move with other speakers is not "
                     "shown."]
        shown = {column.measure for column in self.also}
        if shown & {"top1", "top5"}:
            sizes = " and ".join(f"{size:,}" for size in dict.fromkeys(every[0].gallery))
            sentences.append(f"Top-1 and Top-5 are means of both directions, women asking men and men asking women, in "
                             f"a gallery of {sizes} recordings.")
        if shown & {"hard", "closest", "positive", "soft"}:
            sentences.append(DISTANCES)
        chances = [f"{chance:.3f} for the {name}" for name, chance in every[0].chances.items() if name in shown]
        if chances:
            sentences.append(f"A probe that knows nothing is right at {' and '.join(chances)}.")
        return " ".join(sentences)


def _present(values) -> list[float]:
    return [value for value in values if value is not None]


def _gains(by_seed: Mapping[int, Outcome], first: Mapping[int, Outcome]) -> list[float]:
    pairs = [(outcome.values[0], first[seed].values[0]) for seed, outcome in by_seed.items() if seed in first]
    return [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]


def _set_of(folder: Path, model: str, on_seen: bool) -> dict[str, Any]:
    path = folder / model / "scores/words.json"
    sets = read_json(path).get("sets", {})
    name = "seen" if on_seen else tested_on(sets)
    if name not in sets:
        raise UserError(f"{path}: no {name} speakers in it")
    return sets[name]


def _steps(folder: Path, model: str) -> float | None:
    """Of the optimiser, in all trainings that led to the model but those that rows share; None where a step is of
    several batches, which the logs count."""
    steps = 0
    for training in _TRAININGS.get(model, ()):
        with open(folder / training / "config.yaml", encoding="utf-8") as stream:
            if yaml.safe_load(stream)["train"]["accumulate"] != 1:
                return None
        steps += read_metrics(folder / training / "log/metrics.jsonl").records["train"][-1].batch
    return float(steps) if model in _TRAININGS else None
