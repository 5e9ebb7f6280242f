"""Tone Perfect: every Mandarin syllable in four tones by three women and three men, named `ba1_FV1_MP3.mp3`.

The name says everything: syllable (v for u with dots), tone, and the speaker, whose first letter is the gender. Audio
may lie at any depth, as mp3 or converted to wav or flac. Metadata, `ba1_FV1_CUSTOM.xml` and the like, may lie beside it
or in a folder of its own: what its elements say is kept in `custom["metadata"]`, whatever they are called, and an
element `tone` or `speaker` that contradicts the name is listed. Of six
speakers a woman and a man are held out for dev, and another two for test.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple
from xml.etree import ElementTree

from icefall_ext import console
from icefall_ext.audit import Audit, Report
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import PARTS, Options, Utterance, existing_folder, shown, usable
from icefall_ext.corpora.headers import with_headers
from icefall_ext.corpora.manifest import recording_line, supervision_line
from icefall_ext.corpora.split import split_by_gender
from icefall_ext.errors import UserError

EXPECTED = "audio named <syllable><tone>_<speaker>_MP3.mp3, such as ba1_FV1_MP3.mp3, at any depth"
_AUDIO = re.compile(r"([a-zü]+)([1-4])_([FM]V\d+)(?:_[A-Za-z0-9]+)?\.(mp3|wav|flac)", re.IGNORECASE)
_METADATA = re.compile(r"([a-zü]+[1-4]_[FM]V\d+)(?:_[A-Za-z0-9]+)?\.xml", re.IGNORECASE)
_AS_ALWAYS = frozenset((reasons.OTHER_CODING, reasons.OTHER_RATE))
_LARGEST = 1 << 20  # bytes of metadata


class _Recording(NamedTuple):
    path: str
    base: str
    tone: str
    speaker: str

    @property
    def id(self) -> str:
        return f"{self.base}{self.tone}_{self.speaker}"


class TonePerfectCorpus:
    """A folder in which at least one name was understood; see `Corpus` for the methods."""

    parts = PARTS

    def __init__(self, prefix: str, path: str | os.PathLike[str], options: Options):
        self.prefix, self._options, self._root = prefix, options, os.path.normpath(path)
        names = existing_folder(self._root, EXPECTED)
        self._recordings, self._metadata, self._strange = _walk(self._root)
        if not self._recordings:
            raise UserError(f"{self._root}: no recording. Expected {EXPECTED}; found: {shown(self._root, names)}")
        sizes = Counter(recording.speaker for recording in self._recordings)
        self._part_of_speaker = split_by_gender(sizes, {name: name[0] for name in sizes}, options.shares)

    def describe(self) -> list[str]:
        held_out = {part: sorted(name for name, its in self._part_of_speaker.items() if its == part) for part in PARTS}
        split = "; ".join(f"{part} {', '.join(names)}" for part, names in held_out.items())
        return [f"{self._root} ({len(self._recordings):,} recordings, {len(self._metadata):,} with metadata; {split})"]

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        if part == "train":
            for path in self._strange:
                audit.ignored(reasons.FOREIGN_FILE, path)
        mine = (recording for recording in self._recordings if self._part_of_speaker[recording.speaker] == part)
        for recording, audio in console.progress(with_headers(mine, _path_of, self._options.nj), f"{part}: words"):
            shown_path = os.path.relpath(recording.path, self._root)
            if not usable(audio, audit, shown_path, _AS_ALWAYS):
                continue
            line, seconds = recording_line(recording.id, os.path.abspath(recording.path), audio)
            custom: dict = {"base": recording.base, "tone": recording.tone}
            if recording.id in self._metadata:
                metadata = _read_metadata(self._metadata[recording.id], recording, self._root, audit)
                custom |= {"metadata": metadata} if metadata else {}
            supervision = supervision_line(
                recording.id, recording.id, start=0.0, duration=seconds, text=recording.base + recording.tone,
                language="cmn", speaker=recording.speaker, gender=recording.speaker[0], custom=custom,
            )
            yield Utterance(recording.id, recording.id, recording.speaker, seconds, shown_path, line, supervision)


def _walk(root: str) -> tuple[list[_Recording], dict[str, str], list[str]]:
    """Recordings in the order of their names, id -> path of metadata, and paths that are neither."""
    recordings, metadata, strange = [], {}, []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path, match = os.path.join(folder, name), _AUDIO.fullmatch(name)
            if name.startswith("."):
                continue
            if match:
                base, tone, speaker, _ = match.groups()
                recordings.append(_Recording(path, base.lower().replace("ü", "v"), tone, speaker.upper()))
            elif found := _METADATA.fullmatch(name):
                base, _, speaker = found.group(1).partition("_")
                metadata[f"{base.lower().replace('ü', 'v')}_{speaker.upper()}"] = path
            else:
                strange.append(os.path.relpath(path, root))
    return sorted(recordings, key=lambda recording: (recording.id, recording.path)), metadata, strange


def _read_metadata(path: str, recording: _Recording, root: str, report: Report) -> dict[str, str]:
    """Text of the elements by name; a file that cannot be read is listed, and the recording kept."""
    place = os.path.relpath(path, root)
    add = partial(report.repaired, file=place)
    try:
        if os.path.getsize(path) > _LARGEST:
            raise ValueError(f"more than {_LARGEST >> 20} MiB")
        with open(path, "rb") as stream:
            content = stream.read()
        if b"<!ENTITY" in content:
            raise ValueError("defines entities")
        tree = ElementTree.fromstring(content)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        add(reasons.BAD_METADATA, note=f"kept without; {error}")
        return {}
    found = {}
    for element in tree.iter():
        text = (element.text or "").strip()
        if text:
            found.setdefault(element.tag.rpartition("}")[2].lower(), text)
    for name, value in (("tone", recording.tone), ("speaker", recording.speaker)):
        if name in found and found[name].upper() != value:
            note = f"the file's name says {value}, which is taken"
            add(reasons.LABEL_DISAGREES, field=name, value=found[name], note=note)
    return found


def _path_of(recording: _Recording) -> str:
    return recording.path
