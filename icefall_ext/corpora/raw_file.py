"""Bytes of a regular file. A pipe or device under a file's name is an error here, where `open` would wait for ever."""

from __future__ import annotations

import os
import stat


def read_start(path: str, count: int) -> tuple[int, bytes]:
    """(size of the file, its first `count` bytes); raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", path)
        return status.st_size, os.read(descriptor, min(count, status.st_size))
    finally:
        os.close(descriptor)
