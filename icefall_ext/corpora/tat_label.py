"""One JSON label of a TAT-like corpus: text, speaker and what else is worth keeping, or the reason why not."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from icefall_ext.audit import Report, Rows
from icefall_ext.corpora import reasons
from icefall_ext.corpora.base import clean_text, gender_of_word
from icefall_ext.corpora.raw_file import read_start
from icefall_ext.corpora.tat_keys import KeyMap, same_speaker

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST = 1 << 20  # bytes; real labels have less than one kilobyte


class Label(NamedTuple):
    text: str
    speaker: str
    gender: str | None
    seconds: float | None  # as the label has it
    custom: dict[str, Any]


def read_label(
    path: str, shown: str, folder: str, stem: str, keys: KeyMap, drop_failed_spelling: bool, report: Report
) -> Label | None:
    """None, with a row in the report, if the sentence cannot be used."""
    fields = _load(path, shown, report)
    if fields is None:
        return None
    values = _Values(fields, shown, report)
    text = values.required(keys.text)
    if text is None:
        return None
    if not text:
        report.rejected(reasons.EMPTY_TEXT, shown, field=keys.text)
        return None
    if drop_failed_spelling and keys.spelling_check and values.optional(keys.spelling_check).lower() == "false":
        report.rejected(reasons.FAILED_SPELLING, shown, field=keys.spelling_check, value="False")
        return None
    custom: dict[str, Any] = {name: values.expected(key) for name, key in keys.phonetic.items()}
    if not any(custom.values()):
        report.repaired(
            reasons.EMPTY_PHONETIC, shown, field=", ".join(keys.phonetic.values()), note="kept with its text only"
        )
    card, sentence, speaker = values.optional(keys.card), values.optional(keys.sentence), values.optional(keys.speaker)
    if keys.named_by_path:
        card, sentence = _by_file_name(stem, card, sentence, keys, values)
        if speaker and not same_speaker(folder, speaker):
            values.repaired(reasons.SPEAKER_DISAGREES, keys.speaker, speaker, f"kept; taken from the folder {folder}")
        institution, separator, _ = folder.partition("_")
        custom["institution"] = institution if separator else ""
        speaker = folder
    elif not speaker:
        values.repaired(reasons.MISSING_KEY, keys.speaker, "", f"kept; the folder {folder} is taken for a speaker")
    custom |= {"card": card, "sentence": sentence}
    custom |= {name: values.optional(key) for name, key in keys.about.items()}
    gender = values.expected(keys.gender)
    if gender and gender_of_word(gender) is None:
        values.repaired(reasons.UNKNOWN_GENDER, keys.gender, gender, "kept without")
    return Label(text, speaker or folder, gender_of_word(gender), values.length(keys.seconds), custom)


def speaker_of_label(path: str, keys: KeyMap) -> str | None:
    fields = _load(path, path, Rows())
    return str(fields[keys.speaker]) if fields and fields.get(keys.speaker) else None


def _load(path: str, shown: str, report: Report) -> dict[str, Any] | None:
    try:
        _, content = read_start(path, _LONGEST)
    except OSError as error:
        report.rejected(reasons.UNREADABLE_LABEL, shown, note=error.strerror or "")
        return None
    try:
        fields = json.loads(content)  # finds out about UTF-8, UTF-16 and UTF-32, with a byte-order mark or without
    except (ValueError, RecursionError) as error:
        report.rejected(reasons.NOT_JSON, shown, note=str(error) if content else "an empty file")
        return None
    if not isinstance(fields, dict):
        report.rejected(reasons.NOT_AN_OBJECT, shown, value=type(fields).__name__)
        return None
    if content.startswith(_BYTE_ORDER_MARK):
        report.repaired(reasons.BYTE_ORDER_MARK, shown, note="removed")
    return fields


class _Values:
    """Values of a label as clean text. TAT writes all of them as text; HAT has numbers among them."""

    def __init__(self, fields: dict[str, Any], shown: str, report: Report):
        self._fields, self._shown, self._report = fields, shown, report

    def repaired(self, reason: str, key: str, value: str, note: str) -> None:
        self._report.repaired(reason, self._shown, field=key, value=value, note=note)

    def required(self, key: str) -> str | None:
        value = self._fields.get(key)
        if value is None:
            self._report.rejected(reasons.MISSING_KEY, self._shown, field=key)
            return None
        if not isinstance(value, (str, int, float)):
            self._report.rejected(reasons.NOT_TEXT, self._shown, field=key, value=json.dumps(value)[:80])
            return None
        return self._clean(key, value)

    def expected(self, key: str) -> str:
        """A key that every label should have; it is kept without."""
        if self._fields.get(key) is None:
            self.repaired(reasons.MISSING_KEY, key, "", "kept without")
        return self.optional(key)

    def optional(self, key: str) -> str:
        value = self._fields.get(key, "")
        return self._clean(key, value) if isinstance(value, (str, int, float)) else ""

    def length(self, key: str) -> float | None:
        text = self.expected(key)
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if 0 < number < math.inf:
            return number
        self.repaired(reasons.BAD_NUMBER, key, text, "kept; the length comes from the audio")
        return None

    def _clean(self, key: str, value: str | int | float) -> str:
        return clean_text(value if isinstance(value, str) else str(value), self._report, self._shown, key)


def _by_file_name(stem: str, card: str, sentence: str, keys: KeyMap, values: _Values) -> tuple[str, str]:
    """`0035-6.13` -> card 0035, sentence 6.13, as text; the label may only confirm it."""
    of_name = stem.rpartition("-")[::2]
    for key, said, named in zip((keys.card, keys.sentence), (card, sentence), of_name, strict=True):
        if said and said != named:
            values.repaired(reasons.NAME_DISAGREES, key, said, f"kept; taken from the file name: {named}")
    return of_name
