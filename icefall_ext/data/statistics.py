"""What a part of a corpus consists of: hours, speakers by sex, durations, characters, syllables and their tones."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
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

    def add(self, supervision: dict) -> None:
        """As in the manifest after the text stage."""
        self.durations.append(supervision["duration"])
        self.sex_of_speaker[supervision.get("speaker") or "?"] = supervision.get("gender") or "?"
        self.characters.update(hanlo.characters(supervision.get("text") or ""))
        for syllable in tailo.parse((supervision.get("custom") or {}).get("tailo") or "").syllables:
            self.tones[syllable.tone] += 1

    def rows(self) -> list[tuple[str, str]]:
        ordered = sorted(self.durations) or [0.0]
        sexes = Counter(self.sex_of_speaker.values())
        syllables = sum(self.tones.values())
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
            ("characters", f"{sum(self.characters.values()):,}"),
            ("characters, distinct", f"{len(self.characters):,}"),
            ("Tai-lo syllables", f"{syllables:,}"),
            *((f"tone {tone}, %", f"{100 * self.tones[tone] / max(1, syllables):.1f}") for tone in TONES),
        ]


def table(parts: dict[str, PartStatistics]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one column a part."""
    columns = [dict(statistics.rows()) for statistics in parts.values()]
    return ["", *parts], [[name, *(column[name] for column in columns)] for name in columns[0]]


def of_supervisions(items: Iterable[dict]) -> PartStatistics:
    statistics = PartStatistics()
    for item in items:
        statistics.add(item)
    return statistics
