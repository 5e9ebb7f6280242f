"""Length of an mp3 from the Xing frame that encoders put first, equal to what a gapless decoder delivers.

The Xing frame counts the frames after it and the bytes of the stream; the LAME extension, 21 bytes behind its other
fields, says how many samples the encoder added in front and behind.
"""

from __future__ import annotations

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by MPEG version
_FRAMES, _BYTES, _CONTENTS, _QUALITY = 1, 2, 4, 8  # which fields are there
_TAG_SPAN = 200  # frame header, checksum, side information, all four fields and the delays


def parse_mp3(path: str, start: bytes, size: int) -> tuple[int, int, int, str, int] | None:
    """(rate, channels, samples held, "mp3", samples promised); None if this is no mp3 or does not state its length.

    `start` holds the first bytes of the file; behind an ID3 tag with a picture the audio begins later, and is read.
    """
    origin = _end_of_id3(start)
    if origin:
        with open(path, "rb") as stream:
            stream.seek(origin)
            start = stream.read(_TAG_SPAN)
    if len(start) < 4 or start[0] != 0xFF or start[1] & 0xE0 != 0xE0:
        return None
    version, layer, rate_index = start[1] >> 3 & 3, start[1] >> 1 & 3, start[2] >> 2 & 3
    if version == 1 or layer != 1 or rate_index == 3:  # reserved version, not layer III, reserved rate
        return None
    mono, checksum = start[3] >> 6 == 3, 0 if start[1] & 1 else 2
    side_information = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    tag = start[4 + checksum + side_information : _TAG_SPAN]
    fields = int.from_bytes(tag[4:8], "big")
    if tag[:4] not in (b"Xing", b"Info") or not fields & _FRAMES:
        return None
    frames, stream_bytes, position = int.from_bytes(tag[8:12], "big"), 0, 12
    if fields & _BYTES:
        stream_bytes = int.from_bytes(tag[position : position + 4], "big")
        position += 4
    position += (100 if fields & _CONTENTS else 0) + (4 if fields & _QUALITY else 0)
    delays = int.from_bytes(tag[position + 21 : position + 24], "big")
    promised = max(0, frames * (1152 if version == 3 else 576) - (delays >> 12) - (delays & 0xFFF))
    held = promised * (size - origin) // stream_bytes if stream_bytes > size - origin else promised
    return _RATES[version][rate_index], 1 if mono else 2, held, "mp3", promised


def _end_of_id3(start: bytes) -> int:
    """Where the audio begins; the length in an ID3 tag has seven bits a byte."""
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    return 10 + (start[6] << 21 | start[7] << 14 | start[8] << 7 | start[9])
