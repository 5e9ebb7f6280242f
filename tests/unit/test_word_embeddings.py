"""Measures on embeddings of words: against loops over pairs, and on embeddings whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from icefall_ext.score.word_embeddings import (
    cross_gender_retrieval,
    distances,
    gender_probe,
    plane,
    speaker_probe,
    unit,
)
from icefall_ext.tone.pairs import UNKNOWN, Items

RANDOM = np.random.default_rng(0)


def corpus(bases=4, tones=3, speakers=6) -> Items:
    rows = [(b, t, s % 2, s) for b in range(bases) for t in range(tones) for s in range(speakers)]
    return Items(*(np.array(column) for column in zip(*rows)))


def one_hot(numbers: np.ndarray, size: int | None = None) -> np.ndarray:
    return np.eye(size or numbers.max() + 1)[numbers]


def test_distances_are_means_over_all_pairs_of_their_kind():
    items = corpus(3, 2, 3)
    x = RANDOM.normal(size=(len(items), 5))
    found = {"positive": [], "hard": [], "soft": []}
    for i in range(len(items)):
        for j in range(len(items)):
            if i != j:
                same_base, same_tone = items.base[i] == items.base[j], items.tone[i] == items.tone[j]
                kind = "soft" if not same_base else "positive" if same_tone else "hard"
                found[kind].append(1 - x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]))
    measured = distances(x, items)
    for kind, values in found.items():
        assert getattr(measured, kind) == pytest.approx(np.mean(values))


def test_the_closest_tones_are_those_of_a_loop_over_pairs():
    items = corpus(3, 4, 3)
    items = items[np.delete(np.arange(len(items)), [0, 5, 7])]  # not every word as often
    x = RANDOM.normal(size=(len(items), 5)) + one_hot(items.tone, 5)
    found = {}
    for i in range(len(items)):
        for j in range(len(items)):
            if items.base[i] == items.base[j] and items.tone[i] < items.tone[j]:
                away = 1 - unit(x)[i] @ unit(x)[j]
                found.setdefault((items.tone[i], items.tone[j]), []).append(away)
    tones = min(found, key=lambda pair: np.mean(found[pair]))
    measured = distances(x, items)
    assert measured.closest == pytest.approx(np.mean(found[tones])) and measured.closest_tones == tones


def test_one_tone_told_from_the_others_makes_the_hard_distance_large_and_the_closest_tones_none_the_less_one():
    items = corpus(tones=4)
    heard = one_hot(items.base * 2 + (items.tone == 3))
    measured = distances(heard, items)
    assert measured.hard == pytest.approx(0.5) and measured.closest == pytest.approx(0)
    assert measured.closest_tones == (0, 1)


def test_without_two_tones_of_a_base_nothing_is_closest():
    items = corpus(tones=1)
    measured = distances(RANDOM.normal(size=(len(items), 4)), items)
    assert np.isnan(measured.closest) and measured.closest_tones is None


def test_retrieval_is_that_of_a_loop_over_queries():
    items = corpus()
    x = RANDOM.normal(size=(len(items), 4))
    for result, asking in zip(cross_gender_retrieval(x, items, ("F", "M")), (0, 1)):
        queries, gallery = (np.flatnonzero(items.gender == g) for g in (asking, 1 - asking))
        ranks = []
        for q in queries:
            order = sorted(gallery, key=lambda g: -unit(x)[q] @ unit(x)[g])
            ranks.append([items.word[g] == items.word[q] for g in order])
        assert result.top1 == pytest.approx(np.mean([rank[0] for rank in ranks]))
        assert result.top5 == pytest.approx(np.mean([any(rank[:5]) for rank in ranks]))
        assert (result.queries, result.gallery) == (36, 36)
    assert result.direction == "M->F"


def test_embeddings_that_hear_base_and_tone_are_perfect_and_those_that_hear_the_base_alone_collapse():
    items = corpus()
    perfect, collapsed = one_hot(items.word), one_hot(items.base)
    assert all(result.top1 == 1 for result in cross_gender_retrieval(perfect, items, ("F", "M")))
    assert distances(perfect, items).hard == pytest.approx(1) and distances(collapsed, items).hard == pytest.approx(0)
    assert all(result.top1 < 0.5 for result in cross_gender_retrieval(collapsed, items, ("F", "M")))


def test_a_word_that_the_other_gender_did_not_say_is_no_query():
    items = Items(np.array([0, 0, 1]), np.zeros(3, int), np.array([0, 1, 0]), np.arange(3))
    women, men = cross_gender_retrieval(RANDOM.normal(size=(3, 2)), items, ("F", "M"))
    assert (women.queries, women.gallery, men.queries, men.gallery) == (1, 1, 1, 2)
    alone = Items(items.base, items.tone, np.full(3, UNKNOWN), items.speaker)
    assert cross_gender_retrieval(RANDOM.normal(size=(3, 2)), alone, ("F", "M")) == []


def test_probes_find_gender_and_speaker_where_they_are_and_not_where_they_are_not():
    items = corpus(6, 3, 6)
    telling = np.concatenate([one_hot(items.gender), one_hot(items.speaker)], axis=1)
    assert gender_probe(telling, items).accuracy == 1 and speaker_probe(telling, items).accuracy == 1
    mute = one_hot(items.word)
    assert gender_probe(mute, items).accuracy <= 0.6 and speaker_probe(mute, items).accuracy <= 0.3
    assert gender_probe(mute, items).chance == pytest.approx(0.5)


def test_the_speaker_probe_asks_about_other_bases_whatever_their_numbers_are():
    items = corpus(5, 3, 4)
    apart = Items(items.base * 5, items.tone, items.gender, items.speaker)  # the remainder by 5 is the same
    x = RANDOM.normal(size=(len(items), 4)) + one_hot(items.speaker)
    assert speaker_probe(x, apart) == speaker_probe(x, items)


def test_probes_want_enough_speakers():
    items = corpus(speakers=2)
    assert gender_probe(one_hot(items.word), items) is None
    assert speaker_probe(one_hot(items.word), corpus(speakers=1)) is None


def test_the_plane_keeps_the_two_largest_directions_whatever_the_order():
    x = RANDOM.normal(size=(40, 6)) * [5, 3, 0.1, 0.1, 0.1, 0.1]
    flat = plane(x)
    assert flat.shape == (40, 2)
    order = RANDOM.permutation(40)
    np.testing.assert_allclose(plane(x[order]), flat[order], atol=1e-9)
