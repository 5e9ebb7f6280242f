"""Batches of bases x tones x genders: what an epoch holds, and that it is the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_ext.errors import UsageError
from icefall_ext.tone.batches import BatchShape, spoken_by_one_gender, valid_anchor_rate, word_batches
from icefall_ext.tone.pairs import UNKNOWN, Items, cross_gender_pairs, tone_pairs


def corpus(bases=6, tones=4, speakers=6, takes=1) -> Items:
    rows = [(b, t, s % 2, s) for b in range(bases) for t in range(tones) for s in range(speakers) for _ in range(takes)]
    return Items(*(np.array(column, dtype=np.int64) for column in zip(*rows)))


def test_a_batch_holds_whole_bases_with_all_tones_by_both_genders():
    items, shape = corpus(), BatchShape(bases=3)
    for batch in word_batches(items, shape, seed=1, epoch=1):
        there = {tuple(row) for row in zip(items.base[batch], items.tone[batch], items.gender[batch])}
        bases = set(items.base[batch].tolist())
        assert len(bases) == 3 and there == {(b, t, g) for b in bases for t in range(4) for g in (0, 1)}


def test_every_anchor_of_a_full_corpus_has_a_partner_and_in_random_batches_few_have():
    items = corpus(bases=40, tones=7, speakers=8)
    batches = word_batches(items, BatchShape(bases=5), 1, 1)
    assert valid_anchor_rate(items, batches, cross_gender_pairs) == 1.0
    assert valid_anchor_rate(items, batches, tone_pairs) == 1.0
    order = np.random.default_rng(0).permutation(len(items))
    drawn = [order[start : start + 70] for start in range(0, len(order), 70)]
    assert valid_anchor_rate(items, drawn, cross_gender_pairs) < 0.2


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-1, 1)), min_size=1, max_size=60),
    st.integers(2, 4), st.sampled_from([0, 2, 3]), st.integers(1, 3), st.integers(1, 3),
)
def test_every_recording_is_in_an_epoch_and_twice_in_no_batch(rows, bases, tones, takes, world_size):
    base, tone, gender = (np.array(column) for column in zip(*rows))
    items = Items(base, tone, gender, np.zeros_like(base))
    batches = word_batches(items, BatchShape(bases, tones, takes), 3, 2, world_size)
    assert set(np.concatenate(batches).tolist()) == set(range(len(items)))
    assert all(len(set(batch.tolist())) == len(batch) for batch in batches)
    assert len(batches) % world_size == 0
    wanted = min(bases, len(set(base.tolist())))
    assert all(len(set(base[batch].tolist())) >= wanted for batch in batches)


def test_with_as_many_recordings_of_each_word_an_epoch_takes_each_exactly_once():
    items = corpus(bases=8, speakers=6, takes=2)
    batches = word_batches(items, BatchShape(bases=4, takes=2), 1, 1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(items)))


def test_batches_are_a_function_of_seed_and_epoch():
    items, shape = corpus(), BatchShape(bases=3, tones=2)

    def of(seed, epoch):
        return [batch.tolist() for batch in word_batches(items, shape, seed, epoch)]

    assert of(1, 1) == of(1, 1)
    assert of(1, 1) != of(1, 2) != of(2, 2)


def test_some_tones_of_a_base_come_together_and_others_in_the_next_epoch():
    items, shape = corpus(bases=4, tones=6), BatchShape(bases=2, tones=3)
    together = set()
    for epoch in range(6):
        for batch in word_batches(items, shape, 1, epoch):
            for base in set(items.base[batch].tolist()):
                tones = frozenset(items.tone[batch][items.base[batch] == base].tolist())
                assert len(tones) == 3
                together.add(tones)
    assert len(together) > 10


def test_a_word_by_one_gender_is_reported():
    items = Items(*map(np.array, ([0, 0, 0, 1, 1, 2], [0, 0, 1, 0, 0, 0], [0, 1, 0, 1, UNKNOWN, UNKNOWN], [0] * 6)))
    assert spoken_by_one_gender(items) == [(0, 1), (1, 0), (2, 0)]


def test_one_base_with_many_recordings_is_never_alone_in_a_batch():
    base = np.array([0] * 50 + [1, 1, 2, 2])
    items = Items(base, np.zeros_like(base), np.arange(54) % 2, np.zeros_like(base))
    batches = word_batches(items, BatchShape(bases=3), 1, 1)
    assert all(len(set(base[batch].tolist())) == 3 for batch in batches)


@pytest.mark.parametrize("shape", [BatchShape(bases=1), BatchShape(tones=1), BatchShape(takes=0)])
def test_a_shape_without_anything_to_tell_apart_is_refused(shape):
    with pytest.raises(UsageError):
        shape.check()
