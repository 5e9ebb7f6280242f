"""Run a program of this project in several processes on this machine: torch's variables for each, one end for all.

    python -m icefall_ext.bin.launch 2 icefall_ext.bin.train --exp-dir ...

On several machines the same command goes to each, by srun (`srun --ntasks-per-node 1 python -m icefall_ext.bin.launch 8
...`) or by hand with NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT set; the processes are of each machine.

The first process that fails anywhere ends all others, with its own message and exit status and nothing else, and a
signal to this program goes to all of this machine. A process that has stopped on request, to go on later, has not
failed: the others are left to come to their own stop.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from icefall_ext.distributed.link import ON_REQUEST, Ending, Link, worst
from icefall_ext.distributed.place import Machine
from icefall_ext.errors import UserError
from icefall_ext.interruption import BY_HAND, STOPPED

GRACE_S = 10.0  # from SIGTERM to SIGKILL
STOPPING_S = 300.0  # for the others to write what they have when one has stopped on request


def main(argv: list[str]) -> int:
    if argv[:1] == ["--help"]:
        print(__doc__)
        return 0
    if len(argv) < 2 or not argv[0].isdecimal() or int(argv[0]) < 1:
        print("usage: python -m icefall_ext.bin.launch PROCESSES MODULE [OPTIONS]", file=sys.stderr)
        return 2
    count, module, options = int(argv[0]), argv[1], argv[2:]
    command = [sys.executable, "-m", module, *options]
    try:
        machine = Machine.this()
        if machine.count == count == 1:
            os.execv(command[0], command)
        return launch(command, count, machine)
    except UserError as error:
        print(f"{os.environ.get('CALLED_AS', 'launch')}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:  # before there was a process
        return BY_HAND


def launch(command: list[str], count: int, machine: Machine) -> int:
    group = Group()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, group.pass_on)
    link = Link.meet(machine, count)
    if group.signalled:
        return link.verdict(Ending(STOPPED, f"{platform.node()} was asked to stop"), GRACE_S)
    group.start(command, count, link)
    for _ in range(2):
        try:
            return group.wait(link)
        except KeyboardInterrupt:  # the terminal has told them too: for the first time, they come to their own stop
            pass
    group.end()
    return BY_HAND


class Group:
    """The processes on this machine."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen] = []
        self.signalled: set[int] = set()
        self._copies: list[Copy] = []
        self._first_rank = 0

    def start(self, command: list[str], count: int, link: Link) -> None:
        self._first_rank = link.machine.number * count
        several = link.machine.count > 1
        for local in range(count):
            environment = {
                **os.environ, "MASTER_ADDR": link.address, "MASTER_PORT": str(link.port), "LOCAL_RANK": str(local),
                "RANK": str(self._first_rank + local), "WORLD_SIZE": str(link.machine.count * count),
            }
            said = subprocess.PIPE if several else None  # so that the other machines can be told what it said last
            self.processes.append(subprocess.Popen(command, env=environment, stderr=said, preexec_fn=die_with_parent()))
        self._copies = [Copy(process.stderr) for process in self.processes if several]

    def pass_on(self, number: int, _: object) -> None:
        self.signalled.add(number)
        for process in self.processes:
            process.send_signal(number)

    def wait(self, link: Link) -> int:
        """Until all have ended well, here and elsewhere, or have been ended because one has not."""
        ending, deadline = None, 0.0
        while True:
            statuses, elsewhere = self.statuses(), link.poll()
            if ending is None and (ending := self.first_failure(statuses) or elsewhere):
                if ending is not elsewhere:
                    link.tell(ending)
                elif ending.status not in ON_REQUEST:
                    print(f"launch: {ending.why}; all processes stop", file=sys.stderr)
                deadline = time.monotonic() + (STOPPING_S if ending.status in ON_REQUEST else 0)
            failed = any(status not in (None, 0, *ON_REQUEST) for status in statuses)
            if ending and (failed or time.monotonic() > deadline):
                self.end()
                statuses = self.statuses()
            if None not in statuses:
                ending = ending or Ending(0, "")
                return link.verdict(Ending(worst([ending.status, *statuses]), ending.why), STOPPING_S)
            time.sleep(0.05)

    def statuses(self) -> list[int | None]:
        """As a shell counts them. One that our signal ended, before it was ready for it, has stopped on request."""
        found = []
        for process in self.processes:
            status = process.poll()
            if status is not None and status < 0:
                status = STOPPED if -status in self.signalled else 128 - status
            found.append(status)
        return found

    def first_failure(self, statuses: list[int | None]) -> Ending | None:
        for local, status in enumerate(statuses):
            if status:
                said = self._copies[local].last_line() if self._copies else ""
                how = f"rank {self._first_rank + local} on {platform.node()} ended with status {status}"
                return Ending(status, f"{how}{f': {said}' if said else ''}")
        return None

    def end(self) -> None:
        deadline = time.monotonic() + GRACE_S
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def die_with_parent() -> Callable[[], None] | None:
    """For a new process: else it would train on, its folder locked, when this one is killed. Linux alone can."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, kill_me = ctypes.CDLL(None).prctl, signal.SIGKILL
    return lambda: prctl(1, kill_me)  # PR_SET_PDEATHSIG


class Copy(threading.Thread):
    """Hands on what a process says on standard error, and remembers the end of it."""

    def __init__(self, stream: IO[bytes]):
        super().__init__(daemon=True)
        self._stream, self._lines = stream, deque(maxlen=20)
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self._lines.append(line.decode(errors="replace").strip())
            sys.stderr.buffer.write(line)
            sys.stderr.flush()

    def last_line(self) -> str:
        self.join(1.0)  # what it said as it ended may still be on its way
        return next((line for line in reversed(self._lines) if line), "")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
