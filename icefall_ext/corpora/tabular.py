"""Rows of TSV, CSV and JSONL files with their line numbers; the columns are known before the first row is read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from icefall_ext.audit import Report
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import is_utf8
from icefall_ext.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl")


class Line(NamedTuple):
    number: int
    values: dict[str, str]  # every column of the table; "" where a row leaves it out


class Table:
    """A file whose first line has been looked at. Rows that cannot be read are reported and left out."""

    def __init__(self, path: str, required: Sequence[str]):
        self.path = path
        self._suffix = os.path.splitext(path)[1].lower()
        self.columns: list[str] = []
        with self._open() as stream:
            self.columns = self._first(stream)
        if _encoding_problem("".join(self.columns)):
            raise UserError(f"{path}: line 1: not UTF-8; save the table in that encoding")
        missing = [name for name in required if name not in self.columns]
        if missing:
            raise UserError(
                f"{path}: line 1: no column {', '.join(missing)}. Expected {', '.join(required)}; "
                f"found: {', '.join(self.columns) or 'nothing'}"
            )
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise UserError(f"{path}: line 1: column {', '.join(twice)} stands there twice")

    def rows(self, report: Report, shown: str) -> Iterator[Line]:
        read = self._objects if self._suffix == ".jsonl" else self._fields
        with self._open() as stream:
            for number, values, problem in read(stream):
                if problem:
                    report.rejected(reasons.BAD_ROW, f"{shown}:{number}", note=problem)
                else:
                    yield Line(number, values)

    def _open(self) -> IO[str]:
        try:
            return open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _first(self, stream: IO[str]) -> list[str]:
        if self._suffix != ".jsonl":
            return [name.strip() for name in next(self._split(stream), (1, []))[1]]
        number, values, problem = next(self._objects(stream), (1, {}, "an empty file"))
        if problem:
            raise UserError(f"{self.path}: line {number}: {problem}. Expected one JSON object a line")
        return list(values)

    def _split(self, stream: IO[str]) -> Iterator[tuple[int, list[str]]]:
        """A CSV quotes what holds a comma; in a TSV a quotation mark is a character like any other."""
        if self._suffix == ".csv":
            reader = csv.reader(stream, strict=True)
            try:
                for fields in reader:
                    yield reader.line_num, fields
            except csv.Error as error:
                raise UserError(f"{self.path}: line {reader.line_num}: {error}") from None
        else:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\r\n").split("\t")

    def _fields(self, stream: IO[str]) -> Iterator[tuple[int, dict[str, str], str]]:
        lines = self._split(stream)
        next(lines, None)
        for number, fields in lines:
            problem = ""
            if len(fields) != len(self.columns):
                if not any(field.strip() for field in fields):
                    continue
                problem = f"{len(fields)} fields under {len(self.columns)} columns"
            yield number, dict(zip(self.columns, fields, strict=False)), problem or _encoding_problem("".join(fields))

    def _objects(self, stream: IO[str]) -> Iterator[tuple[int, dict[str, str], str]]:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                values, problem = _parse_object(line)
                yield number, {**dict.fromkeys(self.columns, ""), **values}, problem or _encoding_problem(line)


def _parse_object(line: str) -> tuple[dict[str, str], str]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    if not isinstance(values, dict):
        return {}, "not a JSON object"
    nested = [name for name, value in values.items() if isinstance(value, (list, dict))]
    if nested:
        return {}, f"{nested[0]} is neither text nor a number"
    return {name: "" if value is None else str(value) for name, value in values.items()}, ""


def _encoding_problem(text: str) -> str:
    return "" if is_utf8(text) else "not UTF-8"
