"""Error rates with 95 % intervals, icefall's errs and wer-summary files, and a picture of how tones were confused.

Beside each recogs-NAME.txt, or in --out-dir, it writes errs-[RATE-]NAME.txt for each rate (without RATE for the one
that icefall itself would report) and, where there are tones, tones-NAME.png; beside the first of them
wer-summary-[RATE-]NAME.txt and scores-NAME.json, where NAME is --name if there are several.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import write_text
from icefall_ext.score import inputs, table
from icefall_ext.score.confidence import Comparison
from icefall_ext.score.error_rates import SCRIPTS, TONE5, WRITTEN_TONES, Utterance, tones_only
from icefall_ext.score.error_rates import script as script_named
from icefall_ext.score.han_readings import Readings
from icefall_ext.score.icefall_files import write_wer_summary
from icefall_ext.score.system import System


@dataclass
class Config:
    script: str = required("what the texts are written in", choices=SCRIPTS)
    recogs: list[str] = option([], "recogs files, one for each system or setting")
    hyp: list[str] = option([], "instead: hypotheses (`id text` lines, or .jsonl) of the references in --manifest")
    manifest: str = option("", "supervisions or cuts of the test set: speakers, and references")
    baseline: str = option("", "one more file of the same kind, to compare the others with")
    readings: str = option("", "supervisions in both scripts (the training part), to count tones in Han-Lo text too")
    out_dir: str = option("", "where results go, if not beside the files")
    name: str = option("sweep", "of the summary over several files")
    tone5: str = option("south", "in sandhi, tone 5 is spoken as 7 in the south and as 3 in the north", choices=TONE5)
    written_tones: str = option("citation", "the tones that Tai-lo texts are written in", choices=WRITTEN_TONES)
    resamples: int = option(10_000, "of the bootstrap, at least 1,000")
    seed: int = option(0, "of the bootstrap")


def main(cfg: Config) -> None:
    check(cfg)
    source = Source(cfg)
    systems = [system for path in paths_of(cfg) for system in source.read(path)]
    baselines = {system.script.name: system for system in (source.read(Path(cfg.baseline)) if cfg.baseline else [])}
    comparisons = [system.against(baselines[system.script.name]) if baselines else None for system in systems]
    for system, comparison in zip(systems, comparisons):
        system.show()
        if comparison:
            system.show_against(baselines[system.script.name], comparison)
        system.write(folder_of(cfg, system.path))
    folder, name = folder_of(cfg, systems[0].path), systems[0].name
    if len(paths_of(cfg)) > 1:
        name = cfg.name
        show_ranking(systems)
    write_summaries(folder, name, systems)
    write_scores(folder / f"scores-{name}.json", cfg, systems, baselines, comparisons)


def check(cfg: Config) -> None:
    if bool(cfg.recogs) == bool(cfg.hyp):
        raise UsageError("--recogs, --hyp: give one of the two")
    if cfg.hyp and not cfg.manifest:
        raise UsageError("--hyp: needs --manifest, which has the references")
    if cfg.readings and (cfg.script != "hanlo" or not cfg.manifest):
        raise UsageError("--readings: for --script hanlo with --manifest, which has the references in Tai-lo")
    if cfg.written_tones != "citation" and cfg.script != "tailo":
        raise UsageError(f"--written-tones {cfg.written_tones}: for --script tailo only")
    if cfg.resamples < 1000:
        raise UsageError(f"--resamples {cfg.resamples}: at least 1,000, or the ends of the interval are noise")
    if cfg.seed < 0:
        raise UsageError(f"--seed {cfg.seed}: 0 or more")
    for path in filter(None, (*cfg.recogs, *cfg.hyp, cfg.manifest, cfg.baseline, cfg.readings)):
        if not Path(path).is_file():
            raise UsageError(f"{path}: no such file")
    results: dict[Path, Path] = {}
    for path in paths_of(cfg):
        result = folder_of(cfg, path) / name_of(path)
        if result in results:
            raise UsageError(f"{results[result]}, {path}: results of both would be called {result.name}; rename one")
        results[result] = path


def paths_of(cfg: Config) -> list[Path]:
    return [Path(path) for path in cfg.recogs or cfg.hyp]


def folder_of(cfg: Config, path: Path) -> Path:
    return Path(cfg.out_dir) if cfg.out_dir else path.parent


def name_of(path: Path) -> str:
    """recogs-{set}-{key}-{suffix}.txt -> {set}-{key}-{suffix}, in which dots may be, as in beam-20.0"""
    name = path.name.removeprefix("recogs-")
    for ending in (".gz", ".txt", ".jsonl"):
        name = name.removesuffix(ending)
    return name


class Source:
    """Where systems, speakers and readings come from, by the options."""

    def __init__(self, cfg: Config):
        self._cfg = cfg
        self._manifest = inputs.read_manifest(cfg.manifest) if cfg.manifest else {}
        self._readings = None
        if cfg.readings:
            console.reads(cfg.readings)
            texts = ((entry.hanlo, entry.tailo) for entry in inputs.read_manifest(cfg.readings).values())
            self._readings = Readings((han, romanised) for han, romanised in texts if han and romanised)
            if not len(self._readings):
                raise UserError(f"{cfg.readings}: no utterance with text in both scripts, syllable by syllable")

    def read(self, path: Path) -> list[System]:
        """What a file holds, and with readings a second time as Tai-lo."""
        cfg = self._cfg
        utterances = self._utterances(path)
        speaker_of: dict[str, str | None] = {}
        if self._manifest:
            inputs.stop_if_missing([u.id for u in utterances], self._manifest, path, cfg.manifest)
            speaker_of = {u.id: self._manifest[u.id].speaker for u in utterances}
        script = script_named(cfg.script, tone5=cfg.tone5, written=cfg.written_tones)
        readers = [(name_of(path), script, utterances)]
        if self._readings:
            readers.append((f"{name_of(path)}-as-tailo", tones_only(cfg.tone5), self._as_tailo(path, utterances)))
        return [
            System.of(name, path, script, texts, speaker_of, resamples=cfg.resamples, seed=cfg.seed)
            for name, script, texts in readers
        ]

    def _utterances(self, path: Path) -> list[Utterance]:
        manifest = self._cfg.manifest
        if self._cfg.recogs:
            console.reads(path)
            utterances = inputs.utterances_of_recogs(path)
            if len(self._manifest) > len(utterances):
                console.says(f"{len(self._manifest) - len(utterances):,} utterances of {manifest} are not in it")
            return utterances
        console.reads(f"{path}, {manifest}")
        utterances, left_out = inputs.utterances_of_pair(manifest, self._manifest, path, self._cfg.script)
        if left_out:
            console.says(f"{left_out:,} utterances have no reference in {self._cfg.script} and are left out")
        return utterances

    def _as_tailo(self, path: Path, utterances: list[Utterance]) -> list[Utterance]:
        read = [self._readings.as_tailo(u, self._manifest[u.id].tailo or "") for u in utterances]
        kept = [utterance for utterance in read if utterance]
        if not kept:
            raise UserError(f"{self._cfg.manifest}: no reference in Tai-lo, syllable by syllable, for --readings")
        if len(kept) < len(read):
            console.says(f"{len(read) - len(kept):,} utterances have no Tai-lo that fits; tones without them")
        return kept


def by_setting(systems: list[System]) -> dict[str, System]:
    """By name, and by path where several experiments have results of one name."""
    names = [system.name for system in systems]
    return {s.name if names.count(s.name) == 1 else str(s.path.with_name(s.name)): s for s in systems}


def show_ranking(systems: list[System]) -> None:
    """The best first, by the main figure of their script."""
    for name in dict.fromkeys(system.main.rate.name for system in systems):
        settings = [item for item in by_setting(systems).items() if item[1].main.rate.name == name]
        ranked = sorted(settings, key=lambda item: item[1].main.percent)
        rows = [table.ranking_row(setting, system.main, system.main_interval) for setting, system in ranked]
        console.table(("", f"{name} %", "95 % interval"), rows)


def write_summaries(folder: Path, name: str, systems: list[System]) -> None:
    """One for each rate, the best setting first."""
    by_label: dict[str, dict[str, float]] = {}
    for setting, system in by_setting(systems).items():
        for key, scored in system.scored.items():
            by_label.setdefault(system.label(key), {})[setting] = scored.percent
    for label, percent_of in by_label.items():
        write_wer_summary(folder / f"wer-summary-{label}{name}.txt", percent_of)
    console.wrote(folder / f"wer-summary-{{{','.join(by_label)}}}{name}.txt")


def write_scores(
    path: Path,
    cfg: Config,
    systems: list[System],
    baselines: dict[str, System],
    comparisons: list[dict[str, Comparison] | None],
) -> None:
    objects = [system.as_object() for system in systems]
    for item, comparison in zip(objects, comparisons):
        if comparison:
            item["against_baseline"] = {key: rate._asdict() for key, rate in comparison.items()}
    results = {
        "script": cfg.script,
        "interval": {"percent": 95, "resamples": cfg.resamples, "seed": cfg.seed},
        "systems": objects,
        "baselines": [system.as_object() for system in baselines.values()],
    }
    write_text(path, json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    console.wrote(path)


if __name__ == "__main__":
    run(main, Config)
