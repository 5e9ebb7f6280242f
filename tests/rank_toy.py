"""A program for several processes that does what it is told: python -m tests.rank_toy WHAT [RANK] [FOLDER]."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist

from icefall_ext.cli import program_name
from icefall_ext.distributed.world import World
from icefall_ext.errors import UserError


def main(what: str, rank: int = -1, folder: str = ".") -> int:
    with World.start(torch.device("cpu")) as world:
        total = torch.tensor([float(world.rank)])
        dist.all_reduce(total)
        print(f"{world.size} processes, sum of ranks {total.item():.0f}", flush=True)
        if what == "fail" and world.rank == rank:
            raise UserError("the disk of this machine is on fire")
        if what == "killed" and world.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        if what in ("fail", "killed", "hang"):
            if what == "fail":  # as in a collective of NCCL, which no handler of Python interrupts
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (Path(folder) / f"hangs-{world.rank}").touch()
            time.sleep(300)
        if what == "stop":
            asked = threading.Event()
            signal.signal(signal.SIGUSR1, lambda *_: asked.set())
            (Path(folder) / f"ready-{world.rank}").touch()
            asked.wait(60)
            time.sleep(1.0 if world.rank == 0 else 0.0)  # the first writes a checkpoint
            print("saved", flush=True)
            return 85
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(*[int(word) if word.isdecimal() else word for word in sys.argv[1:]]))
    except UserError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
