"""Work in several processes with the results in order, so that no output depends on how many there are."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from icefall_ext.errors import UsageError, UserError

T, R = TypeVar("T"), TypeVar("R")


def cores() -> int:
    """Those that this process may use: a cluster or a container may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(nj: int) -> int:
    """What `--nj` means."""
    if nj < 0:
        raise UsageError(f"--nj {nj}: at least 1, or 0 for one process for each core")
    return nj or cores()


def ordered_map(function: Callable[[T], R], tasks: Iterable[T], nj: int) -> Iterator[R]:
    """`function` over `tasks` in `nj` processes, results in order; only a few tasks a process are under way at once."""
    if nj <= 1:
        yield from map(function, tasks)
        return
    pool = ProcessPoolExecutor(nj, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        tasks = iter(tasks)
        pending = deque(pool.submit(function, task) for task in islice(tasks, 4 * nj))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, task) for task in islice(tasks, 1))
            yield result
    except BrokenProcessPool:
        raise UserError("a worker process was killed, probably for want of memory; use a lower --nj") from None
    finally:
        pool.shutdown(cancel_futures=True)


def in_chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk
