"""Own data as a table: one row an utterance, `id audio text` and, if wanted, `phonetic speaker gender start end`.

TSV, CSV or JSONL. A table for each part (`train.tsv`, `dev.tsv`, `test.tsv`), or one with a column `part`, or one
without, which is then split by speaker. Paths of audio files are relative to the table. With `start` or `end` (seconds)
a row is a segment of its file, and all segments of a file share one recording. Further columns are kept in `custom`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from icefall_ext import console
from icefall_ext.audit import Audit, Report, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader, BadAudio
from icefall_ext.corpora.base import (
    PARTS,
    SHORTEST,
    Options,
    Tolerances,
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
from icefall_ext.corpora.split import split_speakers
from icefall_ext.corpora.tabular import SUFFIXES, Table
from icefall_ext.errors import UserError

EXPECTED = "train.tsv, dev.tsv and test.tsv, or a single table (.tsv, .csv, .jsonl), with the columns id, audio, text"
_REQUIRED = ("id", "audio", "text")
_OWN = frozenset((*_REQUIRED, "phonetic", "speaker", "gender", "start", "end", "part"))
_AS_ALWAYS = frozenset((reasons.OTHER_CODING,))


class _Row(NamedTuple):
    place: str  # `train.tsv:17`
    path: str  # of the audio
    values: dict[str, str]


class _Recording(NamedTuple):
    id: str
    json: str
    seconds: float


class TableCorpus:
    """Tables whose columns were checked; see `Corpus` for the methods."""

    def __init__(self, prefix: str, path: str | os.PathLike[str], options: Options):
        self.prefix = prefix
        self._options = options
        self._tables = _find_tables(os.path.normpath(path))
        single = self._tables.get(None)
        self._has_parts = single is not None and "part" in single.columns
        self.parts = PARTS if single else tuple(part for part in PARTS if part in self._tables)
        self._part_of_unit: dict[str, str] = {}
        if single and not self._has_parts:
            units = Counter(_unit(line.values) for line in single.rows(Rows(), single.path))
            self._part_of_unit = split_speakers(units, options.shares)

    def describe(self) -> list[str]:
        how = "parts by column" if self._has_parts else "split by speaker"
        tables = [(part, self._tables[part]) for part in (*PARTS, None) if part in self._tables]
        return [f"{table.path} ({part or how}; columns: {', '.join(table.columns)})" for part, table in tables]

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        taken: set[str] = set()  # ids of recordings
        recording, path = None, None
        with_audio = with_headers(self._grouped(part, audit), _path_of, self._options.nj)
        for row, audio in console.progress(with_audio, f"{part}: rows"):
            text = clean_text(row.values["text"], audit, row.place, "text")
            if not text:
                audit.rejected(reasons.EMPTY_TEXT, row.place, field="text")
                continue
            if recording is None or row.path != path:
                recording, path = self._recording(row, audio, taken, audit), row.path
            utterance = recording and self._utterance(row, text, recording, audit)
            if utterance:
                yield utterance

    def _grouped(self, part: str, report: Report) -> Iterator[_Row]:
        """The rows of one part, all rows of a file together: recordings and supervisions are later joined in order."""
        rank: dict[str, int] = {}
        last, together = "", True
        for row in self._rows_of(part, Rows()):
            together = together and (row.path == last or row.path not in rank)
            last = row.path
            rank.setdefault(last, len(rank))
        rows = self._rows_of(part, report)
        return rows if together else iter(sorted(rows, key=lambda row: rank[row.path]))

    def _rows_of(self, part: str, report: Report) -> Iterator[_Row]:
        """The rows of one part. What is wrong with rows of a single table that belong nowhere is listed with train."""
        table = self._tables.get(part) or self._tables[None]
        name, folder = os.path.basename(table.path), os.path.dirname(table.path)
        report_of_all = Rows() if None in self._tables and part != "train" else report
        for line in table.rows(report_of_all, name):
            place, values = f"{name}:{line.number}", line.values
            if self._has_parts and part_of_word(values["part"].strip()) is None:
                report_of_all.rejected(reasons.UNKNOWN_PART, place, field="part", value=values["part"])
            elif self._is_of(values, part):
                empty = next((column for column in ("id", "audio") if not values[column].strip()), None)
                if empty:
                    report.rejected(reasons.BAD_ROW, place, field=empty, note="empty")
                else:
                    yield _Row(place, os.path.join(folder, values["audio"].strip()), values)

    def _is_of(self, values: dict[str, str], part: str) -> bool:
        if None not in self._tables:
            return True
        if self._has_parts:
            return part_of_word(values["part"].strip()) == part
        return self._part_of_unit[_unit(values)] == part

    def _recording(
        self, row: _Row, audio: AudioHeader | BadAudio, taken: set[str], report: Report
    ) -> _Recording | None:
        """Named like the utterance that is the whole of it, or like its file where utterances are segments."""
        place = f"{row.place} {row.values['audio'].strip()}"
        if not usable(audio, report, place, _AS_ALWAYS):
            return None
        id = row.values["audio"].strip() if _is_segment(row.values) else row.values["id"].strip()
        if id in taken:
            report.rejected(reasons.DUPLICATE_ID, row.place, field="id", value=id, note="an earlier row has it")
            return None
        taken.add(id)
        return _Recording(id, *recording_line(id, os.path.abspath(row.path), audio))

    def _utterance(self, row: _Row, text: str, recording: _Recording, report: Report) -> Utterance | None:
        values = row.values
        span = _span(values, recording.seconds, row.place, self._options.tolerances, report)
        if span is None:
            return None
        start, duration = span
        gender = values.get("gender", "")
        if gender.strip() and gender_of_word(gender) is None:
            report.repaired(reasons.UNKNOWN_GENDER, row.place, field="gender", value=gender, note="kept without")
        custom = {name: value for name, value in values.items() if name not in _OWN}
        if "phonetic" in values:
            custom["tailo"] = clean_text(values["phonetic"], report, row.place, "phonetic")
        id, speaker = values["id"].strip(), values.get("speaker", "").strip()
        supervision = supervision_line(
            id,
            recording.id,
            start=start,
            duration=duration,
            text=text,
            language=self._options.language,
            speaker=speaker,
            gender=gender_of_word(gender),
            custom=custom,
        )
        return Utterance(id, recording.id, speaker, duration, row.place, recording.json, supervision)


def _find_tables(path: str) -> dict[str | None, Table]:
    """Part -> table; None -> the only one."""
    if os.path.isfile(path):
        return {None: _open_table(path)}
    names = existing_folder(path, EXPECTED)
    tables = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    by_part: dict[str | None, Table] = {}
    for name in tables:
        part = part_of_word(os.path.splitext(name)[0])
        if part in by_part:
            raise UserError(f"{os.path.join(path, name)}: a second table for {part}, beside {by_part[part].path}")
        if part:
            by_part[part] = _open_table(os.path.join(path, name))
    if by_part:
        return by_part
    if len(tables) == 1:
        return {None: _open_table(os.path.join(path, tables[0]))}
    raise UserError(f"{path}: {len(tables)} tables. Expected {EXPECTED}; found: {shown(path, names)}")


def _open_table(path: str) -> Table:
    table = Table(path, _REQUIRED)
    if {"phonetic", "tailo"} <= set(table.columns):
        raise UserError(f"{path}: line 1: columns phonetic and tailo mean the same; leave one out")
    return table


def _path_of(row: _Row) -> str:
    return row.path


def _unit(values: dict[str, str]) -> str:
    """What may not be in two parts: the speaker, or the file where no speaker is given."""
    return values.get("speaker", "").strip() or values["audio"].strip()


def _is_segment(values: dict[str, str]) -> bool:
    return bool(values.get("start", "").strip() or values.get("end", "").strip())


def _span(
    values: dict[str, str], seconds: float, place: str, tolerances: Tolerances, report: Report
) -> tuple[float, float] | None:
    """(start, duration) within the recording."""
    if not _is_segment(values):
        return 0.0, seconds
    start = _seconds(values, "start", 0.0, place, report)
    end = _seconds(values, "end", seconds, place, report)
    if start is None or end is None:
        return None
    if end <= start and "end" in values and values["end"].strip():
        report.rejected(reasons.END_BEFORE_START, place, field="end", value=values["end"], note=f"start is {start:g}")
        return None
    beyond = end - seconds
    if beyond > tolerances.seconds or start >= seconds:
        report.rejected(reasons.END_BEYOND_AUDIO, place, field="end", value=end, note=f"the audio has {seconds:.2f} s")
        return None
    if beyond > 0:
        report.repaired(reasons.END_BEYOND_AUDIO, place, field="end", value=end, note=f"set to {seconds:g}")
        end = seconds
    duration = round(end - start, ndigits=8)
    if duration < SHORTEST:
        note = f"{duration:g} s is less than {SHORTEST:g} s"
        report.rejected(reasons.ZERO_LENGTH, place, field="end", value=values.get("end", ""), note=note)
        return None
    return start, duration


def _seconds(values: dict[str, str], column: str, default: float, place: str, report: Report) -> float | None:
    text = values.get(column, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 0 <= number < math.inf:
        return number
    report.rejected(reasons.BAD_NUMBER, place, field=column, value=text, note="expected seconds, 0 or more")
    return None
