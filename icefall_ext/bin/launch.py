"""Run a program of this project in several processes on this machine: torch's variables for each, one end for all.

    python -m icefall_ext.bin.launch 2 icefall_ext.bin.train --exp-dir ...

torchrun does the same for several machines. Here the first process that fails ends the others at once, with its own
message and exit status and nothing else, and a signal to this program goes to all of them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

GRACE_S = 10.0


def main(argv: list[str]) -> int:
    if len(argv) < 2 or not argv[0].isdecimal() or int(argv[0]) < 1:
        print("usage: python -m icefall_ext.bin.launch PROCESSES MODULE [OPTIONS]", file=sys.stderr)
        return 2
    count, module, options = int(argv[0]), argv[1], argv[2:]
    command = [sys.executable, "-m", module, *options]
    if count == 1:
        os.execv(command[0], command)
    started = [subprocess.Popen(command, env=environment(rank, count, port)) for port in [free_port()]
               for rank in range(count)]
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda got, _: [process.send_signal(got) for process in started])
    try:
        return wait(started)
    except KeyboardInterrupt:  # the terminal has told them too
        end(started)
        return 130


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(started: list[subprocess.Popen]) -> int:
    """Until all have ended well, or one has not."""
    while True:
        statuses = [process.poll() for process in started]
        failed = [status for status in statuses if status]
        if failed:
            end(started)
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(status == 0 for status in statuses):
            return 0
        time.sleep(0.05)


def end(started: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + GRACE_S
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
