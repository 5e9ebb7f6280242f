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
from icefall_ext.score.confidence import bootstrap
from icefall_ext.score.inputs import read_manifest
from icefall_ext.score.paper_tables.definition import Paper, Table, read_definitions
from icefall_ext.score.paper_tables.plan import Asked, Plan, Run, plan
from icefall_ext.score.paper_tables.results import MEASURES, Outcome, Outcomes, read_outcome, stop_unless_one_test_set
from icefall_ext.score.paper_tables.section import Conditions, put_section, section
from icefall_ext.score.paper_tables.side_by_side import Ended, run_side_by_side


@dataclass
class Config:
    table: str = required("its name in --definitions")
    definitions: Path = required("tables.yaml of the recipe")
    data_dir: Path = required("what stages 0 to 4 wrote")
    corpus: str = required("name of the corpus")
    encoder: str = required("of rows that do not name one")
    exp_dir: Path = required("the runs go below it, into table-runs/")
    results: Path = required("RESULTS.md")
    conf: str = required("settings of the training; named in the results")
    phase1_epochs: int = option(0, "named in the results")
    phase2_epochs: int = option(0, "named in the results")
    source_hours: float = option(0.0, "named in the results, of encoders that are pre-trained here")
    seeds: int = option(3, "runs of each row, with the seeds 1, 2, ...")
    processes: int = option(1, "of each run")
    jobs: int = option(0, "runs side by side; 0: as many as there are GPUs, or else cores, for their processes")
    device: str = option("auto", "what the runs are on")
    check_only: bool = option(False, "check the options and stop")
    command: list[str] = positional("after --: run.sh and the options that were given to it", "RUN.SH --OPTION VALUE")


def main(cfg: Config) -> int:
    definitions = read_definitions(cfg.definitions)
    table, asked = definitions.table(cfg.table), Asked.of(cfg.command)
    check(cfg, table, asked)
    if cfg.check_only:
        return 0
    both_phases = cfg.phase1_epochs + cfg.phase2_epochs
    planned = plan(table, definitions.defaults, asked, cfg.corpus, cfg.encoder, both_phases, cfg.exp_dir, cfg.seeds)
    places = environments(cfg)
    ended = run_all(planned, places, asked)
    failed = {one.job.name for one in ended if one.status}
    outcomes = {run: read_outcome(run.folder, asked.method, table.also)
                for run in planned.runs if run.job.name not in failed}
    text = write_up(cfg, table, definitions.paper, outcomes, asked, planned) if outcomes else ""
    return conclude(cfg, text, [one for one in ended if one.status])


def check(cfg: Config, table: Table, asked: Asked) -> None:
    if cfg.seeds < 1 or cfg.jobs < 0:
        raise UsageError(f"--seeds {cfg.seeds}: at least 1; --jobs {cfg.jobs}: 0 or more")
    unknown = [name for name in table.also if name not in MEASURES]
    if unknown:
        raise UsageError(f"{cfg.definitions}: also: {unknown[0]} is none of {', '.join(MEASURES)}")
    asked.check(cfg.table, table, cfg.corpus)


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


def run_all(planned: Plan, places: list[dict[str, str]], asked: Asked) -> list[Ended]:
    jobs = planned.jobs
    before = f" after {', '.join(job.name for job in planned.encoders)}" if planned.encoders else ""
    console.says(f"{len(planned.runs)} runs{before}, {len(places)} side by side; logs: "
                 f"{planned.runs[0].folder.parent}/*.log")
    times: list[float] = []
    folder_of = {run.job.name: run.folder for run in planned.runs}
    done = 0

    def on_end(ended: Ended) -> None:
        nonlocal done
        done += 1
        what = ended.why if ended.status else f"done in {ended.seconds:.0f} s"
        if not ended.status and ended.job.name in folder_of:
            times.append(ended.seconds)
            what += f", {error_rate_in(folder_of[ended.job.name], asked.method)}"
        left = still_to_go(times, len(jobs) - done, len(places))
        console.says(f"{time.strftime('%H:%M:%S')} {ended.job.name}  {what}  ({done} of {len(jobs)}{left})")

    return run_side_by_side(jobs, places, on_end)


def error_rate_in(folder: Path, method: str) -> str:
    try:
        return f"strict CER {read_outcome(folder, method, ()).percent:.2f} %"
    except UserError as error:  # which the end will raise again, when the others are done
        return f"but {error}"


def still_to_go(times: list[float], jobs: int, side_by_side: int) -> str:
    """From runs that had something to do: those that were up to date take seconds."""
    real = [seconds for seconds in times if seconds >= max(times) / 5]
    if not real or not jobs:
        return ""
    return f", about {math.ceil(sum(real) / len(real) * jobs / min(side_by_side, jobs) / 60)} min to go"


def write_up(cfg: Config, table: Table, paper: Paper, outcomes: dict[Run, Outcome], asked: Asked, planned: Plan) -> str:
    rows = {
        row.name: Outcomes({run.seed: outcome for run, outcome in outcomes.items() if run.row is row})
        for row in table.rows if any(run.row is row for run in outcomes)
    }  # fmt: skip
    stop_unless_one_test_set(rows)
    data = DataDir(cfg.data_dir, cfg.corpus)
    speaker_of = {id: entry.speaker for id, entry in read_manifest(data.cuts("test")).items()}
    draws = bootstrap(next(iter(rows.values())).first.ids, speaker_of)
    conditions = conditions_of(cfg, data, draws.what, {s for s in speaker_of.values() if s}, asked, planned)
    missing = [run.job.name for run in planned.runs if run not in outcomes]
    return section(cfg.table, table, paper, rows, draws, conditions, missing)


def conditions_of(
    cfg: Config, data: DataDir, drawn: str, speakers: set[str], asked: Asked, planned: Plan
) -> Conditions:
    training = list(read_jsonl(data.prepared_supervisions("train")))
    unseen = speakers and speakers.isdisjoint({item.get("speaker") for item in training})
    pretrained = ""
    if planned.encoders:
        pretrained = (f"Encoders were pre-trained here on {cfg.source_hours:g} h of their language, once for all "
                      "seeds, which differ in the weights and batches of fine-tuning.")
    return Conditions(
        corpus=cfg.corpus,
        hours=sum(item["duration"] for item in training) / 3600,
        speakers=f"{len(speakers)} {'unseen ' if unseen else ''}speakers" if speakers else drawn,
        conf=Path(cfg.conf).name,
        phase1_epochs=cfg.phase1_epochs,
        phase2_epochs=cfg.phase2_epochs,
        pretrained=pretrained,
        command=shlex.join(asked.as_typed()),
    )


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
