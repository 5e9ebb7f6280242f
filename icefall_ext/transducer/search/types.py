"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance."""

    tokens: list[int]
    frames: list[int]  # the encoder frame at which each token was emitted
    score: float  # log-probability, with whatever language models and hotwords added
    words: list[int] | None = None  # output labels of the decoding graph, where one was given


@dataclass(frozen=True)
class Result:
    """The readings of one utterance, best first; at least one, which may be empty."""

    nbest: list[Hypothesis]

    @property
    def best(self) -> Hypothesis:
        return self.nbest[0]

    @property
    def tokens(self) -> list[int]:
        return self.best.tokens
