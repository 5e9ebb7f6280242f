"""One system's output on one test set: its rates, its intervals, its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from icefall_ext import console
from icefall_ext.errors import UserError
from icefall_ext.score import table
from icefall_ext.score.alignment import Alignment
from icefall_ext.score.confidence import Bootstrap, Comparison, Interval, bootstrap
from icefall_ext.score.error_rates import Scored, Script, Utterance, score
from icefall_ext.score.icefall_files import write_errs
from icefall_ext.score.inputs import stop_if_missing
from icefall_ext.score.tone_picture import plot_confusion
from icefall_ext.score.tones import ToneConfusion


@dataclass(frozen=True)
class System:
    name: str  # recogs-{name}.txt
    path: Path
    script: Script
    scored: dict[str, Scored]  # by key of the rate
    draws: Bootstrap

    @classmethod
    def of(
        cls,
        name: str,
        path: Path,
        script: Script,
        utterances: list[Utterance],
        speaker_of: Mapping[str, str | None],
        *,
        resamples: int,
        seed: int,
    ) -> System:
        try:
            scored = score(utterances, script)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        ids = list(scored[script.rates[0].key].alignments)
        return cls(name, path, script, scored, bootstrap(ids, speaker_of, resamples=resamples, seed=seed))

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        rates = self.scored.values()
        intervals = self.draws.intervals([scored.errors for scored in rates], [scored.units for scored in rates])
        return dict(zip(self.scored, intervals))

    @cached_property
    def confusions(self) -> list[ToneConfusion]:
        return [ToneConfusion(self.scored[key]) for key in ("tone", "surface-tone") if key in self.scored]

    @cached_property
    def confusable_intervals(self) -> list[Interval | None]:
        """Of the share of 5, 7 and 8 recognised as another of the three."""
        parts = [confusion.of_confusable for confusion in self.confusions]
        return self.draws.intervals([part.among for part in parts], [part.syllables for part in parts]) if parts else []

    @property
    def main(self) -> Scored:
        return self.scored[self.script.rates[0].key]

    @property
    def main_interval(self) -> Interval | None:
        return self.intervals[self.main.rate.key]

    def against(self, baseline: System) -> dict[str, Comparison]:
        """Rate by rate, on the same resamples; the test sets have to be the same."""
        ours, theirs = self.main.alignments, baseline.main.alignments
        stop_if_missing(ours, theirs, self.path, baseline.path)
        stop_if_missing(theirs, ours, baseline.path, self.path)
        for id, alignment in ours.items():
            if _reference(alignment) != _reference(theirs[id]):
                raise UserError(
                    f"{self.path} and {baseline.path}: the references of {id} differ"
                    f" ({' '.join(_reference(alignment))!r} and {' '.join(_reference(theirs[id]))!r})"
                )
        return {
            key: self.draws.compare(baseline.scored[key].errors, scored.errors, scored.units)
            for key, scored in self.scored.items()
        }

    def show(self) -> None:
        utterances = len(self.main.alignments)
        console.says(f"{self.name}: {utterances:,} utterances; intervals by bootstrap over {self.draws.what}")
        rows = [table.rate_row(scored, self.intervals[key]) for key, scored in self.scored.items()]
        console.table(table.HEADER, rows)
        for confusion, interval in zip(self.confusions, self.confusable_intervals):
            console.says(table.confusable_sentence(confusion, interval))

    def show_against(self, baseline: System, comparisons: dict[str, Comparison]) -> None:
        console.says(f"{self.name} against {baseline.path}")
        rows = [
            table.comparison_row(baseline.scored[key], self.scored[key], comparison)
            for key, comparison in comparisons.items()
        ]
        console.table(table.COMPARISON_HEADER, rows)

    def write(self, folder: Path) -> None:
        for key, scored in self.scored.items():
            write_errs(folder / f"errs-{self.label(key)}{self.name}.txt", scored.alignments.items())
        console.wrote(folder / f"errs-{{{','.join(map(self.label, self.scored))}}}{self.name}.txt")
        if self.confusions:
            path = folder / f"tones-{self.name}.png"
            plot_confusion(path, self.confusions, self.name)
            console.wrote(path)

    def label(self, key: str) -> str:
        """What stands before the name in the files of a rate: nothing where icefall would report the same rate."""
        return "" if key == self.script.icefall_rate else f"{key}-"

    def as_object(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "file": str(self.path),
            "script": self.script.name,
            "utterances": len(self.main.alignments),
            "resampled": self.draws.what,
            "rates": {key: table.rate_object(scored, self.intervals[key]) for key, scored in self.scored.items()},
            "tones": {
                confusion.scored.rate.key: table.confusion_object(confusion, interval)
                for confusion, interval in zip(self.confusions, self.confusable_intervals)
            },
        }


def _reference(alignment: Alignment) -> list[str]:
    return [ref for ref, _ in alignment if ref is not None]
