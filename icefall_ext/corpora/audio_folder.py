"""Any tree of audio files as cuts without text, for pre-training.

Ids are paths below the folder. A file longer than a window becomes several cuts of equal length, read from the file one
by one, so hours of radio in one file can be learnt from. Of several channels the first is taken. Folders are walked in
the order of names, one at a time: memory does not grow with the corpus.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from icefall_ext.audit import Audit
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import TARGET_RATE, existing_folder, is_utf8, usable
from icefall_ext.corpora.headers import with_headers
from icefall_ext.corpora.manifest import recording_line
from icefall_ext.files import JsonlWriter

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
EXPECTED = f"audio files ({', '.join(SUFFIXES)}) at any depth"


class AudioFile(NamedTuple):
    name: str  # below the folder
    path: str


class Windows(NamedTuple):
    shortest: float
    longest: float

    def of(self, samples: int) -> list[tuple[int, int]]:
        """(start, end) in samples at 16 kHz; none for a file that is too short."""
        if samples < self.shortest * TARGET_RATE:
            return []
        count = max(math.ceil(samples / (self.longest * TARGET_RATE)), 1)
        edges = [samples * i // count for i in range(count + 1)]
        return list(zip(edges, edges[1:]))


def write_audio_cuts(folder: Path, windows: Windows, writer: JsonlWriter, audit: Audit, nj: int) -> float:
    """Returns the seconds written."""
    existing_folder(str(folder), EXPECTED)
    root, samples = os.path.abspath(folder), 0
    for file, header in with_headers(audio_files(root, audit), path_of, nj):
        if not usable(header, audit, file.path, _AS_EVER):
            continue
        line, _ = recording_line(file.name, file.path, header)
        recording = json.loads(line)
        pieces = windows.of(recording["num_samples"])
        if not pieces:
            audit.ignored(reasons.SHORT_AUDIO, file.path, note=f"{header.seconds:.2f} s")
        for number, (start, end) in enumerate(pieces, start=1):
            id = file.name if len(pieces) == 1 else f"{file.name}-{number:04d}"
            writer.write(_cut(id, recording, start, end))
            samples += end - start
    return samples / TARGET_RATE


_AS_EVER = frozenset((reasons.OTHER_RATE, reasons.OTHER_CODING, reasons.SEVERAL_CHANNELS))


def _cut(id: str, recording: dict, start: int, end: int) -> dict:
    return {
        "id": id,
        "start": start / TARGET_RATE,
        "duration": (end - start) / TARGET_RATE,
        "channel": 0,
        "supervisions": [],
        "recording": recording,
        "type": "MonoCut",
    }


def path_of(file: AudioFile) -> str:
    return file.path


def audio_files(root: str, audit: Audit, below: str = "") -> Iterator[AudioFile]:
    """Links to files are followed, links to folders are not: they could go round in a circle."""
    try:
        with os.scandir(os.path.join(root, below)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        audit.rejected(reasons.UNREADABLE_FOLDER, os.path.join(root, below), note=error.strerror or "")
        return
    for entry in found:
        name = os.path.join(below, entry.name)
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from audio_files(root, audit, name)
        elif not entry.name.lower().endswith(SUFFIXES):
            audit.ignored(reasons.FOREIGN_FILE, entry.path)
        elif not is_utf8(name):
            audit.rejected(reasons.BAD_FILE_NAME, entry.path)
        elif len(name.split()) != 1:
            audit.rejected(reasons.BAD_ID, entry.path, field="id", value=name)
        else:
            yield AudioFile(name, entry.path)
