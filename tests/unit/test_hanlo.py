"""Han-Lo normalisation: what becomes equal, what must stay apart, what is reported, and what is counted."""

import itertools
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.text import hanlo

SETTINGS = [{"case": case, "punctuation": marks} for case in ("lower", "keep") for marks in ("drop", "keep")]

HAN = list("我欲去台北著溫𪜶𠢕\U000308fb々〇")
ROMANISED = ["beh", "tsi̍t", "ê", "Tâi", "sò͘", "sann", "saⁿ", "m̄", "Ń", "A4", "7"]
ODD = [
    " ",
    "  ",
    "\u3000",
    "\u00a0",
    "\ufeff",
    "\u200b",
    "\r",
    "-",
    "--",
    "---",
    "\u0301",
    "\u030d",
    "\u0358",
    "\ufe00",
]
ODD += [*"，。'’.%·⋯臺着Ａ５ㄅか😀Σİ", "o·", "\ue701", "\ue000"]
pieces_of_text = st.lists(st.sampled_from(HAN + ROMANISED + ODD), max_size=12).map("".join)
any_text = st.one_of(st.text(), pieces_of_text, st.lists(st.one_of(st.text(max_size=2), pieces_of_text)).map("".join))
clean_words = st.lists(st.sampled_from(HAN + [word.lower() for word in ROMANISED]), min_size=1, max_size=8)


@pytest.mark.parametrize("settings", SETTINGS)
@given(text=any_text)
def test_normalising_twice_changes_nothing_more(settings, text):
    once = hanlo.normalize(text, **settings)
    assert hanlo.normalize_counting(once, **settings) == (once, Counter())


@pytest.mark.parametrize("settings", SETTINGS)
@given(text=any_text)
def test_the_result_is_nfc_without_odd_spaces(settings, text):
    normal = hanlo.normalize(text, **settings)
    assert unicodedata.is_normalized("NFC", normal)
    assert normal == " ".join(normal.split())


@pytest.mark.parametrize("settings", SETTINGS)
@given(text=any_text)
def test_changes_are_counted_exactly_when_there_are_any(settings, text):
    normal, changes = hanlo.normalize_counting(text, **settings)
    assert (normal != text) == bool(changes)
    assert all(count > 0 for count in changes.values())


@given(pieces_of_text)
def test_nfd_and_nfc_become_one(text):
    assert hanlo.normalize(unicodedata.normalize("NFD", text)) == hanlo.normalize(unicodedata.normalize("NFC", text))


@given(clean_words, st.data())
def test_spaces_around_han_characters_make_no_difference(words, data):
    spaced = tight = words[0]
    for left, right in itertools.pairwise(words):
        both_romanised = left not in HAN and right not in HAN
        spaced += " " + right
        tight += (" " if both_romanised or data.draw(st.booleans()) else "") + right
    assert hanlo.normalize(tight) == hanlo.normalize(spaced)
    assert hanlo.tokens(hanlo.normalize(tight)) == words


@given(any_text)
def test_every_han_character_letter_and_digit_of_the_alphabet_survives(text):
    def letters(string):
        return [c for c in string if not hanlo.unknown_characters(c) and c not in " -"]

    plain = hanlo.normalize(text, punctuation="keep")
    assert letters(hanlo.normalize(plain)) == letters(plain)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("我beh去", "我 beh 去"),
        ("我 欲 去  台北", "我欲去台北"),
        ("我beh去Tâi-pak", "我 beh 去 tâi-pak"),
        ("２０２４年５月", "2024 年 5 月"),
        ("Ｔâi－pak", "tâi-pak"),
        ("\ufeff今仔日\u3000天氣\u00a0真好\r", "今仔日天氣真好"),
        ("gín\u200b-á\u00ad", "gín-á"),
        ("食飽未？", "食飽未"),
        ("「好！」伊講：「來⋯⋯」", "好伊講來"),
        ("tsit,ê", "tsit ê"),
        ("lí,我", "lí 我"),
        ("don't it’s 'hó'", "dont its hó"),
        ("tshut--lâi", "tshut--lâi"),
        ("食飽--ah", "食飽 --ah"),
        ("轉--來", "轉來"),
        ("阿-bú", "阿 bú"),
        ("tsit - ê -- --- hó-", "tsit ê hó"),
        ("a---b a—b", "a b a b"),
        ("a\u2011b a\u2010b", "a-b a-b"),
        ("臺灣 着 説話 温", "台灣著說話溫"),
        ("\u2f00\u2f08", "一人"),  # radicals, as text copied from a PDF has them
        ("\uf9d8", "\u5f8b"),  # a compatibility ideograph: NFC alone maps it
        ("葛\U000e0100", "葛"),  # an ideographic variation selector
        ("", ""),
        ("，。！", ""),
    ],
)
def test_trap(text, normal):
    assert hanlo.normalize(text) == normal


def test_private_use_characters_of_ministry_text_become_the_encoded_ones():
    private = "\ue701\uf5e9\ue35c\uf5ea\uf5ee\ue703\uf5ef\ue705\uf5e7"
    encoded = "\U0002a736\U0002b74f\U0002b75b\U0002b77a\U0002b77b\U0002b7bc\U0002b7c2\U0002c9b0\U000308fb"
    assert hanlo.normalize_counting(private) == (encoded, Counter({"private-use character": 9}))
    assert hanlo.unknown_characters(encoded) == []


def test_compatibility_normalisation_is_not_applied():
    assert hanlo.normalize("saⁿ sò͘ SAᴺ") == "saⁿ sò͘ saⁿ"
    assert hanlo.normalize("²①") == "²①"


