"""Alignments: against an edit distance of the tests' own, and by hand where several alignments are equally good."""

from functools import lru_cache

import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.score.alignment import Counts, align, align_places, align_syllables, count
from icefall_ext.text.tailo import parse

units = st.lists(st.sampled_from(["a", "b", "c", "*", "", "m̄"]), max_size=9)
syllables = st.lists(
    st.sampled_from([*parse("si1 si7 ti7 tai5 tai7 kok4 kok8 khok8 m7").syllables, "98", "x"]), max_size=7
)


def edit_distance(ref, hyp) -> int:
    """The textbook's, one row at a time."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref):
        before, row = row, [i + 1]
        for j, h in enumerate(hyp):
            row.append(min(before[j] + (r != h), before[j + 1] + 1, row[j] + 1))
    return row[-1]


def syllable_cost(r, h) -> tuple[int, int]:
    """(errors, cost) of a pair as the table in the module says, None for a gap."""
    if r is None or h is None:
        return 1, 4
    if isinstance(r, str) or isinstance(h, str):
        return (0, 0) if r == h else (1, 6)
    cost = 2 * (r.initial != h.initial) + 3 * (r.final != h.final) + (r.tone != h.tone)
    return int(cost > 0), cost


def cheapest(ref, hyp) -> tuple[int, int]:
    """The least (errors, cost) over all alignments, tried one by one."""

    @lru_cache(None)
    def rest(i, j):
        choices = []
        for pair, (k, l) in (((1, 1), (i + 1, j + 1)), ((1, 0), (i + 1, j)), ((0, 1), (i, j + 1))):
            if k <= len(ref) and l <= len(hyp):
                errors, cost = syllable_cost(ref[i] if pair[0] else None, hyp[j] if pair[1] else None)
                more_errors, more_cost = rest(k, l)
                choices.append((errors + more_errors, cost + more_cost))
        return min(choices, default=(0, 0))

    return rest(0, 0)


def at(text, place):
    return None if place is None else text[place]


@pytest.mark.parametrize(
    ("ref", "hyp", "counts"),
    [
        ("abcd", "abcd", Counts(0, 0, 0, 4)),
        ("abcd", "axcd", Counts(0, 0, 1, 3)),
        ("abcd", "acd", Counts(0, 1, 0, 3)),
        ("abcd", "abxcdy", Counts(2, 0, 0, 4)),
        ("ab", "", Counts(0, 2, 0, 0)),
        ("", "ab", Counts(2, 0, 0, 0)),
        ("", "", Counts(0, 0, 0, 0)),
        ("我beh去", "我欲去", Counts(0, 2, 1, 2)),
    ],
)
def test_counts_are_those_worked_out_by_hand(ref, hyp, counts):
    assert count(align(list(ref), list(hyp))) == counts
    assert counts.errors == counts.insertions + counts.deletions + counts.substitutions
    assert counts.units == len(ref)


@given(units, units)
def test_errors_are_the_edit_distance_and_counts_add_up(ref, hyp):
    counts = count(align(ref, hyp))
    assert counts.errors == edit_distance(ref, hyp) == kaldialign.edit_distance(ref, hyp)["total"]
    assert counts.units == len(ref)
    assert counts.correct + counts.substitutions + counts.insertions == len(hyp)


@given(units, units)
def test_an_alignment_holds_both_texts_in_their_order(ref, hyp):
    pairs = align(ref, hyp)
    assert [r for r, _ in pairs if r is not None] == ref
    assert [h for _, h in pairs if h is not None] == hyp
    assert pairs == [(at(ref, i), at(hyp, j)) for i, j in align_places(ref, hyp)]


def test_a_unit_that_looks_like_the_mark_of_a_gap_is_a_unit():
    assert align(["*", "a"], ["a"]) == [("*", None), ("a", "a")]
    assert count(align(["*"], ["*"])).correct == 1


@given(syllables, syllables)
def test_syllables_are_aligned_with_the_fewest_errors_and_then_the_least_cost(ref, hyp):
    pairs = [(at(ref, i), at(hyp, j)) for i, j in align_syllables(ref, hyp)]
    assert [r for r, _ in pairs if r is not None] == ref
    assert [h for _, h in pairs if h is not None] == hyp
    total = [sum(column) for column in zip(*(syllable_cost(*pair) for pair in pairs))] or [0, 0]
    assert tuple(total) == cheapest(tuple(ref), tuple(hyp))
    names = [[str(s) for s in side] for side in (ref, hyp)]
    assert total[0] == edit_distance(*names)


@pytest.mark.parametrize(
    ("ref", "hyp", "expected"),
    [
        ("gua2 beh4 khi3", "gua2 khi7", [(0, 0), (1, None), (2, 1)]),
        ("gua2 khi3", "gua2 beh4 khi7", [(0, 0), (None, 1), (1, 2)]),
        ("khi3 beh4", "khi7", [(0, 0), (1, None)]),
        ("tai5 tai7", "tai7", [(0, None), (1, 0)]),
        ("tai5 uan5", "tai7 uan1", [(0, 0), (1, 1)]),
    ],
)
def test_a_wrong_tone_on_the_right_base_is_a_confusion_of_tones(ref, hyp, expected):
    assert align_syllables(parse(ref).syllables, parse(hyp).syllables) == expected


def test_equal_tones_do_not_outweigh_the_same_initial():
    """Otherwise alignments of different bases would make the tones look better than they are."""
    ref, hyp = parse("beh4 khi3").syllables, parse("khih4").syllables
    assert align_syllables(ref, hyp) == [(0, None), (1, 0)]
