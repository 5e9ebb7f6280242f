"""Tai-lo words and sentences: nothing is lost, nothing unknown is altered, and every trap of real text by name."""

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.text import tailo
from icefall_ext.text.tailo import (
    PUNCTUATION,
    SPACE,
    UNKNOWN,
    WORD,
    NotTailo,
    Syllable,
    Word,
    normalize,
    parse,
    parse_word,
    to_diacritics,
    to_numbers,
)
from icefall_ext.text.tailo_spelling import FINALS, INITIALS, TONES, base_exists, tone_can_be_written

SYLLABLES = [
    Syllable(initial, final, tone)
    for initial in INITIALS
    for final in FINALS
    for tone in TONES
    if base_exists(initial, final) and tone_can_be_written(final, tone)
]


@st.composite
def words(draw):
    """One to five syllables, any capitals, `--` anywhere or nowhere, perhaps a suffix written apart."""
    syllables = draw(st.lists(st.sampled_from(SYLLABLES), min_size=1, max_size=5))
    joins = [draw(st.sampled_from(["", "", "-", "--"]))] + [
        draw(st.sampled_from(["-", "-", "--"])) for _ in syllables[1:]
    ]
    capitals = [draw(st.integers(0, 2 ** len(syllable.base) - 1)) for syllable in syllables]
    first_neutral = joins.index("--") if "--" in joins else len(joins)
    marked = [Syllable(s.initial, s.final, s.tone, neutral=i >= first_neutral) for i, s in enumerate(syllables)]
    return Word(tuple(marked), tuple(joins), tuple(capitals))


# Pieces of Tai-lo, of what is taken for it and of what surrounds it, so that their meetings are tried.
PIECES = (
    "tsit8 tsi̍t Tâi-pak4 LÂNG --ê --ah4 nn̂g m̄ jī hònnh ka̍ a á K tsit1 sòo3 sòo2 kaz tâipak tai5pak4 Google ⁿ ⁵ 5 98 0 "
    "- -- --- － – — ─ … ⋯ . .. 。 ， , 「 」 “ ’ ' ` % ~ · 食 𪜶 臺 ㄅㄚˋ ˙ㄇㄚ ˙ ˊ ´ ^ か 한 а İ ß ŉ ５ Ａ ａ́ "
    "\u0301 \u030d \u0358 \u200b \ue701"
).split(" ") + [" ", "  ", "\n", "\t", "\u3000", "\u00a0"]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@given(words())
def test_a_word_is_read_back_from_either_notation_in_any_unicode_form(word):
    assert parse_word(word.number()) == word
    assert parse_word(word.diacritic("NFC")) == word
    assert parse_word(word.diacritic("NFD")) == word


@given(texts)
def test_the_tokens_join_to_the_text_they_came_from(text):
    tokens = parse(text).tokens
    assert "".join(token.text for token in tokens) == text
    assert all(text.startswith(token.text, token.start) and token.text for token in tokens)


@given(texts)
def test_every_unknown_stretch_is_reported_at_its_place(text):
    tokens, problems = parse(text)
    assert all(text.startswith(problem.text, problem.start) and problem.reason for problem in problems)
    unread = [problem for problem in problems if not problem.read]
    for token in tokens:
        if token.kind == UNKNOWN:
            assert any(token.start <= p.start < token.start + len(token.text) for p in unread)
        if token.kind == SPACE:
            assert token.text.isspace()
    assert [problem.start for problem in problems] == sorted(problem.start for problem in problems)


@given(texts)
def test_conversion_leaves_everything_but_words_as_it_is(text):
    others = [token.text for token in parse(text).tokens if token.kind != WORD]
    for converted in (to_numbers(text), to_diacritics(text), to_diacritics(text, "NFD")):
        assert [token.text for token in parse(converted).tokens if token.kind != WORD] == others
        assert to_numbers(converted) == to_numbers(text)


options = st.fixed_dictionaries(
    {
        "form": st.sampled_from(["number", "diacritic"]),
        "case": st.sampled_from(["lower", "keep"]),
        "punctuation": st.sampled_from(["keep", "drop"]),
    }
)


@given(texts, options)
def test_normalising_twice_is_normalising_once(text, options):
    once = normalize(text, **options)
    twice = normalize(once.text, **options)
    assert twice.text == once.text
    assert not twice.changes


@given(texts)
def test_both_notations_and_unicode_forms_have_one_normal_form(text):
    expected = normalize(text).text
    assert normalize(to_numbers(text)).text == normalize(to_diacritics(text, "NFD")).text == expected


