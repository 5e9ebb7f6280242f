"""Error rates of isolated words: on base and tone, on the base alone, on the tone alone, and on letters and tones.

Rates are errors over units of the reference, in percent: a hypothesis of two syllables for a word of one is an
insertion, so a rate may exceed 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from icefall_ext.score.alignment import align, count
from icefall_ext.tone.labels import MISSING, Word


def word_errors(pairs: Sequence[tuple[Word, Word]]) -> dict[str, float]:
    """Of (reference, hypothesis): `word`, `base`, `tone` and `cer`."""
    return {name: _rate(pairs, units) for name, units in _UNITS.items()}


def _rate(pairs: Sequence[tuple[Word, Word]], units: Callable[[Word], list[str]]) -> float:
    errors = total = 0
    for reference, hypothesis in pairs:
        counts = count(align(units(reference), units(hypothesis)))
        errors, total = errors + counts.errors, total + counts.units
    return 100 * errors / max(total, 1)


_UNITS: dict[str, Callable[[Word], list[str]]] = {
    "word": lambda word: [f"{base} {tone}" for base, tone in word.syllables()],
    "base": lambda word: [base for base, _ in word.syllables()],
    "tone": lambda word: [tone for _, tone in word.syllables()],
    "cer": lambda word: [
        unit for base, tone in word.syllables() for unit in (*base, f" {tone}") if unit.strip() != MISSING
    ],
}


def hypotheses_table(ids: Sequence[str], references: Sequence[Word], hypotheses: Sequence[Word]) -> str:
    rows = [("id", "reference", "hypothesis"), *zip(ids, map(str, references), map(str, hypotheses))]
    return "".join("\t".join(row) + "\n" for row in rows)
