"""Files that are either whole or absent, and whose bytes depend on their content alone."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from icefall_ext.errors import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # on the device, for the user, for the process


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; renamed when the block ends well, removed when it does not.

    The name is the same in every run, so that what a killed run left behind is overwritten, not collected.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        _to_the_disk(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise UserError(f"{path}: {no_space(error)}") from error
        raise


def _to_the_disk(path: Path) -> None:
    """Before it gets its name: or the name may outlive a loss of power, and the content not."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def no_space(error: OSError) -> str:
    return f"{os.strerror(error.errno).lower()}; free some and run the same command again"


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """The same for a folder: it appears under its name only when everything in it was written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    yield temporary  # an interrupted run leaves the folder under its temporary name; the next one clears it
    outdated = path.with_name(f".{path.name}.outdated.partial")
    shutil.rmtree(outdated, ignore_errors=True)
    if path.exists():
        os.replace(path, outdated)
    os.replace(temporary, path)
    shutil.rmtree(outdated, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def open_text_for_writing(path: str | Path) -> Iterator[IO[str]]:
    """An atomic text stream; `.gz` is compressed without time stamp or name, so equal lines give equal bytes."""
    path = Path(path)
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=4) as packed:
                with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:
                    yield text
        else:
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text


class JsonlWriter:
    """One JSON object a line, as lhotse's manifests are; use inside `with open_jsonl_for_writing(path)`."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        self.count = 0

    def write(self, item: dict[str, Any]) -> None:
        self._stream.write(self._encode(item) + "\n")
        self.count += 1


@contextmanager
def open_jsonl_for_writing(path: str | Path) -> Iterator[JsonlWriter]:
    with open_text_for_writing(path) as stream:
        yield JsonlWriter(stream)


def read_lines(path: str | Path) -> Iterator[str]:
    """Lines of a text file, `.gz` or plain, without their ends."""
    path = Path(path)
    try:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it first") from None
    number = 0
    with opened as stream:
        try:
            for line in stream:
                number += 1
                yield line.rstrip("\n")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise UserError(f"{path}: damaged after line {number}; delete it and run the stage that makes it") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}, soon after line {number}); convert it first") from None


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    return (item for _, item in read_jsonl_with_lines(path))


def read_jsonl_with_lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each item with the line that it was read from."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line, json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error.msg})") from None


def count_lines(path: str | Path) -> int:
    return sum(1 for _ in read_lines(path))


def digest_of_file(path: str | Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def digest_of_files(paths: Iterable[str | Path]) -> str:
    """Of their contents in this order; empty for none."""
    digests = [digest_of_file(path) for path in paths]
    return digest_of_lines(digests) if digests else ""


def digest_of_lines(lines: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return sha.hexdigest()
