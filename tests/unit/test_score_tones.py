"""Confusion of tones: counted by hand, consistent with the tone rate, and visible in the picture."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.score.error_rates import Utterance, score, script
from icefall_ext.score.han_readings import Readings
from icefall_ext.score.tone_picture import draw_confusion, plot_confusion
from icefall_ext.score.tones import NOTHING, ToneConfusion

words = st.sampled_from(
    ["tai5-uan5", "lang5--e5", "tsit8", "sann1", "khi3", "hoo7", "peh8-peh8", "gin2-a2", "loo6", "98"]
)
sentences = st.lists(words, max_size=6).map(" ".join)


def confusions(*pairs: tuple[str, str], **options) -> dict[str, ToneConfusion]:
    scored = score([Utterance(f"u{i}", *pair) for i, pair in enumerate(pairs)], script("tailo", **options))
    return {key: ToneConfusion(scored[key]) for key in ("tone", "surface-tone") if key in scored}


def cells(confusion: ToneConfusion) -> dict[tuple[int, int], int]:
    return {(int(r), int(c)): int(confusion.counts[r, c]) for r, c in np.argwhere(confusion.counts)}


def test_citation_tones_are_counted_as_they_are_written():
    found = confusions(("tâi-uân tsi̍t khì", "tāi-uân tsit"), ("hōo", "hôo lâng"))["tone"]
    assert cells(found) == {(5, 7): 1, (5, 5): 1, (8, 4): 1, (3, NOTHING): 1, (7, 5): 1, (NOTHING, 5): 1}
    assert found.tones == [1, 2, 3, 4, 5, 7, 8]


def test_surface_tones_take_each_utterance_as_one_tone_group():
    #                        spoken  7   5        3   5
    found = confusions(("tâi-uân", "tāi-uân"))["surface-tone"]
    assert cells(found) == {(7, 3): 1, (5, 5): 1}
    #             spoken   5 0            8 1                                  7 5        4 1
    found = confusions(("lâng--ê", "lâng-ê"), ("pak-sann", "pa̍k-sann"))["surface-tone"]
    assert cells(found) == {(5, 7): 1, (0, 5): 1, (8, 4): 1, (1, 1): 1}
    assert found.tones == [0, 1, 2, 3, 4, 5, 7, 8]


def test_shares_of_a_row_are_of_its_reference_tone():
    found = confusions(("tâi-uân tâi-uân", "tāi-uân tâi"))["tone"]
    assert found.shares[5, [5, 7, NOTHING]].tolist() == [50, 25, 25]
    assert found.shares[1].sum() == 0


def test_confusion_of_5_7_and_8_is_split_into_what_became_of_them():
    # 5>7 and 7>8 are among them, 8>4 and 5>1 are other tones, one 7 is lost, one 5 is right; 1>7 is not about them.
    found = confusions(("tai5 hoo7 tsit8 kau5 ue7 lang5 sann1", "tai7 hoo8 tsit4 kau1 lang5 sann7"))[
        "tone"
    ].of_confusable
    assert int(found.syllables.sum()) == 6
    shares = [found.percent(part) for part in ("among", "other", "lost")]
    assert shares == pytest.approx([100 * 2 / 6, 100 * 2 / 6, 100 / 6])
    assert confusions(("sann1", "sann7"))["tone"].of_confusable.percent("among") is None


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=5))
def test_matrix_holds_every_tone_of_both_sides_and_the_errors_of_the_rate(pairs):
    for confusion in confusions(("sann1", "sann1"), *pairs).values():
        total = confusion.scored.total
        assert confusion.counts.sum() == total.errors + total.correct
        assert np.trace(confusion.counts) == total.correct
        assert confusion.counts[:NOTHING].sum() == total.units
        assert confusion.counts[NOTHING].sum() == total.insertions
        assert confusion.counts[:, NOTHING].sum() == total.deletions
        of = confusion.of_confusable
        rows = confusion.counts[[5, 7, 8]]
        assert of.syllables.sum() == rows.sum() and of.lost.sum() == rows[:, NOTHING].sum()
        assert of.among.sum() == rows[:, [5, 7, 8]].sum() - np.trace(rows[:, [5, 7, 8]])
        assert (of.among + of.other + of.lost <= of.syllables).all()


def test_picture_shows_shares_counts_and_the_confusion_of_5_7_8():
    pairs = [("tai5 uan5 tsit8", "tai7 uan5 tsit4 hoo7")]
    figure = draw_confusion(list(confusions(*pairs).values()), "a-name")
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == ["citation tones", "surface tones"]
    assert "one another (framed) 33.3 %" in figure.axes[0].get_title()
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    five, seven, eight, inserted = 4, 5, 6, 7
    assert texts[seven, five] == "50 %\n1" and texts[five, five] == "50 %\n1"
    assert texts[3, eight] == "100 %\n1" and texts[seven, inserted] == "1"
    shades = np.asarray(figure.axes[0].images[0].get_array())
    assert shades[five, seven] > shades[five, eight] == 0
    assert shades[inserted].sum() == 0
    assert len(figure.axes[0].patches) == 6  # off the diagonal of 5, 7, 8


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_picture_is_a_file_of_the_kind_its_name_says(tmp_path, ending, start):
    plot_confusion(tmp_path / f"tones.{ending}", [confusions(("tsit8", "tsit4"))["tone"]])
    assert (tmp_path / f"tones.{ending}").read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [f"tones.{ending}"]


def test_scoring_starts_without_torch_lhotse_and_matplotlib():
    code = "import sys, icefall_ext.bin.score; print({'torch', 'lhotse', 'matplotlib', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


SENTENCES = [
    ("我食飯", "guá tsia̍h-pn̄g"),
    ("伊食飯", "i tsia̍h-pn̄g"),
    ("食人", "si̍t lâng"),
    ("去beh", "khì beh"),
    ("我", "guá lâng"),
]


def test_a_recognised_character_has_the_reading_of_its_reference():
    read = Readings(SENTENCES).as_tailo(Utterance("u", "食人", "食 人"), "sit8 lang5")
    assert read == Utterance("u", "sit8 lang5", " sit8 lang5")


def test_another_character_has_its_most_frequent_reading():
    read = Readings(SENTENCES).as_tailo(Utterance("u", "我去", "食 去 beh"), "gua2 khi3")
    assert read.hyp == " tsiah8 khi3 beh4"


def test_a_character_without_a_known_reading_has_no_tone():
    utterance = Readings(SENTENCES).as_tailo(Utterance("u", "我去", "我龜"), "gua2 khi3")
    scored = score([utterance], script("tailo"))
    assert scored["tone"].alignments["u"] == [("2", "2"), ("3", None)]
    assert scored["syllable"].total.substitutions == 1


def test_words_of_the_reference_hold_together_where_they_were_recognised_whole():
    """So 仔, tripled adjectives and neutral tones are found on both sides."""
    readings = Readings(SENTENCES)
    assert readings.as_tailo(Utterance("u", "人的囡仔", "人的食仔"), "lang5--e5 gin2-a2").hyp == " lang5--e5 tsiah8-a2"
    assert readings.as_tailo(Utterance("u", "囡仔", "仔"), "gin2-a2").hyp == " a2"
    assert readings.as_tailo(Utterance("u", "囡仔", "囡食仔"), "gin2-a2").hyp == " gin2 tsiah8 a2"


@pytest.mark.parametrize("romanised", ["gua2", "gua2 98", "gua2 khi3 a0", ""])
def test_a_reference_whose_scripts_differ_in_length_is_left_out(romanised):
    assert Readings(SENTENCES).as_tailo(Utterance("u", "我去", "我去"), romanised) is None


def test_of_two_equally_frequent_readings_the_order_of_sentences_chooses_none():
    sentences = [("食", "tsia̍h"), ("食", "si̍t")]
    for texts in (sentences, sentences[::-1]):
        assert Readings(texts).as_tailo(Utterance("u", "我", "食"), "gua2").hyp == " sit8"


def test_readings_are_learnt_from_sentences_that_fit_syllable_by_syllable():
    assert len(Readings(SENTENCES)) == 7  # 我食飯伊人去beh, and not 我 as two syllables
    assert len(Readings([("我", "guá lâng"), ("我", "98")])) == 0
