"""A request to stop: SIGTERM or SIGUSR1, from a cluster that takes the machine away, or Ctrl-C.

A training that is asked finishes its step, writes a checkpoint and ends with STOPPED: run it again and it goes on. A
program that has nothing to save yet ends at once, with the same status.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from icefall_ext.cli import program_name
from icefall_ext.errors import UserError

STOPPED = 85  # exit status: stopped on request, nothing is lost, the same command continues
BY_HAND = 130  # the same after Ctrl-C, as shells expect it
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(UserError):
    """What was asked for has been done: not an error, but the end of the program."""

    def __init__(self, message: str, exit_status: int = STOPPED):
        super().__init__(message, exit_status=exit_status)


def stop_at_once_when_asked() -> None:
    """For the time in which a program has nothing to save; Ctrl-C does that without being told."""
    for number in _FROM_OUTSIDE:
        signal.signal(number, _stop_at_once)


def _stop_at_once(number: int, _: object) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        _to_stderr(f"{program_name()}: {name_of(number)}: stopped; the same command continues")
    raise SystemExit(STOPPED)


class Request:
    """Whether a signal came since `noted` began."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def exit_status(self) -> int:
        return BY_HAND if self.number == signal.SIGINT else STOPPED

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, a signal is only noted; Ctrl-C for the second time is an exception as ever. One that came too late
        for what is inside is passed on to what comes after it."""
        earlier = {number: signal.signal(number, self._note) for number in (*_FROM_OUTSIDE, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
        if self.number:
            signal.raise_signal(self.number)

    def _note(self, number: int, _: object) -> None:
        if number == signal.SIGINT and self.number:
            raise KeyboardInterrupt
        if number == signal.SIGINT and os.environ.get("RANK", "0") == "0":
            _to_stderr("         stopping after this step; Ctrl-C again stops at once")
        self.number = self.number or number


def name_of(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _to_stderr(line: str) -> None:
    """Not through Python's buffer: the signal may have come while that is being written to."""
    os.write(2, (line + "\n").encode("utf-8", "backslashreplace"))
