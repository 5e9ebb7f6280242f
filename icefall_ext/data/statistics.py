"""What a part of a corpus consists of: hours, speakers by sex, durations; characters, syllables and their tones, or of
a corpus of isolated words its bases, words and tones."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from icefall_ext.text import hanlo, tailo
from icefall_ext.text.tailo_spelling import TONES

_DURATION_SHARES = (("shortest", 0.0), ("5 %", 0.05), ("median", 0.5), ("95 %", 0.95), ("longest", 1.0))


@dataclass
class PartStatistics:
    durations: array = field(default_factory=lambda: array("f"))  # 4 bytes an utterance
    sex_of_speaker: dict[str, str] = field(default_factory=dict)
    characters: Counter[str] = field(default_factory=Counter)
    tones: Counter[int] = field(default_factory=Counter)
    words: Counter[tuple[str, str]] = field(default_factory=Counter)  # base and tone

    def add(self, supervision: dict) -> None:
        """As in the manifest after the text stage, which isolated words do not have."""
        custom = supervision.get("custom") or {}
        self.durations.append(supervision["duration"])
        self.sex_of_speaker[supervision.get("speaker") or "?"] = supervision.get("gender") or "?"
        if "base" in custom and "tone" in custom:
            self.words[str(custom["base"]), str(custom["tone"])] += 1
            return
        self.characters.update(hanlo.characters(supervision.get("text") or ""))
        for syllable in tailo.parse(custom.get("tailo") or "").syllables:
            self.tones[syllable.tone] += 1

    def rows(self, tones_of_words: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Of words, with these tones, or else of sentences."""
        ordered = sorted(self.durations) or [0.0]
        sexes = Counter(self.sex_of_speaker.values())
        return [
            ("utterances", f"{len(self.durations):,}"),
            ("hours", f"{sum(self.durations) / 3600:.2f}"),
            ("speakers F/M/unknown", f"{sexes['F']}/{sexes['M']}/{sum(sexes.values()) - sexes['F'] - sexes['M']}"),
            *(
                (f"seconds, {name}", f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.2f}")
                for name, share in _DURATION_SHARES
            ),
            ("shorter than 1 s", f"{sum(d < 1 for d in self.durations):,}"),
            ("longer than 20 s", f"{sum(d > 20 for d in self.durations):,}"),
            *(self._of_words(tones_of_words) if tones_of_words else self._of_sentences()),
        ]

    def _of_words(self, tones: Sequence[str]) -> list[tuple[str, str]]:
        total, of_tone = max(1, sum(self.words.values())), Counter[str]()
        for (_, tone), count in self.words.items():
            of_tone[tone] += count
        return [
            ("bases, distinct", f"{len({base for base, _ in self.words}):,}"),
            ("words (base and tone), distinct", f"{len(self.words):,}"),
            *((f"tone {tone}, %", f"{100 * of_tone[tone] / total:.1f}") for tone in tones),
        ]

    def _of_sentences(self) -> list[tuple[str, str]]:
        syllables = sum(self.tones.values())
        return [
            ("characters", f"{sum(self.characters.values()):,}"),
            ("characters, distinct", f"{len(self.characters):,}"),
            ("Tai-lo syllables", f"{syllables:,}"),
            *((f"tone {tone}, %", f"{100 * self.tones[tone] / max(1, syllables):.1f}") for tone in TONES),
        ]


def table(parts: dict[str, PartStatistics]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one column a part."""
    tones_of_words = sorted({tone for statistics in parts.values() for _, tone in statistics.words})
    columns = [dict(statistics.rows(tones_of_words)) for statistics in parts.values()]
    return ["", *parts], [[name, *(column[name] for column in columns)] for name in columns[0]]


def of_supervisions(items: Iterable[dict]) -> PartStatistics:
    statistics = PartStatistics()
    for item in items:
        statistics.add(item)
    return statistics
