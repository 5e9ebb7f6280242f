"""What words.json says of a model of isolated words: each figure's name, and where it stands in a set of speakers."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

# Of a recipe, as its stages make them.
MODELS = ("before", "teacher", "stage1", "stage2", "single")
DISTANCES = (
    "Distances are 1 - cosine: positive of the same word, hard of the same base in another tone, soft of other bases; "
    "the closest two tones are those of the smallest hard distance, which is given."
)


def tested_on(sets: Container[str]) -> str:
    """Which set of speakers is the test: those that are in no training, where there are some."""
    return "unseen" if "unseen" in sets else "seen"


@dataclass(frozen=True)
class Measure:
    title: str
    digits: int
    find: Callable[[dict[str, Any]], float]

    def of(self, scores: dict[str, Any]) -> float | None:
        """None where there is no such figure: a model that recognises nothing has no errors."""
        try:
            value = self.find(scores)
        except (KeyError, TypeError):
            return None
        return value if isinstance(value, (int, float)) and value == value else None  # a mean over no pairs is NaN


def _distance(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda scores: scores["distances"][name]


def _error(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda scores: scores["errors"][name]


def _probe(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda scores: scores["probes"][name]["accuracy"]


MEASURES = {
    "top1": Measure("Top-1", 3, lambda scores: scores["mean_top1"]),
    "top5": Measure("Top-5", 3, lambda scores: scores["mean_top5"]),
    "hard": Measure("hard distance", 3, _distance("hard")),
    "closest": Measure("closest two tones", 3, _distance("closest")),
    "positive": Measure("positive distance", 3, _distance("positive")),
    "soft": Measure("soft distance", 3, _distance("soft")),
    "word": Measure("WER %, base and tone", 1, _error("word")),
    "base": Measure("WER %, base", 1, _error("base")),
    "tone": Measure("tones wrong %", 1, _error("tone")),
    "cer": Measure("CER %", 1, _error("cer")),
    "gender": Measure("gender probe", 3, _probe("gender")),
    "speaker": Measure("speaker probe", 3, _probe("speaker")),
}
