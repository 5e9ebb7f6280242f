"""Tone sandhi, rule by rule."""

import pytest

from icefall_ext.text.tailo import parse, parse_word
from icefall_ext.text.tailo_sandhi import (
    CONTOURS,
    NEUTRAL,
    changed_tone,
    diminutives_of,
    loses_glottal_stop,
    sandhi,
    sandhi_of_words,
    tripled_of,
)


def syllables(text):
    return parse(text).syllables


def first(text, **options):
    """Surface tone of the first syllable of `text`, which is one tone group."""
    return sandhi(syllables(text), **options)[0]


@pytest.mark.parametrize("citation, surface", [(1, 7), (7, 3), (3, 2), (2, 1), (5, 7)])
@pytest.mark.parametrize("base", ["ka", "kang", "kann", "kng"])
def test_open_and_nasal_finals_run_in_the_circle(base, citation, surface):
    assert first(f"{base}{citation} lang5") == surface


@pytest.mark.parametrize("tone5, surface", [("south", 7), ("north", 3)])
def test_tone_5_depends_on_the_region(tone5, surface):
    assert first("ang5 hue1", tone5=tone5) == surface


@pytest.mark.parametrize("citation, surface", [(4, 8), (8, 4)])
@pytest.mark.parametrize("base", ["kap", "kat", "kak"])
def test_p_t_k_finals_swap(base, citation, surface):
    assert first(f"{base}{citation} lang5") == surface


@pytest.mark.parametrize("citation, surface", [(4, 2), (8, 3)])
@pytest.mark.parametrize("base", ["kah", "kannh", "mh", "ngh"])
def test_h_finals_become_open(base, citation, surface):
    syllable = parse_word(f"{base}{citation}").syllables[0]
    assert first(f"{base}{citation} lang5") == surface
    assert loses_glottal_stop(syllable, surface)
    assert not loses_glottal_stop(syllable, citation)


def test_only_h_is_lost():
    assert not loses_glottal_stop(parse_word("kat4").syllables[0], 8)
    assert not loses_glottal_stop(parse_word("ka1").syllables[0], 7)
    assert not loses_glottal_stop(parse_word("--ah4").syllables[0], NEUTRAL)


@pytest.mark.parametrize(
    "number, surface",
    {"ka1": 7, "ka2": 1, "ka3": 1, "ka5": 7, "ka7": 7, "kang3": 1, "kat4": 8, "kat8": 4, "kah4": 1, "kah8": 7}.items(),
)
def test_before_a2_the_diminutive(number, surface):
    assert first(f"{number}-a2", diminutives=[1]) == surface
    assert first(f"{number}-a2", diminutives=[1], tone5="north") == surface


def test_the_diminutive_itself_changes_like_any_tone_2():
    assert sandhi(syllables("gin2-a2-lang5"), diminutives=[1]) == [1, 1, 5]
    assert sandhi(syllables("gin2-a2"), diminutives=[1]) == [1, 2]


@pytest.mark.parametrize("citation, surface", {1: 9, 5: 9, 7: 9, 2: 1, 3: 2}.items())
def test_the_first_of_a_tripled_adjective(citation, surface):
    text = "-".join([f"ang{citation}"] * 3)
    assert sandhi(syllables(text), tripled=[0]) == [surface, first(f"ang{citation} a1"), citation]


@pytest.mark.parametrize("number, surface", {"tit8": 9, "peh8": 9, "sip4": 8, "khuah4": 2}.items())
def test_the_first_of_a_tripled_checked_adjective(number, surface):
    assert first("-".join([number] * 3), tripled=[0]) == surface


@pytest.mark.parametrize("number", ["ka6", "ka9", "kah3", "ka8", "kat9"])
def test_a_tone_without_a_rule_stays(number):
    tone = parse_word(number).syllables[0].tone
    for before_a in (False, True):
        assert changed_tone(parse_word(number).syllables[0], before_a=before_a) == tone


def test_the_last_syllable_of_a_group_keeps_its_tone():
    assert sandhi(syllables("gua2 beh4 khi3 tai5-pak4")) == [1, 2, 2, 7, 4]
    assert sandhi(syllables("lang5")) == [5]
    assert sandhi([]) == []


def test_before_a_neutral_syllable_the_tone_is_kept_and_the_neutral_one_has_none():
    assert sandhi(syllables("lang5--e5")) == [5, NEUTRAL]
    assert sandhi(syllables("sing1-senn1--e5")) == [7, 1, NEUTRAL]
    assert sandhi(syllables("khi3--lai5-ah4")) == [3, NEUTRAL, NEUTRAL]
    assert sandhi(syllables("tsiah8 --ah4")) == [8, NEUTRAL]


def test_an_unknown_region_is_an_error():
    with pytest.raises(ValueError, match="'south' or 'north'"):
        sandhi(syllables("ang5"), tone5="east")


def test_diminutives_and_tripling_are_found_by_their_spelling():
    assert diminutives_of(parse_word("gín-á")) == [1]
    assert [diminutives_of(parse_word(text)) for text in ("á-bú", "a-ah", "i--á")] == [[], [], []]
    assert tripled_of(parse_word("âng-âng-âng")) == [0]
    assert [tripled_of(parse_word(text)) for text in ("âng-âng", "âng-âng-âng-âng", "a-á-a")] == [[], [], []]


def test_a_group_of_words_places_its_diminutives_and_tripled_adjectives():
    words = parse("Hit8 tsiah4 kau2-a2 tshing1-tshing1-tshing1 --ah4").words
    assert sandhi_of_words(words) == [4, 2, 1, 1, 9, 7, 1, NEUTRAL]
    assert sandhi_of_words(parse("ang5 tsiah4-a2").words, tone5="north") == [3, 1, 2]


def test_every_surface_tone_has_a_contour_and_the_neutral_one_is_low():
    assert set(CONTOURS) == {NEUTRAL, *range(1, 10)}
    assert all(set(contour) <= set("12345") for contour in CONTOURS.values())
    assert CONTOURS[NEUTRAL] == CONTOURS[3]
