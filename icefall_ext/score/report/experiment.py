"""What an experiment folder holds: runs, their training logs, and every system that was scored.

A run is a folder with a run.json, a config.yaml or a log/metrics.jsonl. Scores name their recogs file by the path that
it had when it was scored; the end of that path is looked for, so that a folder may have been moved since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from icefall_ext.errors import UserError
from icefall_ext.score.report.metrics import Metrics, read_metrics
from icefall_ext.score.report.words import NAME as WORDS
from icefall_ext.score.report.words import Words, read_words

AS_TAILO = "-as-tailo"
_MAIN_RATE = {"hanlo": "cer", "tailo": "syllable"}


@dataclass(frozen=True)
class Run:
    folder: Path
    name: str
    about: dict[str, Any]  # run.json
    metrics: Metrics | None


@dataclass(frozen=True)
class Result:
    """One system as bin/score wrote it."""

    run: Run
    folder: Path  # of the decoding method
    scores: dict[str, Any]  # System.as_object
    interval: dict[str, Any]
    recogs: Path | None
    decoding: dict[str, Any]

    @property
    def name(self) -> str:
        return self.scores["name"]

    @property
    def method(self) -> str:
        return self.decoding.get("method") or self.folder.name

    @property
    def test_set(self) -> str:
        before, found, _ = self.name.partition(f"-{self.folder.name}")
        return before if found else self.name.partition("-")[0]

    @property
    def script(self) -> str:
        return self.scores["script"]

    @property
    def is_as_tailo(self) -> bool:
        return self.name.endswith(AS_TAILO)

    @property
    def kind(self) -> str:
        if self.is_as_tailo:
            return "Han-Lo output read as Tai-lo"
        return {"hanlo": "Han-Lo", "tailo": "Tai-lo"}[self.script]

    @property
    def main(self) -> dict[str, Any]:
        return self.scores["rates"][_MAIN_RATE[self.script]]

    @property
    def title(self) -> str:
        return f"{self.run.name}, {self.method}: {self.main['name']} {self.main['percent']:.2f} % ({self.name})"

    @property
    def order(self) -> tuple:
        """Han-Lo first, the test set before others, the best first."""
        kinds = (self.is_as_tailo, self.script == "tailo")
        return (*kinds, not self.test_set.startswith("test"), self.test_set, self.main["percent"], str(self.folder))


@dataclass
class Experiment:
    folder: Path
    runs: list[Run] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)  # what is not in the report, and what would bring it there

    @cached_property
    def best(self) -> list[Result]:
        """Of each run, kind and test set."""
        found: dict[tuple, Result] = {}
        for result in self.results:
            found.setdefault((result.run.name, result.kind, result.test_set), result)
        return list(found.values())


def read_experiment(folder: Path) -> Experiment:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --exp-dir is the one that the training stages wrote")
    experiment, files = Experiment(folder), list(_files(folder))
    experiment.runs = [_run(folder, place, experiment.gaps) for place in _run_folders(files)]
    recogs = [path for path in files if path.name.startswith("recogs-") and path.suffix == ".txt"]
    scores = [path for path in files if path.name.startswith("scores-") and path.suffix == ".json"]
    words = [path for path in files if path.name == WORDS]
    if not experiment.runs and not recogs and not scores and not words:
        raise UserError(f"{folder}: no run folder, training log or result in it; run the training stages first")
    _read_results(experiment, scores, recogs)
    experiment.words = read_words(folder, words, experiment.gaps)
    scored = {result.recogs for result in experiment.results}
    experiment.gaps += [
        f"{_shown(folder, path)} has no scores; python -m icefall_ext.bin.score --script ... --recogs {path} makes them"
        for path in recogs
        if path not in scored
    ]
    if not recogs and not scores and not words:
        experiment.gaps.append("There is no result yet: nothing was decoded.")
    return experiment


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        # The runs of a table are experiments of their own, with a report each.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "table-")))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _run_folders(files: list[Path]) -> list[Path]:
    found = {path.parent for path in files if path.name in ("run.json", "config.yaml")}
    return sorted(found | {path.parents[1] for path in files if path.parts[-2:] == ("log", "metrics.jsonl")})


def _run(folder: Path, place: Path, gaps: list[str]) -> Run:
    log, name = place / "log/metrics.jsonl", _shown(folder, place)
    metrics = read_metrics(log) if log.is_file() else None
    if metrics and metrics.skipped:
        gaps.append(f"{_shown(folder, log)}: {metrics.skipped:,} lines hold no record and are left out.")
    if metrics and metrics.not_finite:
        gaps.append(f"{_shown(folder, log)}: {metrics.not_finite:,} losses are no finite numbers and are not drawn.")
    return Run(place, name, _json_object(folder, place / "run.json", gaps), metrics)


def _read_results(experiment: Experiment, scores: list[Path], recogs: list[Path]) -> None:
    """A system that was scored twice, alone and in a sweep, counts as it was scored last."""
    found: dict[tuple, Result] = {}
    for path in sorted(scores, key=lambda path: path.stat().st_mtime_ns):
        written = _json_object(experiment.folder, path, experiment.gaps)
        systems, interval = written.get("systems"), written.get("interval")
        for system in systems if isinstance(systems, list) else []:
            if not _is_complete(system):
                experiment.gaps.append(f"{_shown(experiment.folder, path)}: a system in it lacks rates; score it again")
                continue
            recog = _found_again(system["file"], path, recogs)
            folder = recog.parent if recog else path.parent
            if recog is None:
                experiment.gaps.append(
                    f"{_shown(experiment.folder, path)}: {Path(system['file']).name} is no recogs file of this folder;"
                    " its utterances are not shown"
                )
            found[recog or path, system["name"]] = Result(
                _run_of(experiment, folder),
                folder,
                system,
                interval if isinstance(interval, dict) else {},
                recog,
                _decoding_of(experiment, folder, system["name"]),
            )
    experiment.results = sorted(found.values(), key=lambda result: result.order)
    for result in experiment.results:
        failed = result.decoding.get("failed")
        if failed and not result.is_as_tailo:
            experiment.gaps.append(
                f"{result.name}: {len(failed):,} utterances were not decoded, the first is {min(failed)}"
            )


def _is_complete(system: Any) -> bool:
    try:
        rates = system["rates"]
        numbers = [rate[key] for rate in rates.values() for key in ("percent", "insertions", "deletions", "units")]
        texts = [system["name"], system["file"], *(rate["name"] for rate in rates.values())]
        return (
            _MAIN_RATE[system["script"]] in rates
            and all(isinstance(number, (int, float)) for number in numbers)
            and all(isinstance(text, str) for text in texts)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _found_again(file: str, scores: Path, recogs: list[Path]) -> Path | None:
    """The recogs file whose path ends most like `file`; among several the one nearest to the scores."""

    def alike(path: Path) -> tuple[int, int]:
        return _common(reversed(path.parts), reversed(Path(file).parts)), _common(path.parts, scores.parts)

    return max((path for path in recogs if path.name == Path(file).name), key=alike, default=None)


def _common(first: Any, second: Any) -> int:
    count = 0
    for one, other in zip(first, second):
        if one != other:
            break
        count += 1
    return count


def _run_of(experiment: Experiment, folder: Path) -> Run:
    by_folder = {run.folder: run for run in experiment.runs}
    for place in (folder, *folder.parents):
        if place in by_folder:
            return by_folder[place]
        if place == experiment.folder:
            break
    # Results alone, copied from elsewhere: the method's folder lies in that of a run.
    place = folder.parent if folder != experiment.folder else folder
    experiment.runs.append(Run(place, _shown(experiment.folder, place), {}, None))
    return experiment.runs[-1]


def _decoding_of(experiment: Experiment, folder: Path, name: str) -> dict[str, Any]:
    """decoding-{set}-{suffix}.json that goes with {set}-{key}-{suffix}, the most specific one."""
    name = name.removesuffix(AS_TAILO)
    fitting = []
    for path in folder.glob("decoding-*.json"):
        parts = path.name.removeprefix("decoding-").removesuffix(".json").split("-")
        if any(
            name.startswith("-".join(parts[:place]) + "-") and name.endswith("-" + "-".join(parts[place:]))
            for place in range(1, len(parts))
        ):
            fitting.append(path)
    if not fitting:
        return {}
    return _json_object(experiment.folder, max(fitting, key=lambda path: len(path.name)), experiment.gaps)


def _json_object(folder: Path, path: Path, gaps: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of JSON or UTF-8
        value = None
    if isinstance(value, dict):
        return value
    gaps.append(f"{_shown(folder, path)} is damaged and is left out.")
    return {}


def _shown(folder: Path, path: Path) -> str:
    return folder.absolute().name if path == folder else str(path.relative_to(folder))
