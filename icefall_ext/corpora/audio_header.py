"""Length, rate and channels of an audio file from its first bytes; libsndfile for what is neither RIFF wav nor mp3.

A wav or mp3 states its own length twice, in the header and by its size, so a file that was cut short is found without
decoding it. The other formats (flac, ogg, ...) are taken at their header's word.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from icefall_ext.corpora import reasons
from icefall_ext.corpora.mp3_header import parse_mp3
from icefall_ext.corpora.raw_file import read_start

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}  # bits that libsndfile decodes
_PLAIN_FORMAT = bytes.fromhex("000000001000800000aa00389b71")  # ends the GUID of an extensible header
_RATES = range(1000, 1_000_000)  # Hz; what lies outside was never recorded, the header is damaged
_FIRST_READ = 4096
_UNKNOWN_LENGTHS = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # written by programs that cannot seek back
# What libsndfile may be asked about. Given anything else it tries mp3, and that library complains on standard error.
_KNOWN_STARTS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"NIST", b"ID3")


class AudioHeader(NamedTuple):
    sampling_rate: int
    channels: int
    frames: int  # samples per channel that the file really holds
    coding: str  # "pcm 16" for what nearly every corpus uses; else a name to show to a person
    promised: int  # samples per channel by the header; equal to `frames` where the header does not say

    @property
    def seconds(self) -> float:
        return self.frames / self.sampling_rate


class BadAudio(Exception):
    """Why a file cannot be used: one of the fixed reasons, and what is particular to this file."""

    def __init__(self, reason: str, note: str = ""):
        super().__init__(reason, note)
        self.reason, self.note = reason, note


def read_header(path: str) -> AudioHeader:
    """Raises BadAudio for a file that is missing, unreadable, empty or not audio."""
    try:
        size, start = read_start(path, _FIRST_READ)
        if not size:
            raise BadAudio(reasons.EMPTY_FILE)
        is_wav = start[:4] == b"RIFF" and start[8:12] == b"WAVE"
        header = _parse_wav(start, size) if is_wav else _parse_mp3(path, start, size)
    except FileNotFoundError:
        raise BadAudio(reasons.AUDIO_NOT_FOUND) from None
    except OSError as error:
        raise BadAudio(reasons.UNREADABLE, error.strerror or "") from None
    header = header or _ask_libsndfile(path, start)
    if header.promised == 0:
        raise BadAudio(reasons.ZERO_LENGTH)
    if header.sampling_rate not in _RATES:
        raise BadAudio(reasons.NOT_AUDIO, f"its header says {header.sampling_rate} Hz")
    return header


def probe(path: str) -> AudioHeader | BadAudio:
    """The same as a value, to be sent between processes."""
    try:
        return read_header(path)
    except BadAudio as bad:
        return bad


def _parse_wav(start: bytes, size: int) -> AudioHeader | None:
    """None where libsndfile has to look: anything but plain samples, a preamble longer than we have read, or a length
    of zero before more bytes (other chunks, or the audio of a file that was never closed).
    """
    offset, described = 12, None
    while offset + 8 <= len(start):
        name, length = start[offset : offset + 4], int.from_bytes(start[offset + 4 : offset + 8], "little")
        offset += 8
        if name == b"data" and described:
            if length == 0 and size > offset:
                return None
            rate, channels, block, coding = described
            held = (size - offset) // block
            promised = held if length in _UNKNOWN_LENGTHS else length // block
            return AudioHeader(rate, channels, min(held, promised), coding, promised)
        if not (name.isascii() and name.decode("ascii").isprintable()):  # we lost our way, or the file did
            return None
        if offset + length > size:
            raise BadAudio(reasons.TRUNCATED, "the file ends before its audio begins")
        if name == b"fmt ":
            described = _parse_format(start[offset : offset + min(length, 40)])
            if described is None:
                return None
        offset += length + (length & 1)
    if offset + 8 > size:
        raise BadAudio(reasons.TRUNCATED, "the file ends before its audio begins")
    return None


def _parse_format(chunk: bytes) -> tuple[int, int, int, str] | None:
    """(rate, channels, bytes per frame, coding) of plain samples; None for everything else."""
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and chunk[26:40] == _PLAIN_FORMAT:
        tag = int.from_bytes(chunk[24:26], "little")
    if bits not in _WIDTHS.get(tag, ()) or not rate or not channels or block != channels * bits // 8:
        return None
    return rate, channels, block, f"{'pcm' if tag == _PCM else 'float'} {bits}"


def _parse_mp3(path: str, start: bytes, size: int) -> AudioHeader | None:
    parsed = parse_mp3(path, start, size)
    return AudioHeader(*parsed) if parsed else None


def _ask_libsndfile(path: str, start: bytes) -> AudioHeader:
    if not start.startswith(_KNOWN_STARTS) and not (start[0] == 0xFF and start[1:2] >= b"\xe0"):
        raise BadAudio(reasons.NOT_AUDIO, f"starts with {start[:8]!r}")
    import soundfile  # brings numpy along: only where it is needed

    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, TypeError) as error:
        raise BadAudio(reasons.NOT_AUDIO, str(error).rpartition(": ")[2]) from None
    coding = f"{info.format} {info.subtype}".lower().replace("_", " ")
    return AudioHeader(info.samplerate, info.channels, info.frames, coding, info.frames)
