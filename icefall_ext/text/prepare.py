"""One utterance's Han-Lo and Tai-lo text in the form a model is trained on, and what had to be done for it.

Han-Lo decides whether the utterance stays; unusable Tai-lo only takes it out of the training on Tai-lo, because the
sentence itself may be sound (stray Han or digits in the romanisation are common).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from icefall_ext.audit import Audit
from icefall_ext.text import hanlo, tailo
from icefall_ext.text.tailo_poj import from_poj

SCRIPTS = ("hanlo", "tailo")

EMPTY = "no text left after normalisation"
UNKNOWN = "characters outside the alphabet"
NOT_TAILO = "romanisation is not Tai-lo"
MENDED_TAILO = "romanisation read in spite of its spelling"
FROM_POJ = "romanisation converted from POJ"
DISAGREE = "the two romanisations disagree"
LENGTHS = "text and romanisation differ in syllables"


@dataclass
class TextPreparer:
    tailo_form: str = "number"  # or diacritic
    keep_unknown: bool = False
    changes: Counter[str] = field(default_factory=Counter)  # of the Han-Lo normalisation, over all utterances

    def prepare(self, supervision: dict, audit: Audit) -> dict | None:
        """The supervision with both texts in canonical form; None when it was rejected (and listed)."""
        raw = supervision.get("text") or ""
        text, changes = hanlo.normalize_counting(raw)
        self.changes.update(changes)
        name = supervision["id"]
        if not text:
            audit.rejected(EMPTY, name, field="text", value=raw)
            return None
        unknown = hanlo.unknown_characters(text)
        if unknown:
            note = ", ".join(map(str, unknown[:5]))
            if not self.keep_unknown:
                audit.rejected(UNKNOWN, name, field="text", value=text, note=note)
                return None
            audit.repaired(UNKNOWN, name, field="text", value=text, note=f"kept: {note}")
        custom = dict(supervision.get("custom") or {})
        romanised = self._romanise(custom, name, audit)
        custom.pop("tailo", None)
        if romanised:
            custom["tailo"] = romanised
            expected, got = hanlo.count_syllables(text), len(tailo.parse(romanised).syllables)
            if expected != got:
                audit.repaired(
                    LENGTHS, name, field="tailo", value=romanised, note=f"kept: {expected} in {text}, {got} here"
                )
        return {**supervision, "text": text, "custom": custom}

    def _romanise(self, custom: dict, name: str, audit: Audit) -> str:
        """The first of the romanisations that can be read in full, lower-cased and without punctuation; or nothing.

        POJ comes last: `eng` and `ing`, `oonn` and `onn` are written alike in it.
        """
        readable: dict[str, tailo.Parsed] = {}
        complaints = []
        for key in ("tailo", "tailo_number"):
            written = custom.get(key) or ""
            parsed = tailo.parse(written)
            unread = [problem for problem in parsed.problems if not problem.read]
            if unread:
                complaints.append((key, written, f"{unread[0].text!r} at {unread[0].start}: {unread[0].reason}"))
            elif parsed.words:
                readable[key] = parsed
        if not readable and custom.get("poj"):
            converted, problems = from_poj(custom["poj"])
            parsed = tailo.parse(converted)
            if parsed.words and not problems and all(problem.read for problem in parsed.problems):
                readable["poj"] = parsed
                audit.repaired(FROM_POJ, name, field="poj", value=custom["poj"], note=f"read as {converted}")
        if not readable:
            for key, written, note in complaints[:1]:
                audit.repaired(NOT_TAILO, name, field=key, value=written, note=f"kept without Tai-lo; {note}")
            return ""
        for key, written, note in complaints:
            audit.repaired(NOT_TAILO, name, field=key, value=written, note=f"the other one is used; {note}")
        key, parsed = next(iter(readable.items()))
        if parsed.problems:
            note = f"{parsed.problems[0].text!r}: {parsed.problems[0].reason}"
            audit.repaired(MENDED_TAILO, name, field=key, value=custom[key], note=note)
        if len(readable) == 2 and len({tuple(other.syllables) for other in readable.values()}) == 2:
            audit.repaired(
                DISAGREE, name, field=key, value=custom["tailo"], note=f"kept, against {custom['tailo_number']}"
            )
        words = [word.lower() for word in parsed.words]
        return " ".join(word.number() if self.tailo_form == "number" else word.diacritic() for word in words)
