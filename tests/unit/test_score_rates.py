"""Rates: worked out by hand, blind to how a text is written, and never blind to what it says."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from icefall_ext.errors import UserError
from icefall_ext.score.alignment import Counts
from icefall_ext.score.error_rates import Utterance, score, script, tones_only
from icefall_ext.score.units import HanloPair, TailoPair

HAN_PIECES = [*"我欲去台臺北著𪜶\U000308fb，。!", "beh", "Tâi-pak", "m̄", "tsi̍t", "saⁿ", " ", "--ah", "98%", "é", "*"]
TAILO_PIECES = [
    "guá",
    "beh4",
    "Tâi-pak",
    "tsi̍t",
    "m̄",
    "lâng--ê",
    "tai5-uan5",
    "gín-á",
    "--ah",
    "98",
    "我",
    "qué",
    "-",
    "é̄",
]
han_texts = st.lists(st.sampled_from(HAN_PIECES), max_size=8).map("".join) | st.text(max_size=8)
tailo_texts = st.lists(st.sampled_from(TAILO_PIECES), max_size=8).map(" ".join) | st.text(max_size=8)
texts_of = {"hanlo": han_texts, "tailo": tailo_texts}
SCRIPTS = [script("hanlo"), script("tailo"), script("tailo", written="surface"), tones_only()]
ANCHOR = {"hanlo": "我", "tailo": "guá"}  # one correct unit, so that a rate is defined


def rates(ref: str, hyp: str, name: str, **options) -> dict[str, float]:
    return {key: scored.percent for key, scored in score([Utterance("u", ref, hyp)], script(name, **options)).items()}


def counts(ref: str, hyp: str, name: str, key: str) -> Counts:
    return score([Utterance("u", ref, hyp)], script(name))[key].total


def test_strict_rate_counts_letters_and_mixed_rate_counts_romanised_words():
    # 我 b e h 去 and 我 b o h 去; 我 beh 去 and 我 boh 去
    assert rates("我 beh 去", "我 boh 去", "hanlo") == {"cer": 100 / 5, "mixed": 100 / 3}


def test_a_letter_with_its_tone_mark_is_one_character_composed_or_not():
    for mark in ("m̄", "ḿ"):
        assert counts(f"我{mark}知", "我知", "hanlo", "cer") == Counts(0, 1, 0, 2)


def test_spelling_of_words_is_no_strict_error_but_a_mixed_one():
    assert counts("tâi-pak", "tâi pak", "hanlo", "cer").errors == 0
    assert counts("tâi-pak", "tâi pak", "hanlo", "mixed") == Counts(1, 0, 1, 0)


def test_syllable_tone_and_word_rates_by_hand():
    #        tai5  uan5  ue7  | tone 5>7, ue7 lost, tsin1 added
    ref, hyp = "Tâi-uân uē", "tāi-uân tsin"
    assert counts(ref, hyp, "tailo", "syllable") == Counts(0, 0, 2, 1)
    assert counts(ref, hyp, "tailo", "base") == Counts(0, 0, 1, 2)
    assert counts(ref, hyp, "tailo", "tone") == Counts(0, 0, 2, 1)
    assert counts(ref, hyp, "tailo", "word") == Counts(0, 0, 2, 0)
    # Spoken: 7 7 7 and 3 7 1. The last syllable keeps its tone, 5 becomes 7, 7 becomes 3.
    assert counts(ref, hyp, "tailo", "surface-tone") == Counts(0, 0, 2, 1)


def test_two_citation_tones_that_sound_alike_before_another_are_no_surface_error():
    assert counts("tai1 uan5", "tai5 uan5", "tailo", "tone").errors == 1
    assert counts("tai1 uan5", "tai5 uan5", "tailo", "surface-tone").errors == 0
    assert rates("tai1 uan5", "tai5 uan5", "tailo", tone5="north")["surface-tone"] == 50


def test_tones_that_are_written_as_spoken_are_taken_as_they_are():
    assert rates("tai7 uan5", "tai3 uan5", "tailo", written="surface") == {
        "syllable": 50,
        "base": 0,
        "surface-tone": 50,
        "word": 50,
    }


def test_a_lost_neutral_mark_is_heard_in_the_surface_tones_only():
    found = rates("lâng--ê", "lâng-ê", "tailo")
    assert found["syllable"] == found["tone"] == 0
    assert found["surface-tone"] == 100  # 5 0 and 7 5


def test_what_is_not_tailo_is_counted_and_not_skipped():
    assert counts("guá beh khì", "guá 欲 98 khì", "tailo", "syllable") == Counts(1, 0, 1, 2)
    assert counts("guá beh khì", "guá 欲 khì", "tailo", "tone") == Counts(0, 1, 0, 2)  # its tone is lost
    assert counts("guá khì", "guá Google khì", "tailo", "tone").errors == 0
    assert counts("guá khì", "guá 欲去Google khì", "tailo", "syllable") == Counts(3, 0, 0, 2)


def test_punctuation_parts_words_and_is_no_unit():
    assert counts("guá'ê, tsi̍t……ê.", "guá ê tsi̍t ê", "tailo", "word") == Counts(0, 0, 0, 4)
    assert counts("guá ‽ -qué", "guá qué", "tailo", "word") == Counts(0, 0, 0, 2)
    assert counts("「我，beh」去！", "我 beh 去", "hanlo", "mixed") == Counts(0, 0, 0, 3)


def test_a_hypothesis_for_an_empty_reference_is_inserted_and_divides_by_nothing():
    scored = score([Utterance("a", "", "我去"), Utterance("b", "我去", "我去")], script("hanlo"))["cer"]
    assert scored.total == Counts(2, 0, 0, 2)
    assert scored.percent == 100


def test_an_empty_hypothesis_is_deleted():
    assert counts("我欲去", "", "hanlo", "cer") == Counts(0, 3, 0, 0)
    assert rates("guá khì", " ", "tailo")["tone"] == 100


@pytest.mark.parametrize("utterances", [[], [Utterance("a", "", "我")], [Utterance("a", "，。", "")]])
def test_a_test_set_without_anything_to_count_is_an_error(utterances):
    with pytest.raises(UserError, match="empty|nothing to count"):
        score(utterances, script("hanlo"))


def test_an_id_that_occurs_twice_is_an_error():
    with pytest.raises(UserError, match="u1: two utterances"):
        score([Utterance("u1", "我", "我"), Utterance("u1", "你", "你")], script("hanlo"))


@pytest.mark.parametrize("how", SCRIPTS, ids=["hanlo", "tailo", "surface", "tones"])
@given(data=st.data())
def test_unicode_form_and_case_change_no_count(how, data):
    ref, hyp = data.draw(texts_of[how.name]), data.draw(texts_of[how.name])
    written = [
        (unicodedata.normalize(first, ref), unicodedata.normalize(second, hyp))
        for first in ("NFC", "NFD")
        for second in ("NFC", "NFD")
    ]
    of_each = [[rate.align(how.read(*pair)) for rate in how.rates] for pair in written]
    assert of_each[0] == of_each[1] == of_each[2] == of_each[3]


@pytest.mark.parametrize("name", ["hanlo", "tailo"])
@given(data=st.data())
def test_case_changes_no_count(name, data):
    pieces = HAN_PIECES if name == "hanlo" else TAILO_PIECES
    text = " ".join(data.draw(st.lists(st.sampled_from(pieces), max_size=6)))
    pair = script(name).read(text, text.upper())
    assert all(r == h for rate in script(name).rates for r, h in rate.align(pair))


@pytest.mark.parametrize("how", SCRIPTS, ids=["hanlo", "tailo", "surface", "tones"])
@given(data=st.data())
def test_main_rate_is_zero_exactly_if_the_units_are_equal(how, data):
    ref = ANCHOR[how.name] + " " + data.draw(texts_of[how.name])
    hyp = data.draw(st.one_of(texts_of[how.name], st.just(ref)))
    pair = how.read(ref, hyp)
    refs, hyps = pair.characters() if how.name == "hanlo" else pair.syllables()
    scored = score([Utterance("u", ref, hyp)], how)[how.rates[0].key]
    assert (scored.percent == 0) == (refs == hyps)
    assert scored.total.units == len(refs)
    assert scored.total.correct + scored.total.substitutions + scored.total.insertions == len(hyps)


@given(tailo_texts, tailo_texts)
def test_tone_and_base_errors_are_never_more_than_syllable_errors(ref, hyp):
    ref = f"guá {ref}"
    scored = score([Utterance("u", ref, hyp)], script("tailo"))
    for key in ("tone", "base"):
        assert scored[key].total.errors <= scored["syllable"].total.errors


@given(st.lists(st.tuples(han_texts, han_texts), min_size=1, max_size=6), st.randoms())
def test_the_order_of_utterances_changes_nothing(texts, shuffle: random.Random):
    utterances = [Utterance(f"u{i}", f"我{ref}", hyp) for i, (ref, hyp) in enumerate(texts)]
    shuffled = utterances[:]
    shuffle.shuffle(shuffled)
    before, after = score(utterances, script("hanlo")), score(shuffled, script("hanlo"))
    for key in before:
        assert list(before[key].alignments.items()) == list(after[key].alignments.items())
        assert np.array_equal(before[key].counts, after[key].counts)
        assert before[key].total == Counts(*map(sum, zip(*before[key].counts.tolist())))


@pytest.mark.parametrize(("name", "read"), [("hanlo", HanloPair), ("tailo", TailoPair)])
@given(data=st.data())
def test_tokens_of_a_recogs_file_are_scored_as_the_text_they_came_from(name, read, data):
    """So icefall's own scorer finds, in our recogs files, the rate that our errs files give."""
    text = data.draw(texts_of[name])
    assume(not set(text) & set(".,:·‧．"))  # within numbers and o· they are tokens of their own, and silent when apart
    tokens, _ = script(name).tokens(read(text, ""))
    again, _ = script(name).tokens(read(" ".join(tokens), ""))
    assert again == tokens