@pytest.mark.parametrize("word", ["tsi̍t", "sa̋n", "a̍h", "ǎ", "m̄", "n̂g", "sò͘", "ô͘", "saⁿ", "tse̋ⁿ", "pŏ"])
def test_tone_marks_survive(word):
    for form in ("NFC", "NFD"):
        assert hanlo.normalize(unicodedata.normalize(form, word)) == unicodedata.normalize("NFC", word)
    assert hanlo.unknown_characters(unicodedata.normalize("NFC", word)) == []


def test_tone_eight_and_the_dot_of_o_have_one_order():
    assert hanlo.normalize("o\u0358\u0300") == hanlo.normalize("o\u0300\u0358") == "ò\u0358"


def test_variants_are_single_han_characters_that_map_to_themselves_no_further():
    for variant, standard in hanlo.VARIANTS.items():
        assert len(standard) == 1 and ord(standard) not in hanlo.VARIANTS and chr(variant) != standard


@pytest.mark.parametrize("text", ["50%", "3.5", "1,000", "12:30", "a/b", "a&b", "1+1=2", "so·", "50％", "#1", "t@i"])
def test_what_may_be_spoken_is_reported_and_never_dropped(text):
    assert hanlo.normalize(text) == text.replace("％", "%")
    assert len(hanlo.unknown_characters(hanlo.normalize(text))) >= 1


@pytest.mark.parametrize("character", [*"ㄅかカ한я😀⿰ßü²", "\ue000", "\uf5e8", "\ud800"])
def test_characters_outside_the_alphabet_are_reported_with_their_place(character):
    text = hanlo.normalize(f"我{character}")
    assert [(u.position, u.character) for u in hanlo.unknown_characters(text)] == [(text.index(character), character)]


def test_a_report_reads_as_a_sentence_fragment():
    assert str(hanlo.unknown_characters("我ㄅ")[0]) == "U+3105 (BOPOMOFO LETTER B) at 1"
    assert str(hanlo.unknown_characters("\ue000")[0]) == "U+E000 (no name) at 0"


def test_a_tone_mark_without_a_letter_is_reported():
    assert [u.position for u in hanlo.unknown_characters("我\u0301 \u030d")] == [1, 3]
    assert [u.position for u in hanlo.unknown_characters("a\u0324")] == [1]


def test_punctuation_is_known_only_where_it_is_kept():
    text = hanlo.normalize("食飽未？ Hó!", punctuation="keep", case="keep")
    assert text == "食飽未? Hó!"
    assert [u.character for u in hanlo.unknown_characters(text)] == ["?", "!"]
    assert hanlo.unknown_characters(text, punctuation="keep") == []


def test_each_kind_of_change_is_counted():
    changes = hanlo.normalize_counting("\ufeffＴâi\u3000臺\u2f00a\u0301\x00\ue701，B\u2010a 我  我").changes
    assert changes == {
        "invisible character": 1,
        "full-width form": 2,
        "upper case": 2,
        "space": 1,
        "variant character": 1,
        "Kangxi radical": 1,
        "Unicode form": 1,
        "control character": 1,
        "private-use character": 1,
        "punctuation": 1,
        "hyphen": 1,
        "spacing": 3,
    }


def test_case_can_be_kept():
    assert hanlo.normalize("Tâi-uân", case="keep") == "Tâi-uân"


@pytest.mark.parametrize("wrong", [{"case": "upper"}, {"punctuation": "Drop"}])
def test_an_unknown_setting_is_an_error(wrong):
    with pytest.raises(ValueError, match="lower or keep, drop or keep"):
        hanlo.normalize("a", **wrong)


def test_tokens_are_han_characters_and_romanised_words():
    assert hanlo.tokens("我 beh 去 tâi-pak 食飽 --ah 2024 年") == [
        *("我", "beh", "去", "tâi-pak", "食", "飽", "--ah", "2024", "年")
    ]
    assert hanlo.tokens("tsi̍t-ê o͘ 𪜶\U000308fb") == ["tsi̍t-ê", "o͘", "𪜶", "\U000308fb"]


def test_characters_are_letters_with_their_marks():
    assert hanlo.characters("m̄-tsai ḿ 𪜶") == ["m̄", "t", "s", "a", "i", "ḿ", "𪜶"]
    assert hanlo.characters("sò͘ --ah") == ["s", "ò͘", "a", "h"]
    assert len(hanlo.characters("tsi̍t")) == len(hanlo.characters("tsít")) == 4


@given(any_text)
def test_tokens_and_characters_lose_nothing_but_spaces_and_hyphens(text):
    assert "".join(hanlo.tokens(text)) == "".join(text.split())
    assert "".join(hanlo.characters(text)) == "".join(text.split()).replace("-", "")


def test_syllables_are_counted_in_either_script():
    assert hanlo.count_syllables("我 beh 去 tâi-pak --ah") == 6
    assert hanlo.count_syllables("gua2 beh4 khi3 tai5-pak4") == 5
    assert hanlo.count_syllables("，。 --") == 0


@pytest.mark.parametrize("unit", ["好 , -- a", "我" + " " * 50, "a\u0301", "---", "'a"])
def test_time_grows_with_the_length_of_a_line_and_not_with_its_square(unit):
    def seconds(text):
        start = time.process_time()  # not wall time: the machine may be busy
        hanlo.normalize(text)
        return time.process_time() - start

    short, long = (min(seconds(unit * count) for _ in range(3)) for count in (500, 16_000))
    assert long < 200 * short  # 32 times the text; the square would be 1,024


def test_number_with_a_point_is_one_token_and_one_syllable():
    assert hanlo.tokens("有 3.5 個") == ["有", "3.5", "個"]
    assert hanlo.count_syllables("有 3.5 個") == 3
