"""The best different readings of a lattice.

A reading counts with its best alignment. They are found from the end backwards, most promising first: the score of what
was walked, plus the best score from the start to where the walk stands, which the search computed on its way and which
is exact. So readings come out in order of score, and a walk that reaches a place with the same tokens behind it as an
earlier one is never better, and is dropped: alignments of one reading do not multiply.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import NamedTuple

from icefall_ext.transducer.search.types import Hypothesis


class Arc(NamedTuple):
    source: int
    token: int  # 0: blank, or nothing
    words: tuple[int, ...]
    score: float


@dataclass
class Lattice:
    """Nodes are numbered, with sources before their destinations; node 0 is the start."""

    best_score: list[float] = field(default_factory=lambda: [0.0])  # from the start to each node
    frame: list[int] = field(default_factory=lambda: [0])  # frames consumed before each node
    arcs: list[list[Arc]] = field(default_factory=lambda: [[]])  # that lead to each node
    by_words: bool = False  # readings differ in their words, not their tokens

    def add(self, best_score: float, frame: int, arcs: list[Arc]) -> int:
        self.best_score.append(best_score)
        self.frame.append(frame)
        self.arcs.append(arcs)
        return len(self.arcs) - 1

    def readings(self, ends: Iterable[Arc], number: int) -> list[Hypothesis]:
        """At most `number`; `ends` are the arcs that finish a path."""
        return list(islice(self._walk_back(ends), number))

    def _walk_back(self, ends: Iterable[Arc]) -> Iterator[Hypothesis]:
        tie_break = count()
        tails: dict[tuple, int] = {}  # numbers for what is read behind a place; () is 0
        waiting: list[tuple] = []
        passed = set()

        def push(arc: Arc, score: float, tail: int, path: tuple) -> None:
            read = arc.words if self.by_words else (arc.token,) if arc.token else ()
            for label in reversed(read):
                tail = tails.setdefault((label, tail), len(tails) + 1)
            if arc.token or arc.words:
                path = (arc.token, self.frame[arc.source], arc.words, path)
            score += arc.score
            promise = score + self.best_score[arc.source]
            if promise > float("-inf"):
                heapq.heappush(waiting, (-promise, next(tie_break), arc.source, score, tail, path))

        for arc in ends:
            push(arc, 0.0, 0, ())
        while waiting:
            _, _, node, score, tail, path = heapq.heappop(waiting)
            if (node, tail) in passed:
                continue
            passed.add((node, tail))
            if node == 0:
                yield self._hypothesis(path, score)
            for arc in self.arcs[node]:
                push(arc, score, tail, path)

    def _hypothesis(self, path: tuple, score: float) -> Hypothesis:
        tokens, frames, words = [], [], []
        while path:
            token, frame, said, path = path
            words += said
            if token:
                tokens.append(token)
                frames.append(frame)
        return Hypothesis(tokens, frames, score, words if self.by_words else None)
