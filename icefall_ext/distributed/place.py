"""Which process of how many this is, and which machine: as torchrun, srun or icefall_ext.bin.launch says.

Needs no torch: the launcher reads it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from icefall_ext.errors import UserError

_FIRST_PORT, _PORTS = 20000, 10000  # below those that a system gives to connections


@dataclass(frozen=True)
class Place:
    """Of a process that computes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @staticmethod
    def of_this_process(environment: MutableMapping[str, str] = os.environ) -> Place:
        """From RANK, WORLD_SIZE and LOCAL_RANK; else from srun, and then sets these and MASTER_* for torch."""
        if "WORLD_SIZE" not in environment:
            tasks = _number(environment, "SLURM_STEP_NUM_TASKS", 1)  # srun sets it, sbatch does not
            if tasks == 1:
                return Place()
            environment["WORLD_SIZE"] = str(tasks)
            environment["RANK"], environment["LOCAL_RANK"] = environment["SLURM_PROCID"], environment["SLURM_LOCALID"]
            machine = Machine.this(environment)
            environment.setdefault("MASTER_ADDR", machine.address)
            environment.setdefault("MASTER_PORT", str(machine.port))
        size, rank = _number(environment, "WORLD_SIZE"), _number(environment, "RANK", 0)
        if not 0 <= rank < size:
            raise UserError(f"RANK {rank}, WORLD_SIZE {size}: a launcher sets them to fit; unset both to train alone")
        return Place(rank, size, _number(environment, "LOCAL_RANK", 0))


@dataclass(frozen=True)
class Machine:
    """Of a launcher: `address` and `port` are where the launchers meet, on the first machine."""

    number: int = 0
    count: int = 1
    address: str = "127.0.0.1"
    port: int = 0

    @staticmethod
    def this(environment: MutableMapping[str, str] = os.environ) -> Machine:
        """From NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT; else from srun, which started one launcher a machine."""
        if "NNODES" in environment:
            count, number = _number(environment, "NNODES"), _number(environment, "NODE_RANK", 0)
            if count == 1:
                return Machine()
            missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
            if missing or not 0 <= number < count:
                wrong = f"without {missing[0]}" if missing else f"with NODE_RANK {number}"
                raise UserError(f"NNODES {count} {wrong}: on each machine set NODE_RANK (from 0), and MASTER_ADDR and "
                                "MASTER_PORT of the first")
            return Machine(number, count, environment["MASTER_ADDR"], _number(environment, "MASTER_PORT"))
        count = _number(environment, "SLURM_STEP_NUM_TASKS", 1)
        if count == 1:
            return Machine()
        hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
        if not hosts:
            raise UserError(f"SLURM_STEP_NUM_TASKS {count} without SLURM_STEP_NODELIST: start this with srun")
        job, step = _number(environment, "SLURM_JOB_ID", 0), _number(environment, "SLURM_STEP_ID", 0)
        port = _FIRST_PORT + (job * 10 + step) % _PORTS  # jobs and steps that share a machine must not meet
        here = environment.get("SLURM_STEP_NUM_NODES") == "1"  # then no name of a machine has to lead anywhere
        return Machine(_number(environment, "SLURM_PROCID"), count, "127.0.0.1" if here else first_host(hosts), port)


def first_host(nodes: str) -> str:
    """Of a list as Slurm writes it: gpu[07-09,12],cpu1 -> gpu07."""
    return re.sub(r"\[(\d+)[^]]*\]", r"\1", re.match(r"(?:\[[^]]*\]|[^,\[])+", nodes).group())


def _number(environment: MutableMapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UserError(f"{name} '{text}': must be a whole number; a launcher sets it")
    return int(text)
