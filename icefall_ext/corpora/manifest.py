"""Manifests as lhotse reads them, written as a stream and without lhotse: the same records, key for key.

A recording whose rate is not the target's carries the same lazy `Resample` that `Recording.resample` would give it; one
with several channels lists them all, and its supervisions stand on channel 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from icefall_ext import console
from icefall_ext.audit import REJECTED, Audit, open_audit, stop_if_rejected, summarise
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader
from icefall_ext.corpora.base import TARGET_RATE, Corpus, Utterance, is_utf8
from icefall_ext.data_dir import DataDir
from icefall_ext.errors import UserError
from icefall_ext.files import open_text_for_writing

_encode = json.JSONEncoder(ensure_ascii=False).encode


def recording_line(id: str, path: str, audio: AudioHeader) -> tuple[str, float]:
    """(JSON of the recording, its duration at the target rate)."""
    rate, samples, transforms = audio.sampling_rate, audio.frames, None
    if rate != TARGET_RATE:
        transforms = [
            {"name": "Resample", "kwargs": {"source_sampling_rate": rate, "target_sampling_rate": TARGET_RATE}}
        ]
        samples = _samples_at(samples / rate, TARGET_RATE)
    channels = list(range(audio.channels))
    recording: dict[str, Any] = {
        "id": id,
        "sources": [{"type": "file", "channels": channels, "source": path}],
        "sampling_rate": TARGET_RATE,
        "num_samples": samples,
        "duration": samples / TARGET_RATE,
        "channel_ids": channels,
    }
    if transforms:
        recording["transforms"] = transforms
    return _encode(recording), samples / TARGET_RATE


def supervision_line(
    id: str,
    recording_id: str,
    *,
    start: float,
    duration: float,
    text: str,
    language: str,
    speaker: str | None,
    gender: str | None,
    custom: dict[str, Any],
) -> str:
    segment: dict[str, Any] = {
        "id": id,
        "recording_id": recording_id,
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": text,
        "language": language,
    }
    if speaker:
        segment["speaker"] = speaker
    if gender:
        segment["gender"] = gender
    segment["custom"] = custom
    return _encode(segment)


def _samples_at(seconds: float, rate: int) -> int:
    """lhotse's rounding, so that a resampled recording has the length that lhotse would give it."""
    return int(Decimal(round(seconds * rate, ndigits=8)).quantize(0, rounding=ROUND_HALF_UP))


@dataclass
class PartSummary:
    part: str
    audit: Audit
    audit_path: Path
    utterances: int = 0
    seconds: float = 0.0
    speakers: int = 0


class _Admission:
    """Lets an utterance through once: ids are unique within a part and fit into files of `id text` lines."""

    def __init__(self, part: str, speakers_of_other_parts: dict[str, str], audit: Audit):
        self._part, self._others, self._audit = part, speakers_of_other_parts, audit
        self._ids: set[str] = set()
        self._recordings: set[str] = set()
        self.speakers: set[str] = set()

    def admits(self, utterance: Utterance) -> bool:
        if len(utterance.id.split()) != 1:
            self._audit.rejected(reasons.BAD_ID, utterance.file, field="id", value=utterance.id)
        elif utterance.id in self._ids:
            self._audit.rejected(
                reasons.DUPLICATE_ID, utterance.file, field="id", value=utterance.id, note="an earlier one was kept"
            )
        elif not is_utf8(utterance.supervision):
            self._audit.rejected(reasons.LONE_SURROGATE, utterance.file)
        else:
            self._ids.add(utterance.id)
            self._meet(utterance)
            return True
        return False

    def _meet(self, utterance: Utterance) -> None:
        speaker = utterance.speaker
        if not speaker or speaker in self.speakers:
            return
        self.speakers.add(speaker)
        if self._others.setdefault(speaker, self._part) != self._part:
            self._audit.repaired(
                reasons.SPEAKER_IN_TWO_PARTS,
                utterance.file,
                field="speaker",
                value=speaker,
                note=f"kept; also in {self._others[speaker]}",
            )

    def is_new_recording(self, id: str) -> bool:
        if id in self._recordings:
            return False
        self._recordings.add(id)
        return True


def write_part(corpus: Corpus, part: str, data_dir: DataDir, speakers: dict[str, str]) -> PartSummary:
    """Both manifests and the audit of one part; `speakers` remembers across parts who was met where."""
    with ExitStack() as stack:
        recordings = stack.enter_context(open_text_for_writing(data_dir.recordings(part)))
        supervisions = stack.enter_context(open_text_for_writing(data_dir.supervisions(part)))
        audit_path = data_dir.audit("manifests", part)
        audit = stack.enter_context(open_audit(audit_path))
        admission = _Admission(part, speakers, audit)
        summary = PartSummary(part, audit, audit_path)
        for utterance in corpus.utterances(part, audit):
            if not admission.admits(utterance):
                continue
            if admission.is_new_recording(utterance.recording_id):
                recordings.write(utterance.recording + "\n")
            supervisions.write(utterance.supervision + "\n")
            summary.utterances += 1
            summary.seconds += utterance.seconds
        summary.speakers = len(admission.speakers)
    return summary


def write_manifests(
    corpus: Corpus, data_dir: str | Path, *, parts: Sequence[str] = (), strict: bool = False
) -> list[PartSummary]:
    """The parts (all that there are), what was written, and the audit's summary; then the errors that the rows mean."""
    for line in corpus.describe():
        console.reads(line)
    folder = Path(data_dir)
    speakers: dict[str, str] = {}
    summaries = []
    for part in parts or corpus.parts:
        summary = write_part(corpus, part, DataDir(folder, corpus.prefix), speakers)
        console.wrote(
            folder / "manifests" / f"{corpus.prefix}_{{recordings,supervisions}}_{part}.jsonl.gz",
            f"{summary.utterances:,} utterances, {summary.speakers:,} speakers, {summary.seconds / 3600:.2f} h",
        )
        console.wrote(summary.audit_path, summary.audit.totals())
        summaries.append(summary)
    for line in summarise(summary.audit for summary in summaries):
        console.says(line)
    for summary in summaries:
        if not summary.utterances:
            why = "the rows say why" if summary.audit.total(REJECTED) else "the corpus has nothing for it"
            raise UserError(f"{summary.audit_path}: no usable utterance in {summary.part}; {why}")
    if strict:
        stop_if_rejected({summary.audit_path: summary.audit for summary in summaries})
    return summaries
