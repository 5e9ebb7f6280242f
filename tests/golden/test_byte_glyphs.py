"""The byte glyphs against strings encoded by icefall (byte_encode.tsv), and decoding against a brute-force search."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.errors import UserError
from icefall_ext.text import byte_glyphs

GOLDEN = [line.split("\t") for line in (Path(__file__).parent / "byte_encode.tsv").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("text", "glyphs"), GOLDEN)
def test_glyphs_are_those_of_icefall(text, glyphs):
    assert byte_glyphs.encode(text) == glyphs
    assert byte_glyphs.decode(glyphs) == text


def test_every_byte_has_a_glyph_of_its_own_that_survives_normalisation():
    assert len(set(byte_glyphs.GLYPHS)) == 256
    assert byte_glyphs.GLYPHS[32:127] == bytes(range(32, 127)).decode("ascii")
    assert unicodedata.normalize("NFKC", byte_glyphs.GLYPHS) == byte_glyphs.GLYPHS
    assert byte_glyphs.to_bytes(byte_glyphs.GLYPHS) == bytes(range(256))


def test_first_and_last_glyphs_are_where_icefall_has_them():
    byte_of = {0x100: 0, 0x11F: 31, 0x120: 127, 305: 144, 308: 145, 382: 216, 384: 217, 0x1A6: 255}
    assert {code: byte_glyphs.GLYPHS.index(chr(code)) for code in byte_of} == byte_of


@given(st.text())
def test_any_string_survives_encoding_and_decoding(text):
    glyphs = byte_glyphs.encode(text)
    assert len(glyphs) == len(text.encode())
    assert byte_glyphs.decode(glyphs) == text


def test_a_lone_surrogate_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"U\+D834 at 2 .*lone surrogate"):
        byte_glyphs.encode("食飽\ud834")


def test_the_marks_for_space_and_unknown_decode_to_spaces():
    assert byte_glyphs.decode("tsit▁ũŐ\u2047a") == "tsit ê a"
    assert byte_glyphs.decode("▁") == " "


def test_characters_that_are_no_glyphs_stay_as_they_are():
    assert byte_glyphs.decode("我é") == "我é"


def most_characters(raw: bytes) -> int:
    """The largest number of characters that disjoint slices of `raw` can spell, by dynamic programming."""
    best = [0] * (len(raw) + 1)
    for end in range(1, len(raw) + 1):
        best[end] = best[end - 1]
        for start in range(max(0, end - 4), end):
            try:
                found = len(raw[start:end].decode("utf-8"))
            except UnicodeDecodeError:
                continue
            best[end] = max(best[end], best[start] + found)
    return best[-1]


cut_short = st.text(max_size=1).map(lambda text: text.encode()[:-1])
broken_text = st.lists(st.text(max_size=3).map(str.encode) | st.binary(max_size=3) | cut_short).map(b"".join)


@given(broken_text)
def test_decoding_keeps_as_many_characters_as_any_choice_of_slices_could(raw):
    assert len(byte_glyphs.decode_bytes(raw)) == most_characters(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("我".encode()[:2] + "去".encode(), "去"),  # a character cut short
        ("我".encode() + b"\x88\x91" + "去".encode(), "我去"),  # a tail without its head
        (b"\xe4" + "我".encode(), "我"),  # a head without its tail
        ("我".encode()[:1] + b" " + "我".encode()[1:] + b"a", " a"),  # a space inside a character
        ("𪜶".encode()[:3] + "ê".encode(), "ê"),
        (b"\xed\xa0\x80a\xc0\x80\xff", "a"),  # a surrogate, an overlong form, a byte that UTF-8 never uses
    ],
)
def test_incomplete_characters_are_left_out_and_their_neighbours_kept(raw, text):
    assert byte_glyphs.decode_bytes(raw) == text
