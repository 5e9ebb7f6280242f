"""Run every row of a table with every seed, side by side, and write what came out as a section of RESULTS.md.

`./run.sh --table NAME` calls it. The same command continues: what a run has finished is up to date for it. A run that
fails is named with its log, and the others go on; the section is written when all have ended well.
"""

from __future__ import annotations

import math
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, positional, required, run
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl, write_text
from icefall_ext.parallel import cores
from icefall_ext.score.inputs import read_manifest
from icefall_ext.score.paper_tables.definition import Definitions, Table, read_definitions
from icefall_ext.score.paper_tables.figures import Figures, Outcome
from icefall_ext.score.paper_tables.plan import Asked, Plan, Run, plan
from icefall_ext.score.paper_tables.recognition import Recognition
from icefall_ext.score.paper_tables.section import Conditions, put_section, section
from icefall_ext.score.paper_tables.side_by_side import Ended, run_side_by_side
from icefall_ext.score.paper_tables.words import Words


@dataclass
class Config:
    table: str = required("its name in --definitions")
    definitions: Path = required("tables.yaml of the recipe")
    data_dir: Path = required("what stages 0 to 4 wrote")
    corpus: str = required("name of the corpus, in the definitions and in the results")
    encoder: str = required("of rows that do not name one")
    exp_dir: Path = required("the runs go below it, into table-runs/")
    results: Path = required("RESULTS.md")
    conf: str = required("settings of the training; named in the results")
    files: str = option("", "what its manifests are called by, if not by the name of the corpus")
    epochs: list[str] = option([], "NAME=NUMBER, of what the rows are trained on; named in the results")
    pretrained: str = option("", "on what encoders are pre-trained here; named in the results")
    seeds: int = option(3, "runs of each row, with the seeds 1, 2, ...")
    processes: int = option(1, "of each run")
    jobs: int = option(0, "runs side by side; 0: as many as there are GPUs, or else cores, for their processes")
    device: str = option("auto", "what the runs are on")
    check_only: bool = option(False, "check the options and stop")
    command: list[str] = positional("after --: run.sh and the options that were given to it", "RUN.SH --OPTION VALUE")


def main(cfg: Config) -> int:
    definitions = read_definitions(cfg.definitions)
    table = definitions.table(cfg.table, cfg.corpus)
    asked = Asked.of(cfg.command, definitions.always)
    figures = check(cfg, definitions, table, asked)
    if cfg.check_only:
        return 0
    all_epochs = sum(epochs_of(cfg).values())
    planned = plan(table, definitions, asked, cfg.corpus, cfg.encoder, all_epochs, cfg.exp_dir, cfg.seeds)
    ended = run_all(planned, environments(cfg), figures)
    failed = {one.job.name for one in ended if one.status}
    outcomes = {run: figures.read(run.folder, run.row) for run in planned.runs if run.job.name not in failed}
    text = write_up(cfg, definitions, table, figures, outcomes, asked, planned) if outcomes else ""
    return conclude(cfg, text, [one for one in ended if one.status])


def check(cfg: Config, definitions: Definitions, table: Table, asked: Asked) -> Figures:
    if cfg.seeds < 1 or cfg.jobs < 0:
        raise UsageError(f"--seeds {cfg.seeds}: at least 1; --jobs {cfg.jobs}: 0 or more")
    epochs_of(cfg)
    asked.check(cfg.table, table, cfg.corpus)
    try:
        return figures_of(definitions, table, asked)
    except UsageError as error:
        if not str(error).startswith("--"):  # not the command line but the file is wrong
            raise UsageError(f"{cfg.definitions}: table {cfg.table}: {error}") from None
        raise


def figures_of(definitions: Definitions, table: Table, asked: Asked) -> Figures:
    if definitions.figures == "recognition":
        return Recognition(table.also, asked.value("methods"))
    if definitions.figures == "words":
        return Words(table.also)
    raise UsageError(f"figures: {definitions.figures}: has to be recognition or words")


def epochs_of(cfg: Config) -> dict[str, int]:
    pairs = [text.rpartition("=") for text in cfg.epochs]
    wrong = [text for text, (name, _, number) in zip(cfg.epochs, pairs) if not name or not number.isdecimal()]
    if wrong:
        raise UsageError(f"--epochs {wrong[0]}: has to be a name, =, and a number")
    return {name: int(number) for name, _, number in pairs}


def environments(cfg: Config) -> list[dict[str, str]]:
    """Of each run that is under way: GPUs of its own where there are some, one thread where there are none."""
    processes = cfg.processes
    gpus = visible_gpus() if cfg.device != "cpu" else []
    if not gpus:
        return [{"OMP_NUM_THREADS": "1"}] * (cfg.jobs or max(1, cores() // processes))
    shares = [gpus[start : start + processes] for start in range(0, len(gpus) - processes + 1, processes)] or [gpus]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(shares[job % len(shares)])} for job in range(cfg.jobs or len(shares))]


