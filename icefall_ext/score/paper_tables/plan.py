"""The runs that make a table: run.sh for every row and seed, and for every encoder that several of them start from.

Rows share the data, which stages 0 to 4 have made before. An encoder that stage 5 pre-trains is made once for all rows,
seeds and tables of an experiment folder, in table-encoders/, and handed on as a folder. A run is named after what it
has other than the defaults, so rows of two tables that are the same system are one run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icefall_ext.errors import UsageError
from icefall_ext.score.paper_tables.definition import Row, Table
from icefall_ext.score.paper_tables.side_by_side import Job

PRETRAINED_HERE = ("tonal", "nontonal")  # values of run.sh's --encoder
METHOD = "modified_beam_search"
FIRST_STAGE, LAST_STAGE = 5, 9
# Options of the command that runs the table, not of the runs.
OF_THE_TABLE = ("table", "seeds", "jobs", "results", "stage", "stop_stage", "exp_dir")
# Options that change no figure.
OF_THE_MACHINE = ("jobs", "results", "stage", "exp_dir", "data_dir", "nj", "python", "verbose", "force", "threads")


@dataclass(frozen=True, eq=False)
class Run:
    row: Row
    seed: int
    folder: Path
    job: Job


@dataclass(frozen=True)
class Plan:
    encoders: list[Job]
    runs: list[Run]

    @property
    def jobs(self) -> list[Job]:
        return [*self.encoders, *(run.job for run in self.runs)]


@dataclass(frozen=True)
class Asked:
    """A command line of run.sh as it was given: the program, then `--name value` pairs."""

    program: str
    given: dict[str, str]  # by name as in the shell, with underscores

    @classmethod
    def of(cls, words: Sequence[str]) -> Asked:
        names, values = words[1::2], words[2::2]
        if not words or len(names) != len(values) or not all(name.startswith("--") for name in names):
            raise UsageError(f"{' '.join(words)}: has to be a program and pairs of --name value")
        return cls(words[0], {name[2:].replace("-", "_"): value for name, value in zip(names, values)})

    @property
    def method(self) -> str:
        return self.given.get("methods", METHOD)

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
        if "," in self.method:
            raise UsageError(f"--methods {self.method}: a table compares rows by one method; {METHOD} unless you name "
                             "another")
        for option, value in self.given.items():
            wanted = {row.name: row.options_for(corpus).get(option, value) for row in table.rows}
            if set(wanted.values()) != {value}:
                rows = ", ".join(f"{row}: {other}" for row, other in wanted.items())
                raise UsageError(f"{flag(option)} {value}: table {name} sets that for its rows ({rows}); leave it out")

    def command(self, options: Mapping[str, object]) -> list[str]:
        """With one thread, unless asked for more: the other cores are for the runs side by side."""
        passed_on = {name: value for name, value in self.given.items() if name not in OF_THE_TABLE}
        chosen = {"threads": 1, "methods": self.method, **passed_on, **options}
        return [self.program, *(word for name, value in chosen.items() for word in (flag(name), str(value)))]

    def as_typed(self) -> list[str]:
        """What a reader has to type to get the figures."""
        typed = {name: value for name, value in self.given.items() if name not in OF_THE_MACHINE}
        return [self.program, *(word for name, value in typed.items() for word in (flag(name), value))]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def plan(
    table: Table, defaults: Mapping[str, str], asked: Asked, corpus: str, encoder: str, epochs: int, exp_dir: Path,
    seeds: int,
) -> Plan:
    """`encoder` is for rows that do not name one, `epochs` those of both phases. The first seed of every row comes
    first: rows soon show beside each other."""
    encoders: dict[str, Job] = {}
    runs = []
    for seed in range(1, seeds + 1):
        for row in table.rows:
            options: dict[str, object] = dict(row.options_for(corpus))
            source, after = str(options.get("encoder", encoder)), ""
            system = _system({**defaults, "encoder": encoder}, {**asked.given, **options})
            if row.longer:
                system, options["phase2_epochs"] = f"{system}-longer", epochs
            if source in PRETRAINED_HERE:
                job = encoders.setdefault(source, _encoder(source, asked, exp_dir))
                options["encoder"], after = exp_dir / "table-encoders" / source / "encoder", job.name
            folder = exp_dir / "table-runs" / f"{system}-seed{seed}"
            options |= {"stage": FIRST_STAGE, "stop_stage": LAST_STAGE, "exp_dir": folder, "train_seed": seed}
            runs.append(Run(row, seed, folder, Job(folder.name, asked.command(options), _log(folder), after)))
    return Plan(list(encoders.values()), runs)


def _system(defaults: Mapping[str, str], chosen: Mapping[str, object]) -> str:
    """A name for a folder: phases-direct-encoder-nontonal."""
    other = [f"{name}-{chosen[name]}" for name, value in defaults.items() if str(chosen.get(name, value)) != str(value)]
    return re.sub(r"[^\w.-]", "_", "-".join(other)) or "default"


def _encoder(source: str, asked: Asked, exp_dir: Path) -> Job:
    folder = exp_dir / "table-encoders" / source
    options = {"encoder": source, "stage": FIRST_STAGE, "stop_stage": FIRST_STAGE, "exp_dir": folder}
    return Job(f"encoder-{source}", asked.command(options), _log(folder))


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")