@given(texts)
def test_text_without_changes_to_count_is_unchanged(text):
    normal = normalize(text, case="keep")
    assert (normal.text == text) == (not normal.changes)


def test_long_runs_are_read_in_linear_time():
    for text in ("a" * 200_000, "a\u0301" * 100_000, "-" * 200_000, "a-" * 100_000, "食" * 200_000, "˙" * 200_000):
        assert "".join(token.text for token in parse(text).tokens) == text


class TestNeutralTone:
    def test_the_syllables_after_a_double_hyphen_are_neutral_and_keep_their_digit(self):
        word = parse_word("lang5--e5")
        assert [(s.base, s.tone, s.neutral) for s in word.syllables] == [("lang", 5, False), ("e", 5, True)]
        assert word.diacritic() == "lâng--ê"
        assert parse_word("lâng--ê").number() == "lang5--e5"

    def test_all_that_follows_is_neutral(self):
        assert [s.neutral for s in parse_word("khì--lâi-ah").syllables] == [False, True, True]

    def test_a_suffix_written_apart_is_a_word_of_its_own(self):
        lai, ah = parse("lâi --ah").words
        assert (lai.syllables[0].neutral, ah.syllables[0].neutral, ah.joins) == (False, True, ("--",))
        assert to_numbers("lâi --ah") == "lai5 --ah4"

    def test_a_word_made_from_syllables_gets_its_hyphens(self):
        tsau, khi, ah = (parse_word(text).syllables[0] for text in ("tsáu", "--khì", "--ah"))
        assert str(Word((tsau, khi, ah))) == "tsáu--khì-ah"
        assert str(Word((ah,))) == "--ah"

    def test_neutral_reaches_past_a_foreign_word(self):
        parsed = parse("Google--ê-lâng")
        assert [token.text for token in parsed.tokens] == ["Google", "--ê-lâng"]
        assert [s.neutral for s in parsed.syllables] == [True, True]

    @pytest.mark.parametrize(
        "joins, capitals", [(("", "--"), ()), (("", ""), ()), (("-", "---"), ()), (("",), ()), ((), (0,))]
    )
    def test_a_word_that_cannot_be_written_cannot_be_made(self, joins, capitals):
        with pytest.raises(ValueError):
            Word((Syllable("k", "a", 1), Syllable("", "a", 2)), joins, capitals)

    def test_a_word_needs_a_syllable(self):
        with pytest.raises(ValueError, match="at least one syllable"):
            Word(())


