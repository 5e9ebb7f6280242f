"""Isolated words as a table: `word base tone speaker gender audio`, one recording a row.

TSV, CSV or JSONL; one table, with a column `part` or split by speaker. Paths of audio are relative to the table. `id`
may be given, or else is the path of the audio without its suffix. For Hmong (`--language` hmn, mww or hnj) base and
tone may be left out, and are then read off the spelling; where they are given and differ from it they are kept and
listed.
Further columns are kept in `custom`, beside `base` and `tone`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from icefall_ext import console
from icefall_ext.audit import Audit, Report, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import (
    PARTS,
    Options,
    Utterance,
    clean_text,
    existing_folder,
    gender_of_word,
    part_of_word,
    shown,
    usable,
)
from icefall_ext.corpora.headers import with_headers
from icefall_ext.corpora.manifest import recording_line, supervision_line
from icefall_ext.corpora.split import split_by_gender
from icefall_ext.corpora.tabular import SUFFIXES, Line, Table
from icefall_ext.errors import UserError
from icefall_ext.text import hmong_rpa

EXPECTED = "a single table (.tsv, .csv, .jsonl) with the columns word, base, tone, speaker, gender, audio"
HMONG = ("hmn", "mww", "hnj")
_OWN = frozenset(("id", "audio", "word", "base", "tone", "speaker", "gender", "part"))
_AS_ALWAYS = frozenset((reasons.OTHER_CODING,))


class _Row(NamedTuple):
    place: str  # `words.tsv:17`
    path: str  # of the audio
    values: dict[str, str]


class WordListCorpus:
    """A table whose columns were checked; see `Corpus` for the methods."""

    parts = PARTS

    def __init__(self, prefix: str, path: str | os.PathLike[str], options: Options):
        self.prefix, self._options = prefix, options
        labels = () if options.language in HMONG else ("base", "tone")
        self._table = Table(_find_table(os.path.normpath(path)), ("word", *labels, "speaker", "gender", "audio"))
        self._name, self._folder = os.path.basename(self._table.path), os.path.dirname(self._table.path)
        self._part_of_speaker: dict[str, str] = {}
        if "part" not in self._table.columns:
            self._part_of_speaker = self._split()

    def _split(self) -> dict[str, str]:
        speakers, gender_of = Counter(), {}
        for line in self._table.rows(Rows(), self._name):
            speaker = line.values["speaker"].strip()
            speakers[speaker] += 1
            gender_of[speaker] = gender_of_word(line.values["gender"]) or gender_of.get(speaker)
        try:
            return split_by_gender(speakers, gender_of, self._options.shares)
        except UserError as error:
            raise UserError(f"{self._table.path}: {error}; or say in a column part what belongs where") from None

    def describe(self) -> list[str]:
        how = "split by speaker" if self._part_of_speaker else "parts by column"
        return [f"{self._table.path} ({how}; columns: {', '.join(self._table.columns)})"]

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        with_audio = with_headers(self._rows_of(part, audit), _path_of, self._options.nj)
        for row, audio in console.progress(with_audio, f"{part}: words"):
            word = self._word(row, audit)
            if word is None or not usable(audio, audit, f"{row.place} {row.values['audio'].strip()}", _AS_ALWAYS):
                continue
            values = row.values
            gender = gender_of_word(values["gender"])
            if gender is None:
                audit.repaired(reasons.UNKNOWN_GENDER, row.place, field="gender", value=values["gender"],
                               note="kept without; no partner for words by the other gender")
            id = values.get("id", "").strip() or os.path.splitext(values["audio"].strip())[0]
            recording, seconds = recording_line(id, os.path.abspath(row.path), audio)
            speaker = values["speaker"].strip()
            supervision = supervision_line(
                id, id, start=0.0, duration=seconds, text=word["word"], language=self._options.language,
                speaker=speaker, gender=gender,
                custom={name: value for name, value in values.items() if name not in _OWN}
                | {"base": word["base"], "tone": word["tone"]},
            )
            yield Utterance(id, id, speaker, seconds, row.place, recording, supervision)

    def _rows_of(self, part: str, report: Report) -> Iterator[_Row]:
        """The rows of one part. What is wrong with rows that belong nowhere is listed with train."""
        of_all = report if part == "train" else Rows()
        for line in self._table.rows(of_all, self._name):
            place, values = f"{self._name}:{line.number}", line.values
            given = self._part_of(line)
            if given is None:
                of_all.rejected(reasons.UNKNOWN_PART, place, field="part", value=values["part"])
            elif given == part:
                empty = next((name for name in ("word", "speaker", "audio") if not values[name].strip()), None)
                if empty:
                    report.rejected(reasons.BAD_ROW, place, field=empty, note="empty")
                else:
                    yield _Row(place, os.path.join(self._folder, values["audio"].strip()), values)

    def _part_of(self, line: Line) -> str | None:
        if self._part_of_speaker:
            return self._part_of_speaker[line.values["speaker"].strip()]
        return part_of_word(line.values["part"].strip())

    def _word(self, row: _Row, report: Report) -> dict[str, str] | None:
        names = ("word", "base", "tone")
        fields = {name: clean_text(row.values.get(name, ""), report, row.place, name) for name in names}
        if self._options.language in HMONG and fields["word"]:
            return _with_rpa(fields, row.place, report)
        empty = next((name for name in names if not fields[name]), None)
        if empty:
            report.rejected(reasons.BAD_ROW, row.place, field=empty, note="empty")
            return None
        syllables = {name: len(fields[name].split()) for name in ("base", "tone")}
        if syllables["base"] != syllables["tone"]:
            report.rejected(reasons.BAD_ROW, row.place, field="tone", value=fields["tone"],
                            note=f"{syllables['base']} syllables in base, {syllables['tone']} in tone; spaces between "
                            "them in both")
            return None
        return fields


def _with_rpa(fields: Mapping[str, str], place: str, report: Report) -> dict[str, str] | None:
    """Base and tone from the spelling where the table says nothing."""
    try:
        syllables = hmong_rpa.parse(fields["word"])
    except hmong_rpa.NotRpa as error:
        if fields["base"] and fields["tone"]:
            note = "kept; base and tone are given"
            report.repaired(reasons.NOT_RPA, place, field="word", value=fields["word"], note=note)
            return dict(fields)
        report.rejected(reasons.NOT_RPA, place, field="word", value=fields["word"], note=str(error))
        return None
    spelled = {
        "base": " ".join(syllable.base for syllable in syllables),
        "tone": " ".join(syllable.tone for syllable in syllables),
    }
    for name, value in spelled.items():
        if fields[name] and fields[name].lower() != value:
            report.repaired(reasons.LABEL_DISAGREES, place, field=name, value=fields[name],
                            note=f"kept; {fields['word']} is spelled with {value}")
    kept = {name: value if fields[name].lower() in ("", value) else fields[name] for name, value in spelled.items()}
    return {"word": fields["word"], **kept}


def _find_table(path: str) -> str:
    if os.path.isfile(path):
        return path
    names = existing_folder(path, EXPECTED)
    tables = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    if len(tables) != 1:
        raise UserError(f"{path}: {len(tables)} tables. Expected {EXPECTED}; found: {shown(path, names)}")
    return os.path.join(path, tables[0])


def _path_of(row: _Row) -> str:
    return row.path
