"""What every importer is made of: its options, the utterances it yields, and the checks on text and audio."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard

from icefall_ext.audit import Audit, Report
from icefall_ext.corpora import reasons
from icefall_ext.corpora.audio_header import AudioHeader, BadAudio
from icefall_ext.errors import UsageError, UserError

PARTS = ("train", "dev", "test")
TARGET_RATE = 16000
AUTO = "auto"  # the only microphone there is, or the condenser
SHORTEST = 0.01  # seconds: less is not even one frame, and faster speech of no samples cannot be loaded
_BOOKKEEPING = 0.01  # seconds: a header that counts its own bytes as audio is wrong, but nothing is lost
_PART_OF_WORD = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "eval": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
_GENDER_OF_WORD = {
    **dict.fromkeys(("f", "female", "female_feminine", "女", "女性"), "F"),
    **dict.fromkeys(("m", "male", "male_masculine", "男", "男性"), "M"),
}
_EDGES = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\x00\ufeff\u200b\u200e\u200f\u2060"
_BREAKS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]+")


class Utterance(NamedTuple):
    """One line of each manifest. Several utterances may share a recording: then all of them carry it."""

    id: str
    recording_id: str
    speaker: str  # "" where unknown
    seconds: float
    file: str  # where it came from, as the audit shows it
    recording: str  # JSON
    supervision: str  # JSON


class Corpus(Protocol):
    """An importer whose layout has been checked: nothing but single items can go wrong from here on."""

    prefix: str  # of the manifests' names
    parts: tuple[str, ...]

    def describe(self) -> list[str]:
        """What was found, one line each."""

    def utterances(self, part: str, audit: Audit) -> Iterator[Utterance]:
        """In an order that depends on the corpus alone."""


@dataclass(frozen=True)
class Tolerances:
    """How far two statements about a duration may differ."""

    seconds: float = 0.1  # more is listed
    factor: float = 2.0  # more is another recording, or a part of one: rejected


@dataclass(frozen=True)
class Shares:
    """How much of a corpus without parts is held out; the rest is for training."""

    dev: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if min(self.dev, self.test) < 0 or self.dev + self.test >= 1:
            raise UsageError(
                f"--dev-share {self.dev} --test-share {self.test}: must be at least 0 and below 1 together"
            )


@dataclass(frozen=True)
class Options:
    """What a person may choose; each importer takes what concerns it."""

    microphones: tuple[str, ...] = (AUTO,)
    tolerances: Tolerances = Tolerances()
    drop_failed_spelling: bool = False
    common_voice_split: str = "official"
    shares: Shares = Shares()
    language: str = "nan"  # of a table
    nj: int = 1


def part_of_word(word: str) -> str | None:
    return _PART_OF_WORD.get(word.lower())


def gender_of_word(word: str) -> str | None:
    return _GENDER_OF_WORD.get(word.strip().lower())


def clean_text(text: str, report: Report, file: str, field: str) -> str:
    """Without white space and invisible marks at the ends; line breaks and control characters within become a space.

    Everything else is left for the text stage. Plain spaces go without a row in the audit, anything else gets one.
    """
    if text.isprintable():  # the rule, and quick to see: the only white space is plain spaces
        return text.strip(" ")
    cleaned = text.strip(_EDGES)
    if _BREAKS.search(cleaned):
        cleaned = _BREAKS.sub(" ", cleaned)
    if cleaned != text.strip(" "):
        report.repaired(reasons.STRAY_CHARACTERS, file, field=field, value=text, note="removed")
    return cleaned


def usable(
    audio: AudioHeader | BadAudio, report: Report, file: str, expected: Container[str] = ()
) -> TypeGuard[AudioHeader]:
    """Whether the audio can be used. What is wrong with it becomes rows, save repairs that this corpus always needs."""
    if isinstance(audio, BadAudio):
        report.rejected(audio.reason, file, note=audio.note)
        return False
    if audio.promised < SHORTEST * audio.sampling_rate:
        report.rejected(reasons.ZERO_LENGTH, file, note=f"holds {audio.promised} samples, less than {SHORTEST:g} s")
        return False
    if audio.frames < audio.promised:
        held, promised = audio.seconds, audio.promised / audio.sampling_rate
        note = f"holds {held:.2f} of {promised:.2f} s"
        if audio.frames == 0 or promised - held > _BOOKKEEPING:
            report.rejected(reasons.TRUNCATED, file, note=note)
            return False
        report.repaired(reasons.TRUNCATED, file, note=note + "; kept at that length")
    if audio.sampling_rate != TARGET_RATE and reasons.OTHER_RATE not in expected:
        report.repaired(reasons.OTHER_RATE, file, value=audio.sampling_rate, note=f"resampled to {TARGET_RATE} on load")
    if audio.channels > 1:
        report.repaired(reasons.SEVERAL_CHANNELS, file, value=audio.channels, note="the first one is used")
    if audio.coding != "pcm 16" and reasons.OTHER_CODING not in expected:
        report.repaired(reasons.OTHER_CODING, file, value=audio.coding, note="kept; decoded on load")
    return True


def is_utf8(text: str) -> bool:
    """False for half a surrogate pair, and for the bytes of another encoding, which Python reads as such halves."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def existing_folder(folder: str, expected: str) -> list[str]:
    """The names in a folder, sorted; raises the one line that says what was expected if there is no such folder."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder. Expected {expected}") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: a file, not a folder. Expected {expected}") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}). Expected {expected}") from None
    if not names:
        raise UserError(f"{folder}: an empty folder. Expected {expected}")
    return names


def shown(folder: str, names: Sequence[str], limit: int = 8) -> str:
    """`README.txt, audio/, ...`: what was found in a folder, for an error."""
    marked = [name + "/" if os.path.isdir(os.path.join(folder, name)) else name for name in names[:limit]]
    return ", ".join(marked) + (f" and {len(names) - limit} more" if len(names) > limit else "")
