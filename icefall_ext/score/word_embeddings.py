"""How good embeddings of isolated words are: retrieval across genders, distances, and what else can be read off them.

retrieval   every item of one gender asks for its word among all items of the other; right when the nearest (Top-1) or
            one of the nearest five (Top-5) is the same base in the same tone. A query whose word the other gender did
            not say counts for nothing.
distances   1 - cosine between two items: positive the same word, hard the same base in another tone, soft another base.
            A mean over all pairs of tones is large as soon as some are told apart, as Tai-lo's checked tones are by
            their final stops, so the two tones that are nearest to each other count too
probes      a linear classifier finds gender or speaker in the embeddings of some recordings, and is asked about others.
            An invariant embedding leaves it at chance. (arXiv:2601.09050, its open question 3)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icefall_ext.tone.pairs import Items

_RIDGE = 1e-2  # of the mean variance
_CHUNK = 1024


@dataclass(frozen=True)
class Retrieval:
    """One direction, `F->M` for women asking men."""

    direction: str
    top1: float
    top5: float
    queries: int
    gallery: int


@dataclass(frozen=True)
class Distances:
    """Means over all pairs of their kind; NaN where there is none."""

    positive: float
    hard: float
    soft: float
    closest: float  # hard, of the two tones for which it is smallest
    closest_tones: tuple[int, int] | None


@dataclass(frozen=True)
class Probe:
    accuracy: float
    chance: float  # of a guess that always names the most frequent class


def unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float64)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def cross_gender_retrieval(embeddings: np.ndarray, items: Items, genders: tuple[str, str]) -> list[Retrieval]:
    """Both directions; `genders` are the names of the numbers 0 and 1."""
    vectors, word, found = unit(embeddings), items.word, []
    for asking, asked in ((0, 1), (1, 0)):
        queries, gallery = (np.flatnonzero(items.gender == gender) for gender in (asking, asked))
        queries = queries[np.isin(word[queries], word[gallery])]
        if not len(queries):
            continue
        first = fifth = 0
        for start in range(0, len(queries), _CHUNK):
            chunk = queries[start : start + _CHUNK]
            near = np.argsort(-(vectors[chunk] @ vectors[gallery].T), axis=1, kind="stable")[:, :5]
            right = word[gallery][near] == word[chunk][:, None]
            first += int(right[:, 0].sum())
            fifth += int(right.any(axis=1).sum())
        direction = f"{genders[asking]}->{genders[asked]}"
        found.append(Retrieval(direction, first / len(queries), fifth / len(queries), len(queries), len(gallery)))
    return found


def distances(embeddings: np.ndarray, items: Items) -> Distances:
    """Over all pairs, worked out from sums of vectors: no matrix of pairs is made."""
    vectors = unit(embeddings)
    norms = (vectors * vectors).sum(axis=1)

    def pairs_in(group: np.ndarray) -> tuple[float, float]:
        """Sum of the cosines, and number, of ordered pairs of different items within a group."""
        _, number = np.unique(group, return_inverse=True)
        sums = np.zeros((number.max(initial=-1) + 1, vectors.shape[1]))
        np.add.at(sums, number.reshape(-1), vectors)
        counts = np.bincount(number.reshape(-1))
        return float((sums * sums).sum() - norms.sum()), float((counts * (counts - 1)).sum())

    of_word, of_base, of_all = (pairs_in(group) for group in (items.word, items.base, np.zeros(len(items))))

    def mean(larger: tuple[float, float], smaller: tuple[float, float]) -> float:
        count = larger[1] - smaller[1]
        return 1 - (larger[0] - smaller[0]) / count if count else float("nan")

    closest, tones = _closest_tones(vectors, items)
    return Distances(mean(of_word, (0.0, 0.0)), mean(of_base, of_word), mean(of_all, of_base), closest, tones)


def _closest_tones(vectors: np.ndarray, items: Items) -> tuple[float, tuple[int, int] | None]:
    """Over all pairs of items with one base, the one in this tone and the other in that."""
    tones, tone = np.unique(items.tone, return_inverse=True)
    cosines, pairs = np.zeros((2, len(tones), len(tones)))
    for base in np.unique(items.base):
        of_base = np.flatnonzero(items.base == base)
        spoken, place = np.unique(tone.reshape(-1)[of_base], return_inverse=True)
        sums = np.zeros((len(spoken), vectors.shape[1]))
        np.add.at(sums, place.reshape(-1), vectors[of_base])
        counts = np.bincount(place.reshape(-1))
        cosines[np.ix_(spoken, spoken)] += sums @ sums.T
        pairs[np.ix_(spoken, spoken)] += np.outer(counts, counts)
    apart = np.where(np.triu(pairs, 1) > 0, 1 - cosines / np.maximum(pairs, 1), np.inf)
    if not np.isfinite(apart).any():
        return float("nan"), None
    one, other = np.unravel_index(apart.argmin(), apart.shape)
    return float(apart[one, other]), (int(tones[one]), int(tones[other]))


def probe(embeddings: np.ndarray, classes: np.ndarray, fold: np.ndarray) -> Probe:
    """A linear classifier (ridge regression onto the classes) learnt on all folds but one and asked about that one."""
    vectors = unit(embeddings)
    names, number = np.unique(classes, return_inverse=True)
    number, right = number.reshape(-1), 0
    chances = 0
    for held_out in np.unique(fold):
        learnt, asked = fold != held_out, fold == held_out
        mean = vectors[learnt].mean(axis=0)
        inputs, wanted = vectors[learnt] - mean, np.eye(len(names))[number[learnt]]
        shares = wanted.mean(axis=0)
        covariance = inputs.T @ inputs
        ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-9
        weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), inputs.T @ (wanted - shares))
        right += int((((vectors[asked] - mean) @ weights + shares).argmax(axis=1) == number[asked]).sum())
        chances += int((number[asked] == shares.argmax()).sum())
    return Probe(right / len(fold), chances / len(fold))


def gender_probe(embeddings: np.ndarray, items: Items) -> Probe | None:
    """Asked about speakers it has not heard; None where one gender has fewer than two speakers."""
    known = items.gender >= 0
    speakers = {gender: np.unique(items.speaker[items.gender == gender]) for gender in (0, 1)}
    if min(map(len, speakers.values())) < 2:
        return None
    fold = np.zeros(len(items), dtype=np.int64)  # one speaker of each gender to a fold
    folds = min(map(len, speakers.values()))
    for of_gender in speakers.values():
        for position, speaker in enumerate(of_gender):
            fold[items.speaker == speaker] = position % folds
    return probe(embeddings[known], items.gender[known], fold[known])


def speaker_probe(embeddings: np.ndarray, items: Items) -> Probe | None:
    """Asked about bases that it has not heard; None for a single speaker or base."""
    if len(np.unique(items.speaker)) < 2 or len(np.unique(items.base)) < 2:
        return None
    bases, fold = np.unique(items.base, return_inverse=True)
    return probe(embeddings, items.speaker, fold % 5 if len(bases) >= 5 else fold)


def plane(embeddings: np.ndarray) -> np.ndarray:
    """(N, 2): the two directions in which the unit embeddings vary most, the same every time."""
    vectors = unit(embeddings)
    vectors = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    best = directions[:, ::-1][:, :2]
    best = best * np.where(best[np.abs(best).argmax(axis=0), [0, 1]] < 0, -1, 1)
    return vectors @ best
