"""Audio files to transcripts, batch after batch; and transcripts as text, JSON, SRT and TSV.

A batch holds pieces of one long file or of many short ones. A file that cannot be read is one result among the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from icefall_ext.data.loading import collate
from icefall_ext.decode.audio import read_audio
from icefall_ext.decode.decoder import Decoder
from icefall_ext.decode.pieces import in_pieces
from icefall_ext.decode.timing import Segment, as_objects, joined, segments_of
from icefall_ext.encoders.spec import SAMPLE_RATE
from icefall_ext.errors import UserError
from icefall_ext.text.bbpe import ByteBPE

SHOWN_AFTER = 0.3  # seconds that a subtitle stays


@dataclass(frozen=True)
class Limits:
    """All in seconds."""

    piece: float
    batch: float
    pause: float
    segment: float = 8.0


@dataclass
class Transcript:
    path: Path
    duration: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    error: UserError | None = None

    @property
    def text(self) -> str:
        return joined(segment.text for segment in self.segments)


@dataclass(frozen=True)
class _Piece:
    of: Transcript
    start: int
    samples: np.ndarray


class Transcriber:
    def __init__(self, decoder: Decoder, bpe: ByteBPE, limits: Limits):
        self._decoder, self._bpe, self._limits = decoder, bpe, limits
        self._frame = decoder.model.encoder.samples_per_frame / SAMPLE_RATE

    def __call__(self, paths: Sequence[Path]) -> Iterator[Transcript]:
        """In the order of `paths`; with `error` for those that could not be read."""
        complete: list[Transcript] = []  # but for the pieces that wait
        waiting: list[_Piece] = []
        for path in paths:
            transcript = Transcript(path)
            for piece in self._pieces(transcript):
                if self._is_full(waiting, len(piece.samples)):
                    self._decode(waiting)
                    waiting = []
                    yield from complete
                    complete = []
                waiting.append(piece)
            if transcript.error:
                waiting = [piece for piece in waiting if piece.of is not transcript]
            complete.append(transcript)
        self._decode(waiting)
        yield from complete

    def _pieces(self, transcript: Transcript) -> Iterator[_Piece]:
        try:
            for start, samples in in_pieces(read_audio(transcript.path), self._limits.piece):
                transcript.duration = (start + len(samples)) / SAMPLE_RATE
                yield _Piece(transcript, start, samples)
        except UserError as error:
            transcript.error = error

    def _is_full(self, waiting: list[_Piece], samples: int) -> bool:
        longest = max(samples, *(len(piece.samples) for piece in waiting), 0)
        return bool(waiting) and longest * (len(waiting) + 1) > self._limits.batch * SAMPLE_RATE

    def _decode(self, pieces: list[_Piece]) -> None:
        if not pieces:
            return
        names = [str(piece.of.path) for piece in pieces]
        batch = collate([piece.samples for piece in pieces], [[]] * len(pieces), names)
        for piece, result in zip(pieces, self._decoder(batch)[0]):
            times = piece.start / SAMPLE_RATE, (piece.start + len(piece.samples)) / SAMPLE_RATE
            piece.of.segments += segments_of(
                self._bpe, result.best, self._frame, *times, self._limits.pause, self._limits.segment
            )


def as_text(transcript: Transcript) -> str:
    return f"{transcript.text}\n"


def as_json(transcript: Transcript) -> str:
    """One line."""
    return json.dumps({
        "file": str(transcript.path),
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": [
            {"text": s.text, "start": round(s.start, 3), "end": round(s.end, 3), "units": as_objects(s.units)}
            for s in transcript.segments
        ],
    }, ensure_ascii=False) + "\n"


def as_tsv(transcript: Transcript) -> str:
    rows = [("start", "end", "text"), *((f"{s.start:.3f}", f"{s.end:.3f}", s.text) for s in transcript.segments)]
    return "".join("\t".join(row) + "\n" for row in rows)


def as_srt(transcript: Transcript) -> str:
    """Subtitles stay a little longer than their last syllable, but never into the next one."""
    following = [*(segment.start for segment in transcript.segments[1:]), transcript.duration]
    return "".join(
        f"{number}\n{_clock(s.start)} --> {_clock(max(s.end, min(s.end + SHOWN_AFTER, limit)))}\n{s.text}\n\n"
        for number, (s, limit) in enumerate(zip(transcript.segments, following), start=1)
    )


def _clock(seconds: float) -> str:
    """hours:minutes:seconds,milliseconds"""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


WRITERS = {"text": as_text, "json": as_json, "srt": as_srt, "tsv": as_tsv}
