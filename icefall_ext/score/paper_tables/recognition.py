"""Columns of recipes that recognise sentences: strict CER with intervals over the speakers of the test set.

A seed is one training; the errors that count for an interval are an utterance's mean over the seeds. Whole speakers are
drawn as in `score.confidence`, the same for every row, so rows are compared pair by pair. The interval says how far a
mean would move with other speakers; how far it moves with the seed is what the smallest and largest figure show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icefall_ext.errors import UsageError, UserError
from icefall_ext.score import inputs
from icefall_ext.score.confidence import Bootstrap, Comparison, Interval, bootstrap
from icefall_ext.score.error_rates import score, script
from icefall_ext.score.paper_tables.definition import Row
from icefall_ext.score.paper_tables.figures import Columns, read_json, spread

PHASE1, PHASE2 = "phase1", "phase2"


@dataclass(frozen=True)
class Measure:
    """A figure beside the strict CER."""

    title: str
    phase: str
    find: Callable[[dict[str, Any]], float | None]  # in a system of scores-*.json


def rate(unit: str) -> Callable[[dict[str, Any]], float | None]:
    """None where the unit is not counted: a model that writes surface tones has no citation tones."""
    return lambda system: system["rates"][unit]["percent"] if unit in system["rates"] else None


def confusable(tones: str) -> Callable[[dict[str, Any]], float | None]:
    """None as above; tones of a model that writes surface tones are under the name of what is written."""
    return lambda system: system["tones"][tones]["confusable"]["among_percent"] if tones in system["tones"] else None


_AMONG = "5, 7, 8 taken for another of them %"
_READ = "phase 2, read as Tai-lo"
MEASURES = {
    "phase1-syllable": Measure("phase 1: syllable error rate %", PHASE1, rate("syllable")),
    "phase1-surface-tone": Measure("phase 1: surface tone error rate %", PHASE1, rate("surface-tone")),
    "phase1-tone": Measure("phase 1: tone error rate %", PHASE1, rate("tone")),
    "phase1-confusable": Measure(f"phase 1: {_AMONG}", PHASE1, confusable("tone")),
    # Phase 1 on surface tones has no other ones, and surface tones alone are the same question for both.
    "phase1-surface-confusable": Measure(f"phase 1: {_AMONG}, surface tones", PHASE1, confusable("surface-tone")),
    "phase2-tone": Measure(f"{_READ}: tone error rate %", PHASE2, rate("tone")),
    "phase2-confusable": Measure(f"{_READ}: {_AMONG}, citation tones", PHASE2, confusable("tone")),
}


class Recognition:
    """`also` are names of MEASURES; `method` is the search that rows are compared by."""

    def __init__(self, also: Sequence[str], method: str):
        unknown = [name for name in also if name not in MEASURES]
        if unknown:
            raise UsageError(f"also: {unknown[0]} is none of {', '.join(MEASURES)}")
        if "," in method:
            raise UsageError(f"--methods {method}: a table compares rows by one method; leave the option out for the "
                             "default, or name another")
        self.also, self.method = also, method

    def read(self, folder: Path, row: Row) -> Outcome:
        return read_outcome(folder, self.method, self.also)

    def in_short(self, outcome: Outcome) -> str:
        return f"strict CER {outcome.percent:.2f} %"

    def tested(self, speakers: set[str], trained: set[str]) -> set[str]:
        return speakers

    def columns(
        self, seeds_of: Mapping[str, Mapping[int, Outcome]], first: str, speaker_of: Mapping[str, str | None]
    ) -> Columns:
        rows = {name: Outcomes(by_seed) for name, by_seed in seeds_of.items()}
        stop_unless_one_test_set(rows)
        draws = bootstrap(next(iter(rows.values())).first.ids, speaker_of)
        header = ["strict CER % (min to max)", "95 % CI", "against the first row (95 % CI)",
                  *(MEASURES[measure].title for measure in self.also)]
        cells = {name: [
            spread(row.percents, 2),
            bounds(row.interval(draws), 2),
            "-" if name == first or first not in rows else relative(row, rows[first], draws),
            *(spread(row.values(measure), 1) for measure in self.also),
        ] for name, row in rows.items()}  # fmt: skip
        note = ("A figure is the mean over the seeds, in brackets the smallest and the largest of them. Intervals are "
                f"by bootstrap over {draws.what} of the test set, of each utterance's mean over the seeds; those of "
                "the relative change are of the difference on the same speakers, in percent of the first row.")
        return Columns(header, cells, note, draws.what)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One run."""

    ids: list[str]
    errors: np.ndarray  # [utterances], characters
    units: np.ndarray
    also: dict[str, float | None]
    commit: str

    @property
    def percent(self) -> float:
        return 100 * float(self.errors.sum()) / float(self.units.sum())