class TestNotation:
    def test_a_mixed_sentence_is_read_syllable_by_syllable(self):
        assert to_numbers("Góa2 tsi̍t ê lang5") == "Góa2 tsit8 e5 lang5"  # POJ góa is no Tai-lo and stays
        assert to_numbers("guá tsia̍h pn̄g7") == "gua2 tsiah8 png7"

    def test_capitals_of_proper_nouns_are_kept(self):
        assert to_diacritics("Tai5-pak4 TAI5-UAN5 McKa1") == "Tâi-pak TÂI-UÂN McKa1"
        assert to_numbers("Tâi-Lâm TSI̍T Ông Ḿ N̂g") == "Tai5-Lam5 TSIT8 Ong5 M2 Ng5"

    def test_mark_and_digit_that_agree_are_fine_and_that_disagree_are_reported(self):
        assert parse("sòo3").problems == ()
        (problem,) = parse("ji̍t sòo2").problems
        assert (problem.start, problem.text, problem.read) == (5, "sòo2", False)
        assert "disagree" in problem.reason
        assert to_numbers("sòo2") == "sòo2"

    def test_tones_6_and_9_survive(self):
        assert to_diacritics("lang6 tsang9 koo9") == "lǎng tsa̋ng kőo"
        assert to_numbers("lǎng tsa̋ng kőo") == "lang6 tsang9 koo9"

    def test_unmarked_is_tone_1_or_4_by_the_final(self):
        assert to_numbers("kun kut ka kah kannh m ng mh") == "kun1 kut4 ka1 kah4 kannh4 m1 ng1 mh4"

    def test_tones_1_and_4_on_the_wrong_final_are_not_read(self):
        problems = parse("tsit1 ka4").problems
        assert [(p.start, p.text, p.read) for p in problems] == [(0, "tsit1", False), (6, "ka4", False)]
        assert to_diacritics("tsit1 ka4") == "tsit1 ka4"

    def test_an_unusual_tone_is_read_and_reported(self):
        parsed = parse("hònnh sia̍ng")
        assert [word.number() for word in parsed.words] == ["honnh3", "siang8"]
        assert [(p.text, p.read) for p in parsed.problems] == [("hònnh", True), ("sia̍ng", True)]

    def test_tone_9_is_usual_on_checked_finals_since_tripling_makes_it(self):
        assert parse("tsi̋t-tsi̍t-tsi̍t").problems == ()

    def test_problems_come_in_the_order_of_their_places(self):
        assert [problem.start for problem in parse("Ａ1-ka̍8").problems] == [0, 3]

    def test_a_misplaced_mark_is_read_reported_and_put_right(self):
        parsed = parse("m̂ng síu")
        assert [(p.start, p.text, p.read) for p in parsed.problems] == [(0, "m̂ng", True), (5, "síu", True)]
        assert to_diacritics("m̂ng síu") == "mn̂g siú"

    def test_a_missing_digit_among_digits_is_read_and_reported(self):
        (problem,) = parse("goa2 Tai-pak4").problems[1:]
        assert (problem.start, problem.text, problem.read) == (5, "Tai-pak4", True)
        assert parse("tsit8-ê").problems == ()  # the mark says as much as a digit

    @pytest.mark.parametrize(
        "text, reason",
        {
            "tai0": "no tone",
            "tai10": "no tone",
            "kaz": "not a Tai-lo syllable",
            "chit8": "not a Tai-lo syllable",
            "taipak": "not a Tai-lo syllable",
            "tâipák": "more than one letter",
            "tai5pak4": "letter after a digit",
            "kă": "no tone of Tai-lo",
            "ka\u0301\u0300": "more than one mark",
            "k\u0301a": "on a consonant",
            "tai⁵": "does not use",
            "tаi5": "does not use",  # a Cyrillic а
            "taiˊ": "does not use",
            "tai´": "does not use",
            "tai^": "does not use",
            "ßa": "does not use",
            "\u0301": "does not use",
            "98": "arabic digits",
        }.items(),
    )
    def test_what_is_no_syllable_is_reported_and_kept_whole(self, text, reason):
        (token,), (problem,) = parse(text)
        assert token.kind == UNKNOWN and problem[:2] == (0, text) and not problem.read
        assert reason in problem.reason
        assert to_numbers(text) == to_diacritics(text) == normalize(text).text == text

    @pytest.mark.parametrize("text", ["", " ", "tsit8 e5", "kaz", "tsit8,", "食", "tsit8-kaz"])
    def test_parse_word_takes_exactly_one_word(self, text):
        with pytest.raises(NotTailo) as caught:
            parse_word(text)
        assert repr(text) in str(caught.value)

    def test_parse_word_says_where_it_failed(self):
        with pytest.raises(NotTailo) as caught:
            parse_word("tai5-kaz")
        assert caught.value.problem.start == 5 and caught.value.problem.text == "kaz"


