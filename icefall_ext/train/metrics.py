"""How a training goes: sums over batches, a line every so often, metrics.jsonl, TensorBoard, a bar on a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icefall_ext import console
from icefall_ext.data.loading import SpeechBatch
from icefall_ext.distributed.world import World
from icefall_ext.files import write_text
from icefall_ext.train.objective import Loss


@dataclass
class Sums:
    """Of losses, units, and time, over some batches."""

    terms: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    units: int = 0
    utterances: int = 0
    seconds_of_audio: float = 0.0
    waited: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, batch: SpeechBatch, loss: Loss) -> None:
        for name, value in {"loss": loss.total.detach(), **loss.terms}.items():
            self.terms[name] += float(value)
        self._add_ratios(loss.ratios)
        self.units += loss.units
        self.utterances += len(batch)
        self.seconds_of_audio += batch.seconds

    def _add_ratios(self, ratios: Mapping[str, Sequence[float]]) -> None:
        for name, (value, out_of) in ratios.items():
            both = self.ratios[name]
            both[0] += float(value)
            both[1] += float(out_of)

    def over(self, world: World) -> Sums:
        """The same over all processes; the time that was waited is of this one."""
        total = Sums(waited=self.waited, started=self.started)
        for terms, ratios, units, utterances, seconds in world.gather(
            (dict(self.terms), dict(self.ratios), self.units, self.utterances, self.seconds_of_audio)
        ):
            total._add_ratios(ratios)
            for name, value in terms.items():
                total.terms[name] += value
            total.units += units
            total.utterances += utterances
            total.seconds_of_audio += seconds
        return total

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "terms": dict(self.terms), "ratios": dict(self.ratios), "started": -self.elapsed}

    @staticmethod
    def from_dict(saved: Mapping[str, Any]) -> Sums:
        """With the clock going on from where it stood."""
        values = {**saved, "terms": defaultdict(float, saved["terms"]), "started": time.monotonic() + saved["started"]}
        ratios = values.pop("ratios", {})
        sums = Sums(**values)
        sums._add_ratios(ratios)
        return sums

    def means(self) -> dict[str, float]:
        ratios = {name: value / out_of for name, (value, out_of) in self.ratios.items() if out_of}
        return {name: value / max(self.units, 1) for name, value in self.terms.items()} | ratios

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    def speed(self) -> dict[str, float]:
        """Seconds of audio in a second, and the share of the time that was spent waiting for data."""
        return {"audio_s_per_s": self.seconds_of_audio / self.elapsed, "wait_share": self.waited / self.elapsed}


class Journal:
    """Writes what happened. A resumed training appends; lines after the batch it resumes from are of a past that did
    not last, and are dropped."""

    def __init__(self, metrics_path: Path, resumed_at: int = 0, silent: bool = False):
        if silent:
            metrics_path = Path(os.devnull)
        self._started = time.monotonic() - _cut_back(metrics_path, resumed_at)
        self._stream = open(metrics_path, "a", encoding="utf-8")
        self._board = None if silent else _tensorboard(metrics_path.parent.parent / "tensorboard")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def write(self, kind: str, epoch: int, batch: int, values: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"kind": kind, "epoch": epoch, "batch": batch}
        row |= {name: float(f"{value:.6g}") for name, value in values.items()}
        self._stream.write(json.dumps(row | {"seconds": round(self.seconds, 2)}) + "\n")
        self._stream.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, batch)

    def close(self) -> None:
        self._stream.close()
        if self._board:
            self._board.close()


def _cut_back(path: Path, batch: int) -> float:
    """Keep the rows up to `batch`; returns the seconds that had passed then."""
    if not path.is_file():
        return 0.0
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed
            continue
        if row["batch"] <= batch:
            rows.append(row)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows[-1]["seconds"] if rows else 0.0


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # a second, which a test of a batch need not wait

    return SummaryWriter(str(folder))


class Progress:
    """A bar on a terminal, a line in a log every ten seconds: loss, rate, speed, and when it will be done."""

    def __init__(self, total_batches: int, done: int, every_s: float = 10.0, silent: bool = False):
        self._total, self._first, self._every_s = total_batches, done, math.inf if silent else every_s
        self._started = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not silent:
            from tqdm import tqdm  # only where there is a terminal to draw on

            self._bar = tqdm(total=total_batches, initial=done, unit="batch", leave=False, dynamic_ncols=True)

    def show(self, epoch: int, batch: int, values: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.n = batch
            self._bar.set_description(f"         epoch {epoch}")
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()})
            return
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            to_go = (now - self._started) / max(batch - self._first, 1) * (self._total - batch)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"         epoch {epoch}, batch {batch:,} of {self._total:,}: {shown}; {duration(to_go)} to go",
                  file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def epoch_line(epoch: int, epochs: int, train: Sums, valid: Mapping[str, float], unit: str) -> None:
    means, speed = train.means(), train.speed()
    valid_text = f", valid {valid['loss']:.4f}" if valid else ""
    console.says(
        f"epoch {epoch}/{epochs}: loss per {unit} {means['loss']:.4f}{valid_text}; "
        f"{speed['audio_s_per_s']:.0f} s of audio/s, {100 * speed['wait_share']:.0f} % of the time waiting for data"
    )
