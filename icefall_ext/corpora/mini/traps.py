"""What is wrong on purpose: a few sentences and stray files per part, as they are found in real copies of TAT-MOE.

Each trap is one more sentence of some speaker (or a file beside the sentences), recorded by the first microphone
only, and one row of PLANTED.tsv. `expected` says what a correct parser does with the sentence: rejected (left out,
with a row in the audit), repaired (kept, with a row), listed (either of the two, with a row), kept (a sentence like
any other), ignored (no sentence at all).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from icefall_ext.corpora.mini.layout import TEXT_KEYS, encode_label, encode_wav
from icefall_ext.corpora.mini.synth import RATE

REJECTED, REPAIRED, LISTED, KEPT, IGNORED = "rejected", "repaired", "listed", "kept", "ignored"
COLUMNS = ("part", "trap", "file", "expected", "why")


@dataclass
class Sentence:
    """A sentence on its way to the disk. None for a file that is not written."""

    fields: dict[str, str]
    samples: np.ndarray
    label: bytes | None = None
    audio: bytes | None = None

    def __post_init__(self) -> None:
        self.label, self.audio = encode_label(self.fields), encode_wav(self.samples)

    def relabel(self, **fields: str) -> None:
        self.fields |= fields
        self.label = encode_label(self.fields)


class Trap(NamedTuple):
    name: str
    expected: str
    why: str
    spoil: Callable[[Sentence], None]
    spoils_audio: bool = False  # the audio is the file to list, not the label
    other_microphone: bool = False


def _empty_transcript(sentence: Sentence) -> None:
    sentence.relabel(**dict.fromkeys(TEXT_KEYS, ""))


def _without_audio(sentence: Sentence) -> None:
    sentence.audio = None


def _without_label(sentence: Sentence) -> None:
    sentence.label = None


def _byte_order_mark(sentence: Sentence) -> None:
    sentence.label = b"\xef\xbb\xbf" + encode_label(sentence.fields)


def _carriage_returns(sentence: Sentence) -> None:
    sentence.relabel(漢羅台文=sentence.fields["漢羅台文"] + "\r", 台羅=sentence.fields["台羅"] + "\r\n")
    sentence.label = encode_label(sentence.fields).replace(b"\n", b"\r\n")


def _wide_spaces(sentence: Sentence) -> None:
    tailo = sentence.fields["台羅"].replace(" ", "\u00a0", 1)
    sentence.relabel(漢羅台文="\u3000" + sentence.fields["漢羅台文"] + "\u3000", 台羅=tailo + "\u00a0")


def _stray_han(sentence: Sentence) -> None:
    words = sentence.fields["台羅數字調"].split(" ")
    words[len(words) // 2] = "臺灣"
    sentence.relabel(台羅數字調=" ".join(words))


def _unpadded_speaker(sentence: Sentence) -> None:
    name = sentence.fields["發音人"]
    sentence.relabel(發音人=name[:3] + name[3:].lstrip("0"))


def _somewhat_longer(sentence: Sentence) -> None:
    sentence.relabel(音檔長度=f"{float(sentence.fields['音檔長度']) + 1.3:.2f}")


def _of_another(sentence: Sentence) -> None:
    sentence.relabel(音檔長度=f"{float(sentence.fields['音檔長度']) * 4:.2f}")


def _no_bytes(sentence: Sentence) -> None:
    sentence.audio = b""


def _no_samples(sentence: Sentence) -> None:
    sentence.audio = encode_wav(sentence.samples[:0])


def _cut_short(sentence: Sentence) -> None:
    complete = encode_wav(sentence.samples)
    sentence.audio = complete[: len(complete) * 3 // 5]


def _rate_8000(sentence: Sentence) -> None:
    sentence.audio = encode_wav(_resample(sentence.samples, 8000), 8000)


def _rate_48000(sentence: Sentence) -> None:
    sentence.audio = encode_wav(_resample(sentence.samples, 48000), 48000)


def _two_channels(sentence: Sentence) -> None:
    delayed = np.roll(sentence.samples, 8)
    sentence.audio = encode_wav(np.stack([sentence.samples, delayed], axis=1))


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """The same spectrum over another number of samples."""
    length = len(samples) * rate // RATE
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    resampled = np.fft.irfft(spectrum, length) * (rate / RATE)
    return np.clip(np.rint(resampled), -32768, 32767)


def _as_it_is(sentence: Sentence) -> None:
    pass


TRAPS = (
    # First, so that the first speaker has it: the only one whose number has zeros to lose in a corpus of any size.
    Trap("unpadded_speaker", KEPT, "發音人 without zeros: the folder is the speaker", _unpadded_speaker),
    Trap("empty_transcript", REJECTED, "all four texts are empty", _empty_transcript),
    Trap("label_without_audio", REJECTED, "the audio was lost", _without_audio),
    Trap("audio_without_label", REJECTED, "the label was lost", _without_label, spoils_audio=True),
    Trap("byte_order_mark", REPAIRED, "the JSON begins with a byte-order mark", _byte_order_mark),
    Trap("carriage_returns", REPAIRED, "lines end in CR LF, texts in CR", _carriage_returns),
    Trap("wide_spaces", REPAIRED, "U+3000 around the Han-Lo text, U+00A0 in the Tai-lo text", _wide_spaces),
    Trap("stray_han", KEPT, "Han in 台羅數字調; 台羅 is sound", _stray_han),
    Trap("duration_disagrees", LISTED, "音檔長度 says 1.3 s more than the audio has", _somewhat_longer),
    Trap("duration_of_another", LISTED, "音檔長度 says four times what the audio has", _of_another),
    Trap("no_bytes", REJECTED, "an empty file", _no_bytes, spoils_audio=True),
    Trap("no_samples", REJECTED, "a header without samples", _no_samples, spoils_audio=True),
    Trap("cut_short", REJECTED, "the header promises more than the file holds", _cut_short, spoils_audio=True),
    Trap("rate_8000", LISTED, "8 kHz", _rate_8000, spoils_audio=True),
    Trap("rate_48000", LISTED, "48 kHz", _rate_48000, spoils_audio=True),
    Trap("two_channels", LISTED, "stereo", _two_channels, spoils_audio=True),
    Trap("sentence_6.1", KEPT, "not the same as 6.10", _as_it_is),
    Trap("sentence_6.10", KEPT, "not the same as 6.1", _as_it_is),
    Trap("other_microphone_only", REJECTED, "the first microphone has no file of it", _as_it_is, other_microphone=True),
)

# Stray files in a folder of one speaker: the trap's name, whether it is a folder of audio, the file, why it is ignored.
LITTER = (
    ("ds_store", False, ".DS_Store", "what Finder remembers about a folder"),
    ("ds_store", True, ".DS_Store", "what Finder remembers about a folder"),
    ("apple_double", False, "._{neighbour}", "the second half of a file copied from a Mac"),
    ("apple_double", True, "._{neighbour}", "the second half of a file copied from a Mac"),
)
LITTER_CONTENT = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def sentence_number(trap: Trap, position: int) -> str:
    """Card sections that ordinary sentences do not use."""
    return trap.name.removeprefix("sentence_") if trap.name.startswith("sentence_") else f"8.{position + 1}"


def traps_of(speaker: int, speakers: int) -> list[tuple[int, Trap]]:
    """The traps of one speaker of a part: spread over the speakers, but the twins stay together."""
    homes = [i * speakers // len(TRAPS) for i in range(len(TRAPS))]
    names = [trap.name for trap in TRAPS]
    homes[names.index("sentence_6.10")] = homes[names.index("sentence_6.1")]
    return [(i, TRAPS[i]) for i in range(len(TRAPS)) if homes[i] == speaker]
