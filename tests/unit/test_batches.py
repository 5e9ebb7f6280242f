"""Which utterances make which batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_ext.data.batches import BatchLimits, epoch_batches, fill, in_order, padding_share, worst_batches
from icefall_ext.errors import UserError

LENGTHS = st.lists(st.tuples(st.floats(0.125, 30.0, width=32), st.integers(1, 200)), min_size=1, max_size=120)


def arrays(lengths):
    return np.array([d for d, _ in lengths], np.float32), np.array([t for _, t in lengths], np.int64)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(0, 3), st.integers(1, 4))
def test_an_epoch_takes_every_utterance_once_on_any_number_of_processes(lengths, epoch, world_size):
    durations, tokens = arrays(lengths)
    limits = BatchLimits(max_duration=60, max_tokens=400)
    if len(lengths) < world_size:
        with pytest.raises(UserError, match="too few"):
            epoch_batches(durations, tokens, limits, 1, epoch, world_size)
        return
    batches = epoch_batches(durations, tokens, limits, 1, epoch, world_size)
    assert len(batches) % world_size == 0
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@settings(max_examples=60, deadline=None)
@given(LENGTHS)
def test_no_batch_exceeds_the_limits_but_an_utterance_that_does_alone(lengths):
    durations, tokens = arrays(lengths)
    limits = BatchLimits(max_duration=40, max_tokens=300, max_utterances=7)
    for batch in epoch_batches(durations, tokens, limits, 5, 2):
        assert len(batch) == 1 or limits.allow(len(batch), durations[batch].max(), tokens[batch].max())


def test_batches_are_the_same_for_the_same_seed_and_epoch_and_others_for_another():
    random = np.random.default_rng(0)
    durations, tokens = random.uniform(1, 10, 300).astype(np.float32), random.integers(5, 40, 300)
    limits = BatchLimits(max_duration=60)

    def as_lists(seed, epoch):
        return [batch.tolist() for batch in epoch_batches(durations, tokens, limits, seed, epoch)]

    assert as_lists(1, 1) == as_lists(1, 1)
    assert as_lists(1, 1) != as_lists(1, 2) and as_lists(1, 1) != as_lists(2, 1)
    assert {tuple(sorted(b)) for b in as_lists(1, 1)} != {tuple(sorted(b)) for b in as_lists(1, 2)}, "same company"


def test_utterances_of_similar_length_come_together():
    random = np.random.default_rng(0)
    durations, tokens = random.uniform(1, 10, 2000).astype(np.float32), np.full(2000, 5)
    limits = BatchLimits(max_duration=100)
    assert padding_share(durations, epoch_batches(durations, tokens, limits, 1, 1)) < 0.1
    assert padding_share(durations, fill(np.arange(2000), durations, tokens, limits)) > 0.3


def test_the_batches_to_try_first_hold_the_most_audio_and_the_most_tokens():
    durations = np.array([1, 1, 1, 9, 2, 2], np.float32)
    tokens = np.array([1, 50, 50, 3, 2, 2])
    batches = [np.array([0, 1, 2]), np.array([3]), np.array([4, 5])]
    assert [batch.tolist() for batch in worst_batches(durations, tokens, batches)] == [[3], [0, 1, 2]]


def test_validation_batches_begin_with_the_longest():
    durations = np.array([1, 5, 3], np.float32)
    batches = in_order(durations, np.ones(3, int), BatchLimits(max_duration=5))
    assert [batch.tolist() for batch in batches] == [[1], [2], [0]]
