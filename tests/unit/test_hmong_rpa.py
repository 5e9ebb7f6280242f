"""Hmong spelling: the final consonant letter is the tone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.text.hmong_rpa import INITIALS, MID, TONES, VOWELS, NotRpa, Syllable, parse, parse_syllable

SYLLABLES = st.builds(Syllable, st.sampled_from(INITIALS), st.sampled_from(VOWELS), st.sampled_from(TONES))


@given(SYLLABLES)
def test_a_syllable_is_read_back_as_it_was_written(syllable):
    assert parse_syllable(str(syllable)) == syllable
    assert parse_syllable(str(syllable).upper()) == syllable


@given(st.lists(SYLLABLES, min_size=1, max_size=5), st.sampled_from([" ", "-", "  "]))
def test_syllables_of_a_phrase_are_read_back(syllables, between):
    assert parse(between.join(map(str, syllables))) == syllables


@pytest.mark.parametrize(
    ("text", "initial", "vowel", "tone"),
    [
        ("Hmoob", "hm", "oo", "b"), ("lus", "l", "u", "s"), ("poj", "p", "o", "j"), ("niam", "n", "ia", "m"),
        ("ua", "", "ua", MID), ("nplooj", "npl", "oo", "j"), ("ntxhais", "ntxh", "ai", "s"), ("tus", "t", "u", "s"),
        ("dlaab", "dl", "aa", "b"), ("hnub", "hn", "u", "b"), ("xyoo", "xy", "oo", MID), ("tod", "t", "o", "d"),
        ("mus", "m", "u", "s"), ("ib", "", "i", "b"), ("tswv", "ts", "w", "v"), ("nyeem", "ny", "ee", "m"),
    ],
)
def test_words_are_taken_apart_as_speakers_do(text, initial, vowel, tone):
    assert parse_syllable(text) == Syllable(initial, vowel, tone)


def test_seven_words_that_differ_by_tone_alone_have_one_base():
    words = [parse_syllable(word) for word in ("pob", "poj", "pov", "po", "pos", "pog", "pom")]
    assert {word.base for word in words} == {"po"} and len({word.tone for word in words}) == 7


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_in_one_way(text):
    try:
        syllables = parse(text)
    except NotRpa as error:
        assert "\n" not in str(error)
    else:
        assert all(parse_syllable(str(syllable)) == syllable for syllable in syllables)


@pytest.mark.parametrize("text", ["", " ", "b", "ntx", "pobb", "pab1", "東", "strong"])
def test_what_is_no_hmong_syllable_is_refused(text):
    with pytest.raises(NotRpa):
        parse(text)
