"""The recordings of a test set in the page: as FLAC of 16 kHz within it, or as links to the files.

Cuts are read as JSON and their audio with soundfile, because lhotse would load torch for a page of text. That covers
cuts of one channel of one file, resampled or not, which is what the data stages write for a test set.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from icefall_ext.errors import UserError
from icefall_ext.files import read_jsonl

MODES = ("auto", "embed", "link", "none")
RATE = 16000


class Segment(NamedTuple):
    file: Path
    column: int  # of the file's channels
    start: float
    duration: float


class Cut(NamedTuple):
    speaker: str | None
    duration: float
    audio: Segment | None


@dataclass
class Clips:
    urls: dict[str, str] = field(default_factory=dict)
    embedded: int = 0
    linked: int = 0
    too_many: int = 0  # for the limit of embedded ones
    without: int = 0
    why: str = ""  # the first one is without


def read_cuts(paths: Sequence[str]) -> dict[str, Cut]:
    cuts: dict[str, Cut] = {}
    for path in paths:
        for number, item in enumerate(read_jsonl(path), start=1):
            try:
                speakers = {s.get("speaker") for s in item.get("supervisions", [])}
                speaker = speakers.pop() if len(speakers) == 1 else None
                cuts[item["id"]] = Cut(speaker, float(item["duration"]), _segment(item))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise UserError(f"{path}: line {number}: not a cut; --cuts takes what stage 4 writes") from None
    if paths and not cuts:
        raise UserError(f"{', '.join(paths)}: no cut in it; run stage 4 again")
    return cuts


def _segment(cut: dict[str, Any]) -> Segment | None:
    recording = cut.get("recording") or {}
    changes = [change.get("name") for change in recording.get("transforms") or []]
    sources = recording.get("sources") or []
    if len(sources) != 1 or sources[0]["type"] != "file" or any(change != "Resample" for change in changes):
        return None
    channel = cut.get("channel", 0)
    if channel not in sources[0]["channels"]:
        return None
    return Segment(
        Path(sources[0]["source"]), sources[0]["channels"].index(channel), float(cut["start"]), float(cut["duration"])
    )


def make_clips(mode: str, cuts: dict[str, Cut], ids: Iterable[str], page: Path, most_bytes: float) -> Clips:
    """Embedded in the order of `ids` until the next one would go over `most_bytes`; in mode auto the rest is linked."""
    clips, room = Clips(), most_bytes if mode in ("auto", "embed") else 0
    for id in ids if mode != "none" else ():
        segment = cuts[id].audio if id in cuts else None
        if segment is None:
            _leave_out(clips, f"{id}: not a part of one file" if id in cuts else f"{id} is not in the cuts")
            continue
        if room > 0:
            try:
                url = f"data:audio/flac;base64,{base64.b64encode(flac(segment)).decode()}"
            except (OSError, RuntimeError, ValueError, IndexError) as error:  # soundfile's own are RuntimeErrors
                _leave_out(clips, f"{segment.file}: {error}")
                continue
            room = room - len(url) if len(url) <= room else 0
            if room:
                clips.urls[id] = url
                clips.embedded += 1
                continue
        if mode == "embed":
            clips.too_many += 1
            continue
        if not segment.file.is_file():
            _leave_out(clips, f"{segment.file}: no such file")
            continue
        clips.urls[id] = link(segment, page)
        clips.linked += 1
    return clips


def _leave_out(clips: Clips, why: str) -> None:
    clips.without += 1
    clips.why = clips.why or why


def link(segment: Segment, page: Path) -> str:
    """Relative, so that page and recordings may move together; the fragment is what a player plays of it."""
    path = os.path.relpath(segment.file.absolute(), page.absolute().parent)
    return f"./{quote(path)}#t={segment.start:g},{segment.start + segment.duration:g}"


def flac(segment: Segment) -> bytes:
    import soundfile  # here, because a page without audio does not need it

    with soundfile.SoundFile(segment.file) as opened:
        rate = opened.samplerate
        opened.seek(round(segment.start * rate))
        samples = opened.read(round(segment.duration * rate), dtype="float32", always_2d=True)[:, segment.column]
    if not len(samples):
        raise ValueError("no audio there")
    packed = io.BytesIO()
    soundfile.write(packed, at_16_khz(samples, rate), RATE, format="FLAC", subtype="PCM_16")
    return packed.getvalue()


def at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """Through the spectrum of the whole clip: good enough to listen to."""
    if rate == RATE:
        return samples
    length = max(1, round(len(samples) * RATE / rate))
    return np.clip(np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples)), -1, 1)
