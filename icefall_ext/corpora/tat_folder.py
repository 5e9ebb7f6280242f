"""The files of one speaker of a TAT-like corpus: which label goes with which audio, and what is there besides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from icefall_ext.audit import Report, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import is_utf8
from icefall_ext.corpora.tat_layout import AUDIO_SUFFIXES, Root

LABEL_SUFFIXES = (".json",)
_CHANNEL_NUMBER = re.compile(r"-[0-9]+$")


class SpeakerFolder(NamedTuple):
    """Where one speaker's files are. `other_audio`: microphones not asked for, to say where a missing recording is."""

    corpus: str
    name: str
    labels: str
    audio: dict[str, str]
    other_audio: dict[str, str]


def speaker_folders(root: Root, microphones: Iterable[str], corpus: str, report: Report) -> list[SpeakerFolder]:
    """Every folder that has labels or chosen audio, by name; what else lies on that level is reported."""
    chosen = {name: root.audio[name] for name in microphones if name in root.audio}
    speakers: set[str] = set()
    for path in (root.labels, *chosen.values()):
        for entry in _entries(path, report, corpus):
            if not is_utf8(entry.name):
                report.rejected(reasons.BAD_FILE_NAME, relative(entry.path, corpus))
            elif entry.name.startswith("."):
                report.ignored(reasons.FOREIGN_FILE, relative(entry.path, corpus))
            elif _is_folder(entry):
                speakers.add(entry.name)
            elif entry.name.lower().endswith(LABEL_SUFFIXES + AUDIO_SUFFIXES):
                report.rejected(reasons.MISPLACED, relative(entry.path, corpus))
            else:
                report.ignored(reasons.FOREIGN_FILE, relative(entry.path, corpus))
    return [
        SpeakerFolder(
            corpus,
            speaker,
            os.path.join(root.labels, speaker),
            {name: os.path.join(path, speaker) for name, path in chosen.items()},
            {name: os.path.join(path, speaker) for name, path in root.audio.items() if name not in chosen},
        )
        for speaker in sorted(speakers)
    ]


def labels_of(folder: SpeakerFolder, report: Report) -> dict[str, str]:
    """Name of a sentence -> its label, in the order of the names."""
    return _files_by_stem(folder.labels, LABEL_SUFFIXES, report, folder.corpus)


def pair(labels: dict[str, str], path: str, corpus: str, report: Report) -> dict[str, str]:
    """Name of a sentence -> its audio in the folder `path` of one microphone.

    A file with exactly the label's name comes before one with a number behind it, and a lower number before a higher.
    """
    audio = _files_by_stem(path, AUDIO_SUFFIXES, report, corpus)
    paired = {stem: audio[stem] for stem in labels if stem in audio}
    for stem, file in audio.items():
        if stem in paired:
            continue
        bare = _CHANNEL_NUMBER.sub("", stem)
        if bare not in labels:
            report.rejected(reasons.AUDIO_WITHOUT_LABEL, relative(file, corpus))
        elif bare in paired:
            taken = os.path.basename(paired[bare])
            report.rejected(reasons.SECOND_FILE, relative(file, corpus), note=f"{taken} was taken")
        else:
            paired[bare] = file
    return paired


def report_missing(
    folder: SpeakerFolder, labels: dict[str, str], audio: dict[str, dict[str, str]], report: Report
) -> None:
    """One row for every label and chosen microphone without a file, with the microphones that have one."""
    if all(len(paths) == len(labels) for paths in audio.values()):
        return
    unheard = Rows()  # what is wrong with the other microphones' files is no matter here
    everywhere = audio | {name: pair(labels, path, "", unheard) for name, path in folder.other_audio.items()}
    for stem, label in labels.items():
        for microphone, paths in audio.items():
            if stem not in paths:
                others = ", ".join(name for name, elsewhere in everywhere.items() if stem in elsewhere)
                report.rejected(
                    reasons.LABEL_WITHOUT_AUDIO,
                    relative(label, folder.corpus),
                    field="microphone",
                    value=microphone,
                    note=f"recorded by {others}" if others else "",
                )


def relative(path: str, corpus: str) -> str:
    """As the audit shows it."""
    return path[len(corpus) + 1 :] if path.startswith(corpus + os.sep) else path


def _files_by_stem(path: str, suffixes: tuple[str, ...], report: Report, corpus: str) -> dict[str, str]:
    """The files of one kind, in the order of their names; everything else in the folder is reported."""
    files: dict[str, str] = {}
    for entry in _entries(path, report, corpus):
        stem, suffix = os.path.splitext(entry.name)
        if stem.startswith("."):
            report.ignored(reasons.FOREIGN_FILE, relative(entry.path, corpus))
        elif suffix.lower() not in suffixes:
            if _is_folder(entry):
                report.rejected(reasons.NESTED_FOLDER, relative(entry.path, corpus))
            else:
                report.ignored(reasons.FOREIGN_FILE, relative(entry.path, corpus))
        elif not is_utf8(stem):
            report.rejected(reasons.BAD_FILE_NAME, relative(entry.path, corpus))
        elif stem in files:
            files[stem], spare = sorted((files[stem], entry.path), key=lambda file: _rank(file, suffixes))
            note = f"{os.path.basename(files[stem])} was taken"
            report.rejected(reasons.SECOND_FILE, relative(spare, corpus), note=note)
        else:
            files[stem] = entry.path
    return files


def _rank(file: str, suffixes: tuple[str, ...]) -> int:
    """The wav before the flac of the same name."""
    return suffixes.index(os.path.splitext(file)[1].lower())


def _entries(path: str, report: Report, corpus: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []  # a speaker whom this microphone did not record, or who has no labels: seen file by file
    except OSError as error:
        report.rejected(reasons.UNREADABLE_FOLDER, relative(path, corpus), note=error.strerror or "")
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads back to itself
        return False
