"""The best different readings, on lattices small enough to count paths by hand."""

import random

from icefall_ext.transducer.search.lattice import Arc, Lattice


def random_lattice(seed, by_words):
    """Three places in each of five frames, and every way through it, with its score."""
    dice = random.Random(seed)
    lattice, before, paths = Lattice(by_words=by_words), [0], {0: [([], [], [], 0.0)]}
    for frame in range(5):
        here = []
        for _ in range(3):
            arcs = [Arc(source, dice.choice([0, 1, 2]), dice.choice([(), (7,), (8,), (7, 8)]) if by_words else (),
                        -dice.random()) for source in before for _ in range(dice.randint(0, 2))]
            ways = [
                (tokens + [arc.token] * (arc.token > 0), frames + [frame] * (arc.token > 0), [*words, *arc.words],
                 score + arc.score)
                for arc in arcs for tokens, frames, words, score in paths[arc.source]]
            node = lattice.add(max((way[3] for way in ways), default=float("-inf")), frame + 1, arcs)
            paths[node] = ways
            here.append(node)
        before = here
    return lattice, [Arc(node, 0, (), 0.0) for node in before], [way for node in before for way in paths[node]]


def test_readings_come_out_once_each_best_first_with_their_best_alignment():
    for seed in range(40):
        for by_words in (False, True):
            lattice, ends, paths = random_lattice(seed, by_words)
            best = {}
            for path in paths:
                key = tuple(path[2] if by_words else path[0])
                best[key] = max(best.get(key, path), path, key=lambda way: way[3])
            expected = sorted(best.items(), key=lambda item: -item[1][3])
            readings = lattice.readings(ends, number=10_000)
            assert [tuple(h.words if by_words else h.tokens) for h in readings] == [key for key, _ in expected]
            for reading, (_, (tokens, frames, words, score)) in zip(readings, expected):
                assert (reading.tokens, reading.frames) == (tokens, frames)
                assert reading.words == (words if by_words else None)
                assert abs(reading.score - score) < 1e-9
            assert lattice.readings(ends, number=3) == readings[:3]


def test_readings_that_are_impossible_do_not_come_out():
    lattice = Lattice()
    node = lattice.add(-1.0, 1, [Arc(0, 1, (), -1.0), Arc(0, 0, (), float("-inf"))])
    assert [reading.tokens for reading in lattice.readings([Arc(node, 0, (), 0.0)], 5)] == [[1]]
