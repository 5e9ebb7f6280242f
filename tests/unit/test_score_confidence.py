"""Intervals: against formulas, against another implementation, and honest about what was drawn."""

import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_ext.score.confidence import bootstrap


def data(speakers=20, per_speaker=15, seed=0):
    """Speakers differ in how well they are recognised: ids, speaker by id, errors, units."""
    generator = np.random.default_rng(seed)
    ids = [f"s{s:02d}-u{u:02d}" for s in range(speakers) for u in range(per_speaker)]
    chance = np.repeat(generator.beta(2, 8, speakers), per_speaker)
    units = generator.integers(4, 20, len(ids))
    return ids, {id: id[:3] for id in ids}, generator.binomial(units, chance), units


def test_same_seed_gives_the_same_interval_and_another_seed_nearly():
    ids, speaker_of, errors, units = data()
    first, again, other = (bootstrap(ids, speaker_of, seed=s).intervals([errors], [units])[0] for s in (1, 1, 2))
    assert first == again != other
    assert np.allclose(first, other, atol=0.3)


def test_the_interval_holds_the_rate_and_agrees_with_a_loop_over_speakers():
    ids, speaker_of, errors, units = data()
    low, high = bootstrap(ids, speaker_of).intervals([errors], [units])[0]
    assert low < 100 * errors.sum() / units.sum() < high
    generator = np.random.default_rng(99)
    names = sorted(set(speaker_of.values()))
    mine = {name: [i for i, id in enumerate(ids) if speaker_of[id] == name] for name in names}
    rates = []
    for _ in range(4000):
        drawn = [i for name in generator.choice(names, len(names)) for i in mine[name]]
        rates.append(100 * errors[drawn].sum() / units[drawn].sum())
    assert np.allclose((low, high), np.percentile(rates, [2.5, 97.5]), atol=0.4)


def test_over_utterances_the_interval_is_kaldialigns():
    generator = np.random.default_rng(3)
    refs = [["a"] * int(n) for n in generator.integers(4, 20, 300)]
    hyps = [["b" if generator.random() < 0.2 else "a" for _ in ref] for ref in refs]
    errors, units = np.array([hyp.count("b") for hyp in hyps]), np.array([len(ref) for ref in refs])
    ours = bootstrap([str(i) for i in range(300)], {}).intervals([errors], [units])[0]
    theirs = kaldialign.bootstrap_wer_ci(refs, hyps)
    assert np.allclose(ours, [100 * theirs["ci95min"], 100 * theirs["ci95max"]], atol=0.15)


def test_speakers_that_differ_make_the_interval_wider_than_utterances_would():
    ids, speaker_of, errors, units = data()
    by_speaker, by_utterance = (bootstrap(ids, who).intervals([errors], [units])[0] for who in (speaker_of, {}))
    assert by_speaker.high - by_speaker.low > 1.5 * (by_utterance.high - by_utterance.low)


def test_intervals_cover_the_true_rate_about_as_often_as_they_say():
    """With 40 speakers; the percentile method is a little short of 95 %."""
    covered = 0
    for seed in range(120):
        ids, speaker_of, errors, units = data(speakers=40, per_speaker=5, seed=seed)
        low, high = bootstrap(ids, speaker_of, resamples=1000).intervals([errors], [units])[0]
        covered += low <= 20 <= high
    assert 0.86 <= covered / 120 <= 0.99


def test_without_any_difference_between_clusters_there_is_no_width():
    interval = bootstrap(list("abcd"), {}).intervals([np.full(4, 1)], [np.full(4, 8)])[0]
    assert interval == (12.5, 12.5)


def test_the_order_of_utterances_changes_nothing():
    ids, speaker_of, errors, units = data()
    shuffled = np.random.default_rng(5).permutation(len(ids))
    for who in (speaker_of, {}):
        before = bootstrap(ids, who).intervals([errors], [units])
        after = bootstrap([ids[i] for i in shuffled], who).intervals([errors[shuffled]], [units[shuffled]])
        assert before == after


def test_rates_that_are_resampled_together_get_the_intervals_they_get_alone():
    ids, speaker_of, errors, units = data()
    draws = bootstrap(ids, speaker_of)
    together = draws.intervals([errors, units - errors], [units, units])
    assert together == [*draws.intervals([errors], [units]), *draws.intervals([units - errors], [units])]


@pytest.mark.parametrize(
    ("speaker_of", "what", "clusters"),
    [
        ({"a": "x", "b": "y", "c": "x"}, "2 speakers", 2),
        ({}, "3 utterances, as no speaker is known", 3),
        ({"a": None, "b": None, "c": None}, "3 utterances, as no speaker is known", 3),
        ({"a": "x", "b": "y", "c": None}, "3 utterances, as 1 of them have no speaker", 3),
        ({"a": "x", "b": "x", "c": "x"}, "3 utterances, as there is only one speaker", 3),
    ],
)
def test_what_is_drawn_is_said_by_name(speaker_of, what, clusters):
    draws = bootstrap(list("abc"), speaker_of)
    assert (draws.what, draws.clusters) == (what, clusters)


def test_one_utterance_has_no_interval():
    draws = bootstrap(["a"], {"a": "x"})
    assert draws.intervals([np.array([1])], [np.array([4])]) == [None]
    assert draws.compare(np.array([2]), np.array([1]), np.array([4])) == (-25, None, None)


def test_resamples_of_empty_references_alone_divide_by_nothing():
    low, high = bootstrap(list("ab"), {}).intervals([np.array([1, 1])], [np.array([0, 4])])[0]
    assert (low, high) == (25, 50)  # b twice, or a and b; a twice is left out
    assert bootstrap(list("ab"), {}).intervals([np.zeros(2)], [np.zeros(2)]) == [None]


def test_few_resamples_are_refused():
    with pytest.raises(ValueError, match="1,000"):
        bootstrap(list("ab"), {}, resamples=999)


def test_a_system_that_is_better_everywhere_is_better_in_every_resample():
    ids, speaker_of, errors, units = data()
    difference, interval, better = bootstrap(ids, speaker_of).compare(errors + 1, errors, units)
    assert difference == pytest.approx(-100 * len(ids) / units.sum())
    assert interval.low <= difference <= interval.high < 0 and better == 1


def test_a_system_compared_with_itself_is_a_draw():
    ids, speaker_of, errors, units = data()
    assert bootstrap(ids, speaker_of).compare(errors, errors, units) == (0, (0, 0), 0.5)


def test_pairing_tells_systems_apart_that_separate_intervals_do_not():
    ids, speaker_of, errors, units = data()
    better = np.maximum(errors - 1, 0)
    draws = bootstrap(ids, speaker_of)
    first, second = draws.intervals([errors, better], [units, units])
    assert first.low < second.high  # they overlap
    assert draws.compare(errors, better, units).interval.high < 0


@settings(max_examples=20)
@given(st.integers(2, 400), st.integers(1000, 3000))
def test_every_resample_draws_as_many_as_there_are(clusters, resamples):
    draws = bootstrap([str(i) for i in range(clusters)], {}, resamples=resamples)
    times = np.concatenate(list(draws._times_drawn()))
    assert times.shape == (resamples, clusters) and set(times.sum(axis=1)) == {clusters}


def test_drawing_in_parts_gives_every_resample(monkeypatch):
    ids, speaker_of, errors, units = data(speakers=7)
    monkeypatch.setattr("icefall_ext.score.confidence._DRAWS_AT_A_TIME", 100)
    draws = bootstrap(ids, speaker_of, resamples=1000)
    assert draws._sums(np.stack([units], axis=1)).shape == (1000, 1)
