"""A training log, log/metrics.jsonl, as lines to draw.

A run that was resumed writes some batches a second time, and what it wrote last counts. Batches may be numbered through
or anew in every epoch; either way the x axis counts batches since the start.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from icefall_ext.files import read_lines

Point = tuple[float, float]


class Record(NamedTuple):
    epoch: int
    batch: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Metrics:
    records: dict[str, list[Record]]  # "train", "valid"
    skipped: int  # lines that hold no record

    def points(self, kind: str, name: str) -> list[Point]:
        """(batches since the start, value); what is not a finite number has no place in a picture."""
        starts = self._starts()
        found = ((starts[r.epoch] + r.batch, r.values.get(name)) for r in self.records[kind])
        return [(x, float(y)) for x, y in found if _is_finite(y)]

    def terms(self) -> list[str]:
        """Of which the loss is made."""
        names = {name for records in self.records.values() for record in records for name in record.values}
        return sorted(name for name in names if name.endswith("_loss"))

    def lowest_valid(self) -> Record | None:
        valid = [record for record in self.records["valid"] if _is_finite(record.values.get("loss"))]
        return min(valid, key=lambda record: record.values["loss"], default=None)

    def median_of_train(self, name: str) -> float | None:
        found = [r.values[name] for r in self.records["train"] if _is_finite(r.values.get(name))]
        return median(found) if found else None

    @property
    def epochs(self) -> int:
        return max((record.epoch for records in self.records.values() for record in records), default=0)

    @property
    def not_finite(self) -> int:
        losses = [record.values.get("loss") for records in self.records.values() for record in records]
        return sum(isinstance(loss, float) and not math.isfinite(loss) for loss in losses)

    def _starts(self) -> dict[int, int]:
        """What to add to the number of a batch, by epoch: nothing if batches are numbered through."""
        last: dict[int, int] = {}
        first: dict[int, int] = {}
        for records in self.records.values():
            for record in records:
                last[record.epoch] = max(record.batch, last.get(record.epoch, 0))
                first[record.epoch] = min(record.batch, first.get(record.epoch, record.batch))
        epochs = sorted(last)
        if all(first[after] >= last[before] for before, after in zip(epochs, epochs[1:])):
            return dict.fromkeys(epochs, 0)
        starts, total = {}, 0
        for epoch in epochs:
            starts[epoch] = total
            total += last[epoch]
        return starts


def read_metrics(path: Path) -> Metrics:
    """A line that a killed run left half written is passed over and counted."""
    records: dict[str, list[Record]] = {"train": [], "valid": []}
    skipped = 0
    for line in filter(None, read_lines(path)):
        try:
            item = json.loads(line)
            kind, record = records[item["kind"]], Record(int(item["epoch"]), int(item["batch"]), item)
        except (ValueError, KeyError, TypeError):
            skipped += 1
            continue
        while kind and kind[-1][:2] >= record[:2]:
            kind.pop()
        kind.append(record)
    return Metrics(records, skipped)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