def read_outcome(folder: Path, method: str, also: Sequence[str]) -> Outcome:
    recogs = _recogs(folder / PHASE2, method)
    scored = score(inputs.utterances_of_recogs(recogs), script("hanlo"))["cer"]
    phases = {MEASURES[name].phase for name in also}
    # Direct fine-tuning has no first phase.
    systems = {phase: _tailo_system(folder / phase, method) for phase in phases if (folder / phase).is_dir()}
    found = {}
    for name in also:
        system = systems.get(MEASURES[name].phase)
        found[name] = MEASURES[name].find(system) if system else None
    about = read_json(folder / PHASE2 / "run.json")
    return Outcome(list(scored.alignments), scored.errors, scored.units, found, about.get("commit", ""))


def _recogs(phase: Path, method: str) -> Path:
    """What stage 8 decoded last; older ones, of other epochs, may lie beside it."""
    made = phase / "decoded-test.txt"
    if not made.is_file():
        raise UserError(f"{phase.parent}: has no result ({made.name} is missing in {phase.name})")
    paths = [Path(line) for line in made.read_text(encoding="utf-8").splitlines() if line]
    of_method = [phase / method / path.name for path in paths if path.parent.name == method]
    if len(of_method) != 1:
        raise UserError(f"{made}: names {len(of_method)} files of {method}, not one")
    return of_method[0]


def _tailo_system(phase: Path, method: str) -> dict[str, Any]:
    """Phase 1 writes Tai-lo; what phase 2 writes is scored a second time, read as Tai-lo."""
    recogs = _recogs(phase, method)
    path = recogs.with_name(f"scores-{recogs.stem.removeprefix('recogs-')}.json")
    systems = [system for system in read_json(path)["systems"] if system["script"] == "tailo"]
    if len(systems) != 1:
        raise UserError(f"{path}: holds {len(systems)} systems in Tai-lo, not one")
    return systems[0]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The runs of one row, by seed."""

    by_seed: Mapping[int, Outcome]

    @cached_property
    def first(self) -> Outcome:
        return next(iter(self.by_seed.values()))

    @property
    def percents(self) -> list[float]:
        return [outcome.percent for outcome in self.by_seed.values()]

    @property
    def mean(self) -> float:
        return float(np.mean(self.percents))

    @cached_property
    def errors(self) -> np.ndarray:
        """[utterances], the mean over the seeds."""
        return np.mean([outcome.errors for outcome in self.by_seed.values()], axis=0)

    def values(self, name: str) -> list[float]:
        found = (outcome.also[name] for outcome in self.by_seed.values())
        return [value for value in found if value is not None]

    def interval(self, draws: Bootstrap) -> Interval | None:
        return draws.intervals([self.errors], [self.first.units])[0]

    def against(self, other: Outcomes, draws: Bootstrap) -> Comparison:
        return draws.compare(other.errors, self.errors, self.first.units)


def stop_unless_one_test_set(rows: Mapping[str, Outcomes]) -> None:
    """Intervals over pairs, and the comparison itself, need the same utterances and references everywhere."""
    every = [(f"{row}-seed{seed}", outcome) for row, of_row in rows.items() for seed, outcome in of_row.by_seed.items()]
    (first_name, first), *others = every
    for name, outcome in others:
        if outcome.ids != first.ids or not np.array_equal(outcome.units, first.units):
            raise UserError(f"{first_name} and {name} were decoded on different test sets; remove the older folder and "
                            "run the same command again")


def bounds(interval: Interval | None, digits: int, *, signed: bool = False) -> str:
    return "-" if interval is None else " to ".join(f"{b:{'+' if signed else ''}.{digits}f}" for b in interval)


def relative(of_row: Outcomes, first: Outcomes, draws: Bootstrap) -> str:
    compared = of_row.against(first, draws)
    if not first.mean:
        return "-"
    change = f"{100 * compared.difference / first.mean:+.1f} %"
    if compared.interval is None:
        return change
    scaled = Interval(*(100 * bound / first.mean for bound in compared.interval))
    return f"{change} ({bounds(scaled, 1, signed=True)})"
