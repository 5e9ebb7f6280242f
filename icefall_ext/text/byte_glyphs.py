"""Any Unicode string as visible glyphs, one for each byte of its UTF-8 form, and back.

    >>> encode("我beh去")
    'ƍĩĴbehƌįš'

The 256 glyphs are icefall's, so that its models and token lists interchange with ours. Printable ASCII stands for
itself, the other bytes take the letters from U+0100 on. Six of those (ĳ, ŀ, ŉ, ſ and two capitals) are passed over,
because compatibility normalisation, which tokenizers may apply, takes them apart.

A recogniser may emit any sequence of bytes, so decoding never fails and loses as little as can be lost: every complete
character in the sequence is kept, the bytes between them are dropped. That needs no search over possible splits: in
UTF-8 a character begins with a byte that occurs nowhere inside another character, so complete characters never overlap,
and one pass finds them all.
"""

from __future__ import annotations

import unicodedata

from icefall_ext.errors import UserError

_LETTERS = [letter for letter in map(chr, range(0x100, 0x1A7)) if unicodedata.is_normalized("NFKC", letter)]
_ASCII = [chr(code) for code in range(0x20, 0x7F)]

GLYPHS = "".join(_LETTERS[:32] + _ASCII + _LETTERS[32:])  # GLYPHS[byte]; the glyph of a space is a space
SPACE_MARK = "▁"  # sentencepiece's space
UNKNOWN_MARK = "\u2047"  # what sentencepiece prints for <unk>

_BYTE = {glyph: bytes([byte]) for byte, glyph in enumerate(GLYPHS)} | {SPACE_MARK: b" ", UNKNOWN_MARK: b" "}


def encode(text: str) -> str:
    """One glyph per UTF-8 byte; a lone surrogate, which UTF-8 cannot hold, is a UserError."""
    try:
        return text.encode("utf-8").decode("latin-1").translate(GLYPHS)
    except UnicodeEncodeError as error:
        raise UserError(
            f"U+{ord(text[error.start]):04X} at {error.start} in {text!r} is half a character (a lone surrogate); "
            "the text was read with the wrong encoding, read it again as UTF-8"
        ) from None


def decode(glyphs: str) -> str:
    """The text that `glyphs` spell."""
    return decode_bytes(to_bytes(glyphs))


def to_bytes(glyphs: str) -> bytes:
    """The bytes behind the glyphs. Sentencepiece's marks for space and unknown are spaces; what is no glyph stays."""
    return b"".join([_BYTE.get(c) or c.encode("utf-8", "ignore") for c in glyphs])


def decode_bytes(raw: bytes) -> str:
    """Every complete character in `raw`, in order."""
    return raw.decode("utf-8", "ignore")