def visible_gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def run_all(planned: Plan, places: list[dict[str, str]], figures: Figures) -> list[Ended]:
    jobs, names = planned.jobs, [job.name for of_name in planned.shared.values() for job in of_name]
    before = f" and what they begin from ({', '.join(names)})" if names else ""
    console.says(f"{len(jobs) - len(names)} runs{before}, {len(places)} side by side; logs: "
                 f"{planned.runs[0].folder.parent}/*.log")
    times: list[float] = []
    done = 0

    def on_end(ended: Ended) -> None:
        nonlocal done
        done += 1
        what = ended.why if ended.status else f"done in {ended.seconds:.0f} s"
        if not ended.status and (measured := [run for run in planned.runs if run.job.name == ended.job.name]):
            times.append(ended.seconds)
            what += f", {'; '.join(figure_of(run, figures, len(measured) > 1) for run in measured)}"
        left = still_to_go(times, len(jobs) - done, len(places))
        console.says(f"{time.strftime('%H:%M:%S')} {ended.job.name}  {what}  ({done} of {len(jobs)}{left})")

    return run_side_by_side(jobs, places, on_end)


def figure_of(run: Run, figures: Figures, named: bool) -> str:
    """`named` with its row, where several are about models of one run."""
    try:
        return f"{run.row.name}: " * named + figures.in_short(figures.read(run.folder, run.row))
    except UserError as error:  # which the end will raise again, when the others are done
        return f"but {error}"


def still_to_go(times: list[float], jobs: int, side_by_side: int) -> str:
    """From runs that had something to do: those that were up to date take seconds."""
    real = [seconds for seconds in times if seconds >= max(times) / 5]
    if not real or not jobs:
        return ""
    return f", about {math.ceil(sum(real) / len(real) * jobs / min(side_by_side, jobs) / 60)} min to go"


def write_up(
    cfg: Config, definitions: Definitions, table: Table, figures: Figures, outcomes: dict[Run, Outcome], asked: Asked,
    planned: Plan,
) -> str:
    seeds_of = {
        row.name: {run.seed: outcome for run, outcome in outcomes.items() if run.row is row}
        for row in table.rows if any(run.row is row for run in outcomes)
    }  # fmt: skip
    data = DataDir(cfg.data_dir, cfg.files or cfg.corpus)
    speaker_of = {id: entry.speaker for id, entry in read_manifest(data.cuts("test")).items()}
    columns = figures.columns(seeds_of, table.rows[0].name, speaker_of)
    training = list(read_jsonl(learnt_from(data)))
    trained = {item.get("speaker") for item in training}
    speakers = figures.tested({speaker for speaker in speaker_of.values() if speaker}, trained)
    conditions = Conditions(
        corpus=cfg.corpus,
        hours=sum(item["duration"] for item in training) / 3600,
        speakers=f"{len(speakers)} {'unseen ' if speakers.isdisjoint(trained) else ''}speakers" if speakers
        else columns.speakers,
        conf=Path(cfg.conf).name,
        epochs=epochs_of(cfg),
        pretrained=f"Encoders were pre-trained here {cfg.pretrained}, once for all seeds, which differ in the weights "
        "and batches of fine-tuning." if "encoder" in planned.shared else "",
        command=shlex.join(asked.as_typed()),
    )  # fmt: skip
    missing = dict.fromkeys(run.job.name for run in planned.runs if run not in outcomes)
    return section(cfg.table, table, definitions.paper, seeds_of, columns, conditions, list(missing))


def learnt_from(data: DataDir) -> Path:
    """The training part, after the text stage where the recipe has one."""
    prepared = data.prepared_supervisions("train")
    return prepared if prepared.is_file() else data.supervisions("train")


def conclude(cfg: Config, text: str, failed: list[Ended]) -> int:
    """What was not measured in full does not take the place of what was."""
    partial = cfg.exp_dir / "table-runs" / f"incomplete-{cfg.table}.md"
    if not failed:
        partial.unlink(missing_ok=True)
        put_section(cfg.results, cfg.table, cfg.corpus, text)
        print(text, end="")
        console.wrote(cfg.results, f"table {cfg.table} on {cfg.corpus}")
        return 0
    for one in failed:
        console.says(f"{one.job.name}  {one.why}")
    if text:
        write_text(partial, text)
        console.wrote(partial, f"without the {len(failed)} that failed; {cfg.results} is as it was")
    return 1


if __name__ == "__main__":
    run(main, Config)
