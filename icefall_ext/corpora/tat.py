"""TAT, TAT-MOE and their siblings (HAT, the generated mini corpus): one JSON label and some wavs for every sentence.

What differs between the siblings is a KeyMap. Names are compared as text: sentences 6.1 and 6.10 are two.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from icefall_ext import console
from icefall_ext.audit import Audit, Report, Row, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader, probe
from icefall_ext.corpora.base import Options, Tolerances, Utterance, usable
from icefall_ext.corpora.manifest import recording_line, supervision_line
from icefall_ext.corpora.split import split_speakers
from icefall_ext.corpora.tat_folder import (
    SpeakerFolder,
    labels_of,
    pair,
    relative,
    report_missing,
    speaker_folders,
)
from icefall_ext.corpora.tat_keys import KeyMap
from icefall_ext.corpora.tat_label import Label, read_label, speaker_of_label
from icefall_ext.corpora.tat_layout import find_layout
from icefall_ext.parallel import ordered_map


class TatCorpus:
    """A copy whose layout was found; see `Corpus` for the methods."""

    def __init__(self, prefix: str, folder: str | os.PathLike[str], keys: KeyMap, options: Options):
        self.prefix = prefix
        self._keys, self._options = keys, options
        self._layout = find_layout(folder, options.microphones)
        self.parts = self._layout.parts
        self._strays: list[tuple[str, Row]] = []
        self._folders: dict[str, list[SpeakerFolder]] = {part: [] for part in self.parts}
        for root in self._layout.roots:
            rows = Rows()
            folders = speaker_folders(root, self._layout.microphones, self._layout.folder, rows)
            self._strays += [(root.part or "train", row) for row in rows]
            parts = [root.part] * len(folders) if root.part else self._split(folders)
            for part, found in zip(parts, folders, strict=True):
                self._folders[part].append(found)

    def describe(self) -> list[str]:
        layout = self._layout
        lines = []
        for root in layout.roots:
            audio = [root.audio[name] for name in layout.microphones if name in root.audio]
            home = os.path.join(layout.folder, root.name)
            places = ", ".join(relative(path, home) + "/" for path in (root.labels, *audio))
            lines.append(f"{os.path.normpath(home)} ({root.part or 'split by speaker'}: {places})")
        counts = ", ".join(f"{part} {len(folders):,}" for part, folders in self._folders.items())
        lines.append(f"speaker folders: {counts}; microphone: {', '.join(layout.microphones) or 'not named'}")
        return lines

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        for stray_part, row in self._strays:
            if stray_part == part:
                audit.add(row)
        folders = self._folders[part]
        results = ordered_map(partial(_read_folder, keys=self._keys, options=self._options), folders, self._options.nj)
        for utterances, rows in console.progress(results, f"{part}: speaker folders", len(folders)):
            for row in rows:
                audit.add(row)
            yield from utterances

    def _split(self, folders: Sequence[SpeakerFolder]) -> list[str]:
        """The part of each folder. Where a speaker may have several folders, one label of each says whose it is."""
        speakers = [folder.name if self._keys.named_by_path else _speaker_in(folder, self._keys) for folder in folders]
        part_of = split_speakers(Counter(speakers), self._options.shares)
        return [part_of[speaker] for speaker in speakers]


def _speaker_in(folder: SpeakerFolder, keys: KeyMap) -> str:
    named = (speaker_of_label(path, keys) for path in labels_of(folder, Rows()).values())
    return next(filter(None, named), folder.name)


def _read_folder(folder: SpeakerFolder, keys: KeyMap, options: Options) -> tuple[list[Utterance], list[Row]]:
    """Sentences in the order of their names, the microphones of each in turn, and what the audit must know."""
    rows, found = Rows(), []
    labels = labels_of(folder, rows)
    audio = {name: pair(labels, path, folder.corpus, rows) for name, path in folder.audio.items()}
    report_missing(folder, labels, audio, rows)
    for stem, path in labels.items():
        recorded = [(name, paths[stem]) for name, paths in audio.items() if stem in paths]
        if not recorded:
            continue
        shown = relative(path, folder.corpus)
        label = read_label(path, shown, folder.name, stem, keys, options.drop_failed_spelling, rows)
        if label is None:
            continue
        sentence = stem if stem.startswith(folder.name) else f"{folder.name}-{stem}"
        for microphone, wav in recorded:
            id = f"{sentence}-{microphone}" if microphone else sentence
            utterance = _utterance(id, label, microphone, wav, folder.corpus, keys, options, rows)
            if utterance:
                found.append(utterance)
    return found, list(rows)


def _utterance(
    id: str, label: Label, microphone: str, wav: str, corpus: str, keys: KeyMap, options: Options, report: Report
) -> Utterance | None:
    shown, audio = relative(wav, corpus), probe(wav)
    if not usable(audio, report, shown):
        return None
    if label.seconds is not None and not _agrees(audio, label.seconds, shown, keys.seconds, options.tolerances, report):
        return None
    recording, seconds = recording_line(id, os.path.abspath(wav), audio)
    custom = {**label.custom, "microphone": microphone}
    supervision = supervision_line(
        id,
        id,
        start=0.0,
        duration=seconds,
        text=label.text,
        language=keys.language,
        speaker=label.speaker,
        gender=label.gender,
        custom=custom,
    )
    return Utterance(id, id, label.speaker, seconds, shown, recording, supervision)


def _agrees(audio: AudioHeader, said: float, shown: str, key: str, tolerances: Tolerances, report: Report) -> bool:
    """A label that is somewhat off is listed; one that is far off belongs to another recording, or to a part of one."""
    if abs(audio.seconds - said) <= tolerances.seconds:
        return True
    note = f"the audio has {audio.seconds:.2f} s"
    shorter, longer = sorted((audio.seconds, said))
    if longer > shorter * tolerances.factor:
        report.rejected(reasons.DURATION_DISAGREES, shown, field=key, value=said, note=note)
        return False
    report.repaired(reasons.DURATION_DISAGREES, shown, field=key, value=said, note=f"kept; {note}")
    return True
