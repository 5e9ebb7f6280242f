"""POJ spelling to Tai-lo and back."""

import unicodedata

import pytest

from icefall_ext.text.tailo import parse, parse_word
from icefall_ext.text.tailo_poj import from_poj, to_poj


@pytest.mark.parametrize(
    "poj, tailo",
    {
        "chia̍h": "tsia̍h",
        "chhiáⁿ": "tshiánn",
        "góa": "guá",
        "hoe": "hue",
        "goán": "guán",
        "sio̍k": "sio̍k",
        "Eng-kok": "Ing-kok",
        "se̍k-sāi": "si̍k-sāi",
        "hō͘": "hōo",
        "hò͘ⁿ": "hònn",
        "ko͘k": "kok",
        "o͘-sek": "oo-sik",
        "ông": "ông",
        "chăng": "tsa̋ng",
        "ahⁿ": "annh",
        "aⁿh": "annh",
        "SIAᴺ": "SIANN",
        "Chhòa": "Tshuà",
        "CHHÒA": "TSHUÀ",
        "Ô͘": "Ôo",
        "chit8": "tsi̍t",
        "lâng--ê": "lâng--ê",
        "n̂g": "n̂g",
    }.items(),
)
def test_poj_syllables_become_tailo(poj, tailo):
    for unicode_form in ("NFC", "NFD"):
        converted, problems = from_poj(unicodedata.normalize(unicode_form, poj))
        assert (converted, problems) == (unicodedata.normalize("NFC", tailo), [])
    assert not parse(converted).problems


def test_the_rest_of_a_sentence_is_left_alone():
    text, problems = from_poj("Góa「chia̍h-pn̄g」，食 98% google。")
    assert text == "Guá「tsia̍h-pn̄g」，食 98% google。"
    assert [problem[:2] for problem in problems] == [(text.index("98"), "98"), (text.index("google"), "google")]


@pytest.mark.parametrize("wrong", ["chit1", "chá3", "ch8it", "ka88", "ka4", "ⁿ", "ó\u0300"])
def test_what_is_no_poj_syllable_is_reported_and_kept(wrong):
    text, problems = from_poj(wrong)
    assert text == wrong
    assert [problem.text for problem in problems] == [wrong]


@pytest.mark.parametrize(
    ("tailo", "poj"),
    [
        ("sòo-jī", "sò͘-jī"),
        ("guá", "góa"),
        ("kuân", "koân"),
        ("Tshuà", "Chhòa"),
        ("tsiânn", "chiâⁿ"),
        ("ki̍k", "ke̍k"),
        ("âng--ê", "âng--ê"),
        ("iúnn", "iúⁿ"),
        ("hue̍h", "hoe̍h"),
        ("tőng", "tŏng"),
        ("tńg--khì", "tńg--khì"),
    ],
)
def test_poj_is_spelled_and_marked_as_poj_is(tailo, poj):
    assert to_poj(parse_word(tailo)) == poj
