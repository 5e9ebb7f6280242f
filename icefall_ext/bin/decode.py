"""Decode a test set with one or several methods, and write icefall's recogs files, which icefall_ext.bin.score scores.

An option that takes several values makes a sweep: every combination is decoded, over one run of the encoder. What an
earlier run decoded with the same model, cuts and options is kept.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.decode.options import HOTWORDS, LM, METHODS, SEARCH_BACKENDS, SWEPT, ModelChoice, Setting, sweep
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import digest_of_file, digest_of_lines, write_text

if TYPE_CHECKING:
    import torch

    from icefall_ext.decode.decoder import Decoder
    from icefall_ext.decode.results import ResultFiles
    from icefall_ext.decode.utterances import Utterances
    from icefall_ext.train.restore import Restored
    from icefall_ext.transducer.search import Result, TransducerSearch

FORMAT = 1  # of the results; what was written in another one is decoded anew
SHOWN = 5  # utterances that are named where more could be


@dataclass
class Config(ModelChoice):
    cuts: Path = required("cuts of the test set")
    part: str = option("test", "what files call the test set")
    methods: list[str] = option(list(METHODS), "decoding methods", choices=METHODS)
    beam_size: list[int] = option([4], "modified_beam_search: hypotheses kept")
    beam: list[float] = option([20.0], "fast_beam_search: how far below the best a hypothesis may be")
    max_contexts: list[int] = option([8], "fast_beam_search: contexts kept on a frame")
    max_states: list[int] = option([64], "fast_beam_search: states kept on a frame")
    blank_penalty: list[float] = option([0.0], "off the logit of blank; above 0: fewer deletions")
    temperature: list[float] = option([1.0], "divides the logits; above 1: flatter")
    lm: str = option("", "modified_beam_search: ARPA file over the tokens of tokens.txt")
    lm_scale: list[float] = option([0.3], "weight of --lm")
    hotwords: str = option("", "modified_beam_search: file of hotwords, `hotword` or `hotword<tab>bonus` a line")
    hotword_bonus: list[float] = option([1.5], "of a hotword, for each of its tokens")
    nbest: int = option(1, "beam searches: readings of each utterance, written to nbest-*.jsonl")
    timestamps: bool = option(False, "write when each token was emitted to timestamps-*.jsonl")
    search_backend: str = option("auto", "of fast_beam_search; auto takes k2 where it imports", choices=SEARCH_BACKENDS)
    max_duration: float = option(200.0, "seconds of audio in a batch, padding included")
    workers: int = option(0, "processes that load audio ahead; 0: none")
    recogs_list: str = option("", "file to write: the recogs files of this command, a path a line")
    strict: bool = option(False, "fail at the end if the audio of an utterance could not be read")
    force: bool = option(False, "decode again what was decoded already")


@dataclass(frozen=True)
class Job:
    """A setting that is to be decoded."""

    files: ResultFiles
    search: TransducerSearch
    backend: str
    made_from: str


def main(cfg: Config) -> None:
    settings = check(cfg)
    from icefall_ext.decode.restoring import restore
    from icefall_ext.decode.utterances import Utterances
    from icefall_ext.train.devices import choose_device, set_threads

    device = choose_device(cfg.device)
    restored = restore(cfg, device)
    set_threads(cfg.threads, restored.model, device)
    system = restored.content["system"]
    utterances = Utterances.read(cfg.cuts, restored.script, system["tones"], system.get("tone5", "south"))
    console.reads(cfg.cuts, describe(utterances))
    jobs, recogs = jobs_to_do(cfg, settings, restored, device)
    if jobs:
        decode_jobs(cfg, jobs, restored, utterances, device)
    if cfg.recogs_list:
        write_text(cfg.recogs_list, "".join(f"{path}\n" for path in recogs))


def decode_jobs(
    cfg: Config, jobs: list[Job], restored: Restored, utterances: Utterances, device: torch.device
) -> None:
    from icefall_ext.decode.decoder import Decoder

    decoder = Decoder(restored.model, [job.search for job in jobs], device)
    results, failed = decode(decoder, utterances, cfg)
    write(jobs, results, utterances, about_all(cfg, restored, decoder, utterances, failed), decoder.search_seconds)
    if failed and cfg.strict:
        raise UserError(f"{cfg.cuts}: the audio of {len(failed):,} utterances could not be read, the first is "
                        f"{min(failed)}; mend it or leave out --strict")


def check(cfg: Config) -> list[Setting]:
    cfg.check_model_choice()
    if cfg.max_duration <= 0 or cfg.nbest < 1 or cfg.workers < 0:
        raise UsageError(f"--max-duration {cfg.max_duration}, --nbest {cfg.nbest}: above 0; --workers {cfg.workers}: "
                         "not below 0")
    if not cfg.methods:
        raise UsageError("--methods: needs a value")
    if cfg.nbest > 1 and set(cfg.methods) == {"greedy_search"}:
        raise UsageError(f"--nbest {cfg.nbest}: greedy_search has one reading; add modified_beam_search")
    if not cfg.part or "/" in cfg.part:
        raise UsageError(f"--part {cfg.part}: a word that file names can hold")
    for path in filter(None, (str(cfg.cuts), cfg.lm, cfg.hotwords)):
        if not Path(path).is_file():
            raise UsageError(f"{path}: no such file")
    sources = {name: stem(path) for name, path in ((LM, cfg.lm), (HOTWORDS, cfg.hotwords)) if path}
    settings = sweep(cfg.methods, vars(cfg), sources)
    used = {name for setting in settings for name, _ in setting.values}
    for field in fields(cfg):
        given = getattr(cfg, field.name)
        if field.name in SWEPT - used and given != field.default_factory():
            missing = {LM: "--lm", HOTWORDS: "--hotwords"}.get(field.name, f"a method that takes it in {cfg.methods}")
            raise UsageError(f"--{field.name.replace('_', '-')} {given}: has no use without {missing}")
    return settings


def stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").rpartition(".")[0] or Path(path).name


def describe(utterances: Utterances) -> str:
    lacking = len(utterances) - len(utterances.references)
    note = f"; {lacking:,} without a reference text are decoded, not scored" if lacking else ""
    return f"{len(utterances):,} utterances, {utterances.durations.sum() / 60:.1f} minutes{note}"


def jobs_to_do(
    cfg: Config, settings: list[Setting], restored: Restored, device: torch.device
) -> tuple[list[Job], list[Path]]:
    """Settings without results of the same model, cuts and options, and the recogs files of all settings.

    Folders are made, to fail early if at all.
    """
    from icefall_ext.decode.restoring import digest_of_model
    from icefall_ext.decode.results import Writing
    from icefall_ext.decode.searches import Resources, search_of

    resources = Resources.read(restored.bpe, restored.script, device, cfg.lm, cfg.hotwords)
    writing = Writing(cfg.exp_dir, cfg.part, restored.suffix, restored.bpe, restored.script,
                      restored.model.encoder.samples_per_frame / 16000, cfg.nbest, cfg.timestamps)
    inputs = [FORMAT, digest_of_model(restored.model), restored.bpe.digest, digest_of_file(cfg.cuts),
              restored.content["system"], cfg.timestamps]
    jobs, recogs = [], []
    for setting in settings:
        search, backend = search_of(setting, restored.model, resources, cfg.search_backend, cfg.nbest)
        files = writing.files_of(setting)
        recogs.append(files.recogs)
        used = [resources.digests[name] for name, _ in setting.sources]
        nbest = cfg.nbest if setting.has_nbest else 1
        everything = [*inputs, backend, setting.method, setting.values, used, nbest]
        made_from = digest_of_lines([json.dumps(everything, sort_keys=True)])
        if not cfg.force and files.is_made_from(made_from):
            console.kept(files.recogs, "same model, cuts and options")
        else:
            if files.recogs.exists():
                console.says(f"replaces {files.recogs} (of another model, cuts or options)")
            files.folder.mkdir(parents=True, exist_ok=True)
            jobs.append(Job(files, search, backend, made_from))
    return jobs, recogs


def decode(
    decoder: Decoder, utterances: Utterances, cfg: Config
) -> tuple[list[dict[str, Result]], dict[str, str]]:
    """For each search the readings by id; and why the audio of some could not be read, by id."""
    results: list[dict[str, Result]] = [{} for _ in decoder.searches]
    failed: dict[str, str] = {}
    batches = utterances.batches(cfg.max_duration)
    for batch in console.progress(utterances.load(batches, cfg.workers), "batches", len(batches)):
        failed.update(batch.failed)
        if len(batch):
            for of_search, readings in zip(results, decoder(batch)):
                of_search.update(zip(batch.ids, readings))
    for reason in [failed[id] for id in sorted(failed)][:SHOWN]:
        console.says(f"left out {reason}")
    if failed:
        console.says(f"{len(failed):,} of {len(utterances):,} utterances are left out; decoding-*.json names them")
    if len(failed) == len(utterances):
        raise UserError(f"{cfg.cuts}: no audio of it could be read, so nothing is written; see the lines above")
    return results, failed


def about_all(
    cfg: Config, restored: Restored, decoder: Decoder, utterances: Utterances, failed: dict[str, str]
) -> dict[str, Any]:
    """What decoding-*.json says of every setting."""
    kind, number = restored.suffix.split("-")[:2]
    seconds = zip(utterances.ids, utterances.durations.tolist())
    return {
        "checkpoint": str(cfg.exp_dir / f"{'checkpoint' if kind == 'iter' else 'epoch'}-{number}.pt"),
        "model": restored.suffix,
        "utterances": len(utterances) - len(failed),
        "without_reference": len([id for id in utterances.ids if id not in utterances.references]),
        "failed": dict(sorted(failed.items())),
        "audio_seconds": round(sum(length for id, length in seconds if id not in failed), 3),
        "encoder_seconds": round(decoder.encoder_seconds, 3),
        "peak_memory_mb": round(decoder.peak_memory_mb(), 1),
        "device": str(decoder.device),
        "command": shlex.join(["python", "-m", "icefall_ext.bin.decode", *sys.argv[1:]]),
        "ended": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def write(
    jobs: Sequence[Job], results: Sequence[dict[str, Result]], utterances: Utterances, about: dict[str, Any],
    search_seconds: Sequence[float],
) -> None:
    rows = []
    for job, of_job, seconds in zip(jobs, results, search_seconds):
        factor = (about["encoder_seconds"] + seconds) / max(about["audio_seconds"], 0.001)
        job.files.write(of_job, utterances.references, {
            "method": job.files.setting.method,
            "options": dict(job.files.setting.values),
            "backend": job.backend,
            **about,
            "search_seconds": round(seconds, 3),
            "real_time_factor": round(factor, 5),
            "made_from": job.made_from,
        })
        times = f"{about['encoder_seconds']:.1f}", f"{seconds:.1f}", f"{factor:.4f}"
        rows.append((str(job.files.setting), job.backend, *times))
    console.table(("", "backend", "encoder s", "search s", "real-time factor"), rows)
    for job in jobs:
        console.wrote(job.files.recogs)


if __name__ == "__main__":
    run(main, Config)
