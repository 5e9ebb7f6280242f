"""Common Voice nan-tw: `clips/*.mp3` and tsv files, Han text with its reading in parentheses.

The official split of nan-tw gives nearly all speakers to test.tsv and a handful to train.tsv. So besides `official`
there are `validated` (train: all of validated.tsv but the speakers and sentences of dev and test) and `resplit` (all of
validated.tsv, split anew by speaker, which is no longer comparable with figures on the official test set).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from icefall_ext import console
from icefall_ext.audit import Audit, Report, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader, BadAudio
from icefall_ext.corpora.base import (
    PARTS,
    Options,
    Utterance,
    clean_text,
    existing_folder,
    gender_of_word,
    shown,
    usable,
)
from icefall_ext.corpora.headers import with_headers
from icefall_ext.corpora.manifest import recording_line, supervision_line
from icefall_ext.corpora.romanisation import looks_like_poj, split_sentence
from icefall_ext.corpora.split import split_speakers
from icefall_ext.corpora.tabular import Line, Table
from icefall_ext.errors import UserError

LOCALE, LANGUAGE = "nan-tw", "nan"
_TABLES = {
    "official": ("train", "dev", "test"),
    "validated": ("validated", "dev", "test"),
    "resplit": ("validated",),
}
SPLITS = tuple(_TABLES)
EXPECTED = "cv-corpus-<version>/nan-tw or the folder around it, with clips/ and {train,dev,test,validated}.tsv"
_REQUIRED = ("client_id", "path", "sentence")
_AS_ALWAYS = frozenset((reasons.OTHER_RATE, reasons.OTHER_CODING))  # mp3 at 32 or 48 kHz


class CommonVoiceCorpus:
    """A release whose layout was found; see `Corpus` for the methods."""

    def __init__(self, prefix: str, folder: str | os.PathLike[str], options: Options):
        self.prefix, self.parts = prefix, PARTS
        self._options = options
        self._folder = _find_release(os.path.normpath(folder))
        names = _TABLES[options.common_voice_split]
        self._tables = {name: Table(os.path.join(self._folder, f"{name}.tsv"), _REQUIRED) for name in names}
        self._seconds = self._clip_durations()

    def describe(self) -> list[str]:
        tables = ", ".join(f"{name}.tsv" for name in self._tables)
        durations = ", clip_durations.tsv" if self._seconds else ""
        return [f"{self._folder} ({self._options.common_voice_split} split: {tables}{durations}, clips/)"]

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        rows = self._rows_of(part, audit)
        with_audio = with_headers(rows, partial(_clip_path, folder=self._folder), self._options.nj)
        for row, audio in console.progress(with_audio, f"{part}: clips"):
            utterance = self._utterance(row, audio, audit)
            if utterance:
                yield utterance

    def _rows_of(self, part: str, report: Report) -> Iterator[tuple[str, Line]]:
        if self._options.common_voice_split == "resplit":
            return self._resplit_rows(part, report)
        if part == "train" and self._options.common_voice_split == "validated":
            return self._validated_rows(report)
        return self._rows(part, report)

    def _rows(self, table: str, report: Report) -> Iterator[tuple[str, Line]]:
        for line in self._tables[table].rows(report, f"{table}.tsv"):
            yield f"{table}.tsv:{line.number}", line

    def _validated_rows(self, report: Report) -> Iterator[tuple[str, Line]]:
        held_out = [line.values for part in ("dev", "test") for _, line in self._rows(part, Rows())]
        speakers = {values["client_id"] for values in held_out}
        sentences = {_sentence(values["sentence"]) for values in held_out}
        for where, line in self._rows("validated", report):
            if line.values["client_id"] in speakers:
                _leave_out(reasons.HELD_OUT_SPEAKER, where, line, report)
            elif _sentence(line.values["sentence"]) in sentences:
                _leave_out(reasons.HELD_OUT_SENTENCE, where, line, report)
            else:
                yield where, line

    def _resplit_rows(self, part: str, report: Report) -> Iterator[tuple[str, Line]]:
        """Sentences of dev and test stay out of train; rows that cannot be read are listed with train."""
        speakers = Counter(line.values["client_id"] for _, line in self._rows("validated", Rows()))
        part_of = split_speakers(speakers, self._options.shares)
        held_out = {
            _sentence(line.values["sentence"])
            for _, line in self._rows("validated", Rows())
            if part_of[line.values["client_id"]] != "train"
        }
        for where, line in self._rows("validated", report if part == "train" else Rows()):
            if part_of[line.values["client_id"]] != part:
                continue
            if part == "train" and _sentence(line.values["sentence"]) in held_out:
                _leave_out(reasons.HELD_OUT_SENTENCE, where, line, report)
            else:
                yield where, line

    def _utterance(self, row: tuple[str, Line], audio: AudioHeader | BadAudio, report: Report) -> Utterance | None:
        where, line = row
        values = line.values
        clip = _clip_path(row, self._folder)
        name = os.path.basename(clip)
        place = f"{where} clips/{name}"
        text, custom = _text_of(values, place, report)
        if not text or not usable(audio, report, place, _AS_ALWAYS):
            return None
        said = self._seconds.get(name)
        if said is not None and abs(said - audio.seconds) > self._options.tolerances.seconds:
            note = f"kept; the clip has {audio.seconds:.2f} s"
            report.repaired(reasons.DURATION_DISAGREES, place, field="clip_durations.tsv", value=said, note=note)
        id = os.path.splitext(name)[0]
        recording, seconds = recording_line(id, os.path.abspath(clip), audio)
        speaker = values["client_id"]
        supervision = supervision_line(
            id,
            id,
            start=0.0,
            duration=seconds,
            text=text,
            language=LANGUAGE,
            speaker=speaker,
            gender=gender_of_word(values.get("gender", "")),
            custom=custom,
        )
        return Utterance(id, id, speaker, seconds, place, recording, supervision)

    def _clip_durations(self) -> dict[str, float]:
        """Clip -> seconds as the release states them: a second opinion on clips that were cut short."""
        path = os.path.join(self._folder, "clip_durations.tsv")
        if not os.path.exists(path):
            return {}
        table, seconds = Table(path, ("clip",)), {}
        column = next((name for name in table.columns if name.startswith("duration")), None)
        if column is None:
            raise UserError(f"{path}: line 1: no column duration[ms]; found: {', '.join(table.columns)}")
        for line in table.rows(Rows(), path):
            if line.values[column].isdigit():
                seconds[line.values["clip"]] = int(line.values[column]) / 1000
        return seconds


def _find_release(folder: str) -> str:
    names = existing_folder(folder, EXPECTED)
    inner = os.path.join(folder, LOCALE)
    if "clips" not in names and os.path.isdir(inner):
        folder, names = inner, existing_folder(inner, EXPECTED)
    if "clips" not in names or not any(name.endswith(".tsv") for name in names):
        missing = "clips" if "clips" not in names else "*.tsv"
        raise UserError(f"{folder}/{missing}: not there. Expected {EXPECTED}; found: {shown(folder, names)}")
    return folder


def _clip_path(row: tuple[str, Line], folder: str) -> str:
    """Old releases leave out the suffix."""
    name = row[1].values["path"]
    return os.path.join(folder, "clips", name if os.path.splitext(name)[1] else name + ".mp3")


def _sentence(sentence: str) -> str:
    return split_sentence(sentence).text


def _leave_out(reason: str, where: str, line: Line, report: Report) -> None:
    report.ignored(reason, where, field="path", value=line.values["path"], note="in dev or test; left out of train")


def _text_of(values: dict[str, str], place: str, report: Report) -> tuple[str, dict[str, Any]]:
    """Text without its reading, and what else is known; an empty text if the row cannot be used."""
    raw = clean_text(values["sentence"], report, place, "sentence")
    text, reading, problem = split_sentence(raw)
    if not text:
        report.rejected(reasons.EMPTY_TEXT, place, field="sentence", value=raw)
    elif problem == reasons.UNBALANCED_PARENTHESES:
        report.rejected(problem, place, field="sentence", value=raw, note="text and reading cannot be told apart")
        text = ""
    elif problem == reasons.NESTED_PARENTHESES:
        report.repaired(problem, place, field="sentence", value=raw, note="kept without its reading")
    elif problem:
        report.repaired(problem, place, field="sentence", value=raw, note="kept as it is")
    poj = looks_like_poj(reading, values.get("variant", ""))
    custom: dict[str, Any] = {"tailo": "" if poj else reading, "poj": reading if poj else "", "sentence": raw}
    for votes in ("up_votes", "down_votes"):
        custom[votes] = int(values[votes]) if values.get(votes, "").isdigit() else None
    custom |= {
        "age": values.get("age", ""),
        "accent": values.get("accents", values.get("accent", "")),
        "variant": values.get("variant", ""),
        "sentence_id": values.get("sentence_id", ""),
    }
    return text, custom
