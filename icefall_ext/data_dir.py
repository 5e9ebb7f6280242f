"""Where the stages put their files below a data folder: icefall's names, in one folder for each stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDir:
    """`prefix` begins the names of the files; it is the corpus's name."""

    folder: Path
    prefix: str

    def recordings(self, part: str) -> Path:
        return self._jsonl("manifests", "recordings", part)

    def supervisions(self, part: str) -> Path:
        """With the text as the corpus has it."""
        return self._jsonl("manifests", "supervisions", part)

    def prepared_supervisions(self, part: str) -> Path:
        """With the text in canonical form, without the utterances that the text stage rejected."""
        return self._jsonl("text", "supervisions", part)

    def text(self, part: str, script: str) -> Path:
        """One sentence a line."""
        return self.folder / "text" / f"{part}.{script}"

    def cuts(self, part: str, kind: str = "wav") -> Path:
        """`wav`: with audio; `fbank`: with features."""
        return self._jsonl(kind, "cuts", part)

    def audit(self, stage: str, part: str) -> Path:
        return self.folder / "audit" / f"{self.prefix}_{stage}_{part}.tsv"

    def _jsonl(self, folder: str, what: str, part: str) -> Path:
        return self.folder / folder / f"{self.prefix}_{what}_{part}.jsonl.gz"
