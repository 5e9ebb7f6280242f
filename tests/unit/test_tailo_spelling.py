"""The Tai-lo syllable: its inventory, where the mark goes, and every syllable there and back."""

import unicodedata
from itertools import product

import pytest

from icefall_ext.text.tailo import Syllable, parse_word
from icefall_ext.text.tailo_spelling import (
    DIALECT_FINALS,
    FINALS,
    INITIALS,
    TONES,
    base_exists,
    mark_position,
    split_base,
    tone_can_be_written,
)

BASES = [(initial, final) for initial, final in product(INITIALS, FINALS) if base_exists(initial, final)]
GRID = [Syllable(*base, tone) for base, tone in product(BASES, TONES) if tone_can_be_written(base[1], tone)]
CASES = {"lower": str.lower, "title": str.capitalize, "upper": str.upper}


def test_the_grid_is_the_whole_inventory():
    assert len(BASES) > 2200 and len(GRID) > 17000
    assert {syllable.tone for syllable in GRID} == set(TONES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("unicode_form", ["NFC", "NFD"])
def test_every_syllable_goes_from_digit_to_mark_and_back(unicode_form, case):
    change = CASES[case]
    for syllable in GRID:
        number, marked = change(syllable.number()), change(syllable.diacritic(unicode_form))
        from_number, from_mark = parse_word(number), parse_word(marked)
        assert from_number.syllables == from_mark.syllables == (syllable,)
        assert from_mark.number() == from_number.number() == number
        assert from_number.diacritic(unicode_form) == from_mark.diacritic(unicode_form) == marked


def test_the_usual_finals_are_all_there():
    usual = """
        a ah ap at ak am an ang ann annh  e eh enn ennh  i ih ip it ik im in ing inn innh  o oh  oo ooh op ok om ong
        onn onnh  u uh ut un  ai aih ainn  au auh aunn  ia iah iap iat iak iam ian iang iann iannh  io ioh iok iong
        iu iuh iunn iunnh  iau iauh iaunn iaunnh  ua uah uat uan uann  ue ueh uenn  ui uih uinn  uai uaih uainn uainnh
        m mh ng ngh
    """
    assert set(usual.split()) <= set(FINALS) - set(DIALECT_FINALS)


def test_no_two_syllables_are_written_alike():
    assert len({syllable.diacritic() for syllable in GRID}) == len(GRID)
    assert len({syllable.number() for syllable in GRID}) == len(GRID)


def test_a_base_splits_in_one_way_only():
    assert len({initial + final for initial, final in BASES}) == len(BASES)


@pytest.mark.parametrize(
    "base, split",
    {
        "tshng": ("tsh", "ng"),
        "tsng": ("ts", "ng"),
        "tng": ("t", "ng"),
        "nng": ("n", "ng"),
        "mng": ("m", "ng"),
        "hng": ("h", "ng"),
        "ng": ("", "ng"),
        "ngh": ("", "ngh"),
        "ngoo": ("ng", "oo"),
        "m": ("", "m"),
        "mh": ("", "mh"),
        "hm": ("h", "m"),
        "hmh": ("h", "mh"),
        "tshiaunnh": ("tsh", "iaunnh"),
        "thann": ("th", "ann"),
        "jia": ("j", "ia"),
        "a": ("", "a"),
    }.items(),
)
def test_initials_are_told_from_finals(base, split):
    assert split_base(base) == split


@pytest.mark.parametrize("base", ["", "k", "ts", "mm", "sm", "ngng", "chit", "goan", "tsitt", "xa", "ba1", "tâi"])
def test_what_is_no_syllable_does_not_split(base):
    assert split_base(base) is None


@pytest.mark.parametrize("final", "ir er ere or eng uang ioo iai".split())
def test_dialect_finals_are_known(final):
    assert final in DIALECT_FINALS
    assert parse_word(f"k{final}5").syllables == (Syllable("k", final, 5),)


@pytest.mark.parametrize(
    "number, marked",
    {
        "kau2": "káu",  # a before all
        "siann1": "siann",
        "kuai3": "kuài",
        "thoo2": "thóo",  # the first o of oo
        "ngoo6": "ngǒo",
        "kioo5": "kiôo",
        "e5": "ê",
        "hue1": "hue",
        "hue2": "hué",
        "tsio3": "tsiò",
        "kuann5": "kuânn",
        "iu5": "iû",  # iu marks u
        "liu7": "liū",
        "ui5": "uî",  # ui marks i
        "kui2": "kuí",
        "ti7": "tī",
        "bu5": "bû",
        "m7": "m̄",
        "hm7": "hm̄",
        "hmh8": "hm̍h",
        "ng5": "n̂g",  # ng marks n
        "mng5": "mn̂g",  # and not the initial
        "nng7": "nn̄g",
        "tshngh8": "tshn̍gh",
        "kere5": "kerê",
        "kir5": "kîr",
        "kirinn5": "kirînn",
        "ker5": "kêr",
        "kor5": "kôr",
        "keng5": "kêng",
        "kuang5": "kuâng",
        "kiai5": "kiâi",
        "tsit8": "tsi̍t",
        "tsit4": "tsit",
        "ka1": "ka",
        "ka9": "ka̋",
        "koo9": "kőo",
        "ku6": "kǔ",
        "ji7": "jī",
    }.items(),
)
def test_the_mark_stands_on_the_right_letter(number, marked):
    assert parse_word(number).diacritic() == unicodedata.normalize("NFC", marked)
    assert parse_word(marked).number() == number


def test_the_mark_never_stands_on_the_initial():
    assert all(mark_position(initial + final) >= len(initial) for initial, final in BASES)


def test_the_diacritic_form_is_composed_unless_asked_otherwise():
    assert parse_word("tai5").diacritic() == "t\u00e2i"
    assert parse_word("tai5").diacritic("NFD") == "ta\u0302i"
    assert parse_word("m2").diacritic() == "\u1e3f" and parse_word("m7").diacritic() == "m\u0304"
    assert parse_word("tsit8").diacritic() == "tsi\u030dt"


@pytest.mark.parametrize(
    "initial, final, tone",
    [("k", "a", 0), ("k", "a", 10), ("k", "a", 4), ("k", "ah", 1), ("k", "x", 1), ("q", "a", 1), ("m", "m", 1)],
)
def test_a_syllable_that_cannot_be_written_cannot_be_made(initial, final, tone):
    with pytest.raises(ValueError, match="Tai-lo syllable|cannot be written"):
        Syllable(initial, final, tone)


def test_checked_is_a_matter_of_the_final():
    assert all(parse_word(base).syllables[0].checked for base in "kap kat kak kah kannh hmh ngh".split())
    assert not any(parse_word(base).syllables[0].checked for base in "ka kam kang kann m ng".split())
