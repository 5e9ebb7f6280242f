"""Audio headers of the rows of a table, read in several processes while the rows stay in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from icefall_ext.corpora.audio_header import AudioHeader, BadAudio, probe
from icefall_ext.parallel import in_chunks, ordered_map

T = TypeVar("T")
_CHUNK = 256


def with_headers(rows: Iterable[T], path_of: Callable[[T], str], nj: int) -> Iterator[tuple[T, AudioHeader | BadAudio]]:
    """`path_of` must be a function of a module, or a partial of one: worker processes call it."""
    for chunk in ordered_map(partial(_probe_all, path_of=path_of), in_chunks(rows, _CHUNK), nj):
        yield from chunk


def _probe_all(rows: list[T], path_of: Callable[[T], str]) -> list[tuple[T, AudioHeader | BadAudio]]:
    return [(row, probe(path_of(row))) for row in rows]
