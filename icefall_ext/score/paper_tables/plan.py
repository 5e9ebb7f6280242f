"""The runs that make a table: run.sh for every row and seed, and for everything that several of them begin from.

Rows share the data, which stages 0 to 4 have made before. What `shared:` of the definitions names, such as the encoder
that stage 5 pre-trains, is made once for all rows and tables of an experiment folder, in table-<name>s/, and handed on
as a folder. A run is named after what it has other than the defaults, so rows that are the same system are one run, in
one table or in two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icefall_ext.errors import UsageError
from icefall_ext.score.paper_tables.definition import Definitions, Row, Shared, Table
from icefall_ext.score.paper_tables.side_by_side import Job

FIRST_STAGE, LAST_STAGE = 5, 9
# Options of the command that runs the table, not of the runs.
OF_THE_TABLE = ("table", "seeds", "jobs", "results", "stage", "stop_stage", "exp_dir")
# Options that change no figure.
OF_THE_MACHINE = ("jobs", "results", "stage", "exp_dir", "data_dir", "nj", "python", "verbose", "force", "threads")


@dataclass(frozen=True, eq=False)
class Run:
    """Of one row; rows that are the same system have the same job."""

    row: Row
    seed: int
    folder: Path
    job: Job


@dataclass(frozen=True)
class Plan:
    jobs: list[Job]  # in the order in which they begin
    runs: list[Run]
    shared: dict[str, list[Job]]  # by name in the definitions


@dataclass(frozen=True)
class Asked:
    """A command line of run.sh as it was given: the program, then `--name value` pairs."""

    program: str
    given: dict[str, str]  # by name as in the shell, with underscores
    always: Mapping[str, str] = field(default_factory=dict)  # what runs get where it is silent

    @classmethod
    def of(cls, words: Sequence[str], always: Mapping[str, str]) -> Asked:
        names, values = words[1::2], words[2::2]
        if not words or len(names) != len(values) or not all(name.startswith("--") for name in names):
            raise UsageError(f"{' '.join(words)}: has to be a program and pairs of --name value")
        return cls(words[0], {name[2:].replace("-", "_"): value for name, value in zip(names, values)}, always)

    def value(self, name: str) -> str:
        return {**self.always, **self.given}[name]

    def check(self, name: str, table: Table, corpus: str) -> None:
        """Everything that would make rows that cannot be compared, before anything runs."""
        if int(self.given.get("stop_stage", LAST_STAGE)) != LAST_STAGE:
            raise UsageError(f"--stop-stage {self.given['stop_stage']}: a table runs its rows to stage {LAST_STAGE}; "
                             "leave it out")
        if int(self.given.get("stage", 0)) > FIRST_STAGE:
            raise UsageError(f"--stage {self.given['stage']}: a table runs its rows from stage {FIRST_STAGE} on; what "
                             "is up to date is not done again")
        if "train_seed" in self.given:
            raise UsageError(f"--train-seed {self.given['train_seed']}: the rows of a table take seeds from 1 on; give "
                             "their number with --seeds")
        for option, value in self.given.items():
            wanted = {row.name: row.options_for(corpus).get(option, value) for row in table.rows}
            if set(wanted.values()) != {value}:
                rows = ", ".join(f"{row}: {other or 'none'}" for row, other in wanted.items())
                raise UsageError(f"{flag(option)} {value}: table {name} sets that for its rows ({rows}); leave it out")

    def command(self, options: Mapping[str, object]) -> list[str]:
        """With one thread, unless asked for more: the other cores are for the runs side by side."""
        passed_on = {name: value for name, value in self.given.items() if name not in OF_THE_TABLE}
        chosen = {"threads": 1, **self.always, **passed_on, **options}
        return [self.program, *(word for name, value in chosen.items() for word in (flag(name), str(value)))]

    def as_typed(self) -> list[str]:
        """What a reader has to type to get the figures."""
        typed = {name: value for name, value in self.given.items() if name not in OF_THE_MACHINE}
        return [self.program, *(word for name, value in typed.items() for word in (flag(name), value))]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def plan(
    table: Table, definitions: Definitions, asked: Asked, corpus: str, encoder: str, epochs: int, exp_dir: Path,
    seeds: int,
) -> Plan:
    """`encoder` is for rows that do not name one, `epochs` those of both phases. The first seed of every row comes
    first: rows soon show beside each other."""
    planner = _Planner(definitions, asked, encoder, exp_dir)
    runs = [planner.run(row, row.options_for(corpus), seed, epochs)
            for seed in range(1, seeds + 1) for row in table.rows]  # fmt: skip
    return Plan(list(planner.jobs.values()), runs, planner.shared)


class _Planner:
    def __init__(self, definitions: Definitions, asked: Asked, encoder: str, exp_dir: Path):
        self.definitions, self.asked, self.exp_dir = definitions, asked, exp_dir
        self.defaults = {**definitions.defaults, "encoder": encoder}
        self.jobs: dict[str, Job] = {}
        self.shared: dict[str, list[Job]] = {}

    def run(self, row: Row, of_row: Mapping[str, str], seed: int, epochs: int) -> Run:
        options: dict[str, object] = dict(of_row)
        system = self._system({**self.asked.given, **options})
        if row.longer:
            system, options["phase2_epochs"] = f"{system}-longer", epochs
        after = self._hand_on(options, seed, LAST_STAGE)
        folder = self.exp_dir / "table-runs" / f"{system}-seed{seed}"
        options |= {"stage": FIRST_STAGE, "stop_stage": LAST_STAGE, "exp_dir": folder, "train_seed": seed}
        return Run(row, seed, folder, self._job(folder.name, options, folder, after))

    def _system(self, chosen: Mapping[str, object]) -> str:
        """A name for a folder: phases-direct-encoder-nontonal."""
        other = [f"{name}-{chosen[name]}" for name, value in self.defaults.items()
                 if str(chosen.get(name, value)) != str(value)]
        return re.sub(r"[^\w.-]", "_", "-".join(other)) or "default"

    def _hand_on(self, options: dict[str, object], seed: int, until: int) -> tuple[str, ...]:
        """Folders in place of the values that name shared runs; returns the names of these.

        A run that ends before stage `until` has something for one that goes as far as that.
        """
        after = []
        for name, shared in self.definitions.shared.items():
            of_all = {**self.defaults, **self.asked.given, **options}
            value = str(of_all.get(shared.option, ""))
            needless = any(str(of_all.get(option)) == other for option, other in shared.unless.items())
            if value not in shared.values or needless or shared.stop_stage >= until:
                continue
            job, folder = self._shared_job(name, shared, value, seed)
            options[shared.option] = folder / shared.gives
            after.append(job.name)
        return tuple(after)

    def _shared_job(self, name: str, shared: Shared, value: str, seed: int) -> tuple[Job, Path]:
        called = f"{value}-seed{seed}" if shared.each_seed else value
        folder = self.exp_dir / f"table-{name}s" / called
        options: dict[str, object] = {shared.option: value}
        options |= {option: text.format(value=value, folder=folder) for option, text in shared.options.items()}
        after = self._hand_on(options, seed, shared.stop_stage)
        options |= {"stage": shared.first_stage, "stop_stage": shared.stop_stage, "exp_dir": folder}
        options |= {"train_seed": seed} if shared.each_seed else {}
        job = self._job(f"{name}-{called}", options, folder, after)
        of_name = self.shared.setdefault(name, [])
        of_name += [job] if job not in of_name else []
        return job, folder

    def _job(self, name: str, options: Mapping[str, object], folder: Path, after: tuple[str, ...]) -> Job:
        log = folder.with_name(f"{folder.name}.log")
        return self.jobs.setdefault(name, Job(name, self.asked.command(options), log, after))