class TestTraps:
    """What 台羅數字調 holds in real corpora."""

    def found(self, text):
        return [(problem.start, problem.text, problem.reason) for problem in parse(text).problems]

    def test_stray_han(self):
        assert self.found("gua2食png7") == [(4, "食", "Han character")]
        assert to_diacritics("gua2食png7") == "guá食pn̄g"

    def test_han_of_planes_2_and_3_and_compatibility(self):
        assert self.found("\U0002a736 \U000308fb \uf900") == [
            (0, "\U0002a736", "Han character"),
            (2, "\U000308fb", "Han character"),
            (4, "\uf900", "Han character"),
        ]

    def test_private_use_code_points(self):
        assert self.found("lang5 \ue701") == [(6, "\ue701", "private-use character")]

    def test_zhuyin_with_its_tone_marks(self):
        assert self.found("ho2 ㄅㄚˋ˙ㄇㄚ ka1") == [(4, "ㄅㄚˋ˙ㄇㄚ", "Zhuyin")]
        assert self.found("˙ㄇㄚ") == [(0, "˙ㄇㄚ", "Zhuyin")]

    def test_capitals(self):
        assert self.found("Tai5-pak4 A1-bing5 TSIT8") == []
        assert len(parse("Tai5-pak4 A1-bing5 TSIT8").syllables) == 5

    def test_diacritics_among_digits(self):
        assert to_numbers("tsit8 ê lâng5") == "tsit8 e5 lang5"

    def test_quotes_glued_to_words(self):
        text = "i1 kong2\"Tai5-pak4\"tsin1'ho2'「sui2」,"
        assert self.found(text) == []
        assert to_diacritics(text) == "i kóng\"Tâi-pak\"tsin'hó'「suí」,"
        assert len(parse(text).words) == 6

    def test_a_percent_sign_is_spoken_so_it_is_reported(self):
        assert self.found("98% ho2") == [(0, "98", "arabic digits"), (2, "%", "symbol")]

    def test_an_ellipsis_is_punctuation(self):
        assert self.found("ho2⋯gua2…") == []
        assert to_diacritics("ho2⋯gua2…") == "hó⋯guá…"
        assert normalize("ho2⋯⋯gua2。。。").text == "ho2...gua2..."

    def test_full_width_hyphens_join_and_are_reported(self):
        (problem,) = parse("Tai5－pak4").problems
        assert problem[:2] == (0, "Tai5－pak4") and problem.read
        assert to_diacritics("Tai5－pak4 lang5－－e5") == "Tâi-pak lâng--ê"

    def test_a_long_dash_between_letters_is_reported_and_kept(self):
        assert [(start, text) for start, text, _ in self.found("lang5—e5, ho2 — ho2")] == [(5, "—")]
        assert to_diacritics("lang5—e5") == "lâng—ê"

    def test_full_width_letters_and_digits(self):
        assert to_diacritics("Ｔａｉ５") == "Tâi"
        assert [problem.read for problem in parse("Ｔａｉ５").problems] == [True]

    def test_j_is_an_initial(self):
        assert to_numbers("sòo-jī jû-tsu") == "soo3-ji7 ju5-tsu1"
        assert to_diacritics("Jit8 JI7") == "Ji̍t JĪ"

    def test_proper_nouns_are_words(self):
        assert [str(word) for word in parse("Tai5-pak4 e5 Ong5-sian1").words] == ["Tâi-pak", "ê", "Ông-sian"]

    def test_invisible_characters_are_reported(self):
        invisible = "invisible character"
        assert self.found("\ufeffho2\u200b") == [(0, "\ufeff", invisible), (4, "\u200b", invisible)]

    def test_ideographic_and_no_break_spaces_are_spaces(self):
        parsed = parse("ho2\u3000gua2\u00a0li2")
        assert not parsed.problems and [token.kind for token in parsed.tokens] == [WORD, SPACE, WORD, SPACE, WORD]

    def test_nfc_and_nfd_give_the_same_words(self):
        text = "Góa m̄ tsai nn̂g tsi̍t tsa̋ng ḿ kő"
        assert parse(unicodedata.normalize("NFD", text)).words == parse(unicodedata.normalize("NFC", text)).words

    def test_other_scripts_are_reported(self):
        assert self.found("ho2 かな") == [(4, "かな", "a letter or mark that Tai-lo does not use")]


class TestNormalForm:
    def test_one_notation_lower_case_plain_punctuation_single_spaces(self):
        normal = normalize("　Tâi-pak，「tsit8 ê」  m̄–hó！ ")
        assert normal.text == 'tai5-pak4,"tsit8 e5" m7—ho2!'
        assert normal.changes == {"spelling": 4, "case": 1, "punctuation": 5, "spaces": 3}
        assert [problem.text for problem in normal.problems] == ["–"]

    def test_diacritic_form_is_nfc(self):
        assert normalize("Tai5-pak4 m7", "diacritic").text == unicodedata.normalize("NFC", "tâi-pak m̄")

    def test_any_run_with_a_long_dash_is_one_dash(self):
        assert normalize("a1 --- a1 -—- a1 ---— a1").text == "a1 — a1 — a1 — a1"

    def test_case_can_be_kept(self):
        assert normalize("Tâi-Pak", case="keep").text == "Tai5-Pak4"

    def test_punctuation_can_be_dropped_without_gluing_words(self):
        assert normalize("lí,hó!「guá」⋯--ê", punctuation="drop").text == "li2 ho2 gua2 --e5"

    def test_what_is_unknown_is_kept_even_in_case(self):
        assert normalize("Google ê 98% 食").text == "Google e5 98% 食"

    def test_text_in_normal_form_has_no_changes(self):
        assert normalize("tai5-pak4 e5 lang5--ah4.").changes == {}

    @pytest.mark.parametrize("wrong", [{"form": "zhuyin"}, {"case": "upper"}, {"punctuation": "no"}])
    def test_an_unknown_option_is_an_error(self, wrong):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
            normalize("a", **wrong)


def test_the_examples_in_the_docstring_are_true():
    assert doctest.testmod(tailo).attempted >= 4 and doctest.testmod(tailo).failed == 0


def test_a_word_in_lower_case_keeps_its_hyphens_and_tones():
    assert parse_word("Tâi-PAK--ê").lower() == parse_word("tâi-pak--ê")


def test_the_kinds_of_tokens():
    kinds = [token.kind for token in parse("Guá, 食").tokens]
    assert kinds == [WORD, PUNCTUATION, SPACE, UNKNOWN]
