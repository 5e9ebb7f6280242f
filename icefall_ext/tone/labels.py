"""What isolated words are called: bases, tones, genders and speakers of cuts as numbers, and words as CTC tokens.

A word is spelled with the letters of its base and then its tone: `t o n g 1`; several syllables one after the other.
Token 0 is the blank, then come letters, then tones. A hypothesis is read back into a base and a tone the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icefall_ext.errors import UserError
from icefall_ext.files import read_jsonl, write_text
from icefall_ext.tone.pairs import UNKNOWN, Items

GENDERS = ("F", "M")  # their numbers are 0 and 1
MISSING = "?"
FILE = "labels.json"


class Word(NamedTuple):
    base: str
    tone: str

    def __str__(self) -> str:
        """Syllable by syllable: `tong1`, `hmoo-b daw-b`."""
        return " ".join(base + (tone if tone.isdigit() else f"-{tone}") for base, tone in self.syllables())

    def syllables(self) -> list[tuple[str, str]]:
        bases, tones = self.base.split(), self.tone.split()
        return list(zip(bases, tones)) if len(bases) == len(tones) else [(self.base, self.tone)]


@dataclass(frozen=True)
class Labels:
    letters: tuple[str, ...]
    tones: tuple[str, ...]  # of syllables
    classes: tuple[str, ...]  # tones of whole words, which is what the classifier names

    @staticmethod
    def of(words: Iterable[Word]) -> Labels:
        letters, tones, classes = set(), set(), set()
        for word in words:
            classes.add(word.tone)
            for base, tone in word.syllables():
                letters.update(base)
                tones.add(tone)
        return Labels(*(tuple(sorted(values)) for values in (letters, tones, classes)))

    @property
    def vocab_size(self) -> int:
        return 1 + len(self.letters) + len(self.tones)

    def encode(self, word: Word) -> list[int] | None:
        """None for a word with a letter or a tone that is not known."""
        if word.tone not in self.classes:
            return None
        tokens = []
        try:
            for base, tone in word.syllables():
                tokens += [1 + self.letters.index(letter) for letter in base]
                tokens.append(1 + len(self.letters) + self.tones.index(tone))
        except ValueError:
            return None
        return tokens

    def decode(self, tokens: Sequence[int]) -> Word:
        """A tone without letters before it, or letters without a tone after them, are a syllable with a ? in it."""
        syllables, base = [], ""
        for token in tokens:
            if token <= len(self.letters):
                base += self.letters[token - 1]
            else:
                syllables.append((base or MISSING, self.tones[token - 1 - len(self.letters)]))
                base = ""
        if base:
            syllables.append((base, MISSING))
        return Word(" ".join(base for base, _ in syllables), " ".join(tone for _, tone in syllables))

    def save(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @staticmethod
    def load(folder: Path) -> Labels:
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Labels(*(tuple(content[name]) for name in ("letters", "tones", "classes")))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; name a folder that train_tone made") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not the letters and tones of a training; train it anew") from None


def word_of(cut: dict[str, Any], path: Path) -> Word:
    """Of a cut as in a manifest; `path` is for the error."""
    try:
        custom = cut["supervisions"][0]["custom"]
        return Word(str(custom["base"]), str(custom["tone"]))
    except (KeyError, IndexError, TypeError):
        raise UserError(f"{path}: {cut.get('id')} has no base and tone; import isolated words with --corpus words or "
                        "tone_perfect") from None


@dataclass(frozen=True)
class Vocabulary:
    """Names behind the numbers of `Items`; those of several sets are the same when they are numbered together."""

    bases: tuple[str, ...]
    tones: tuple[str, ...]
    speakers: tuple[str, ...]

    @staticmethod
    def of(paths: Sequence[Path]) -> Vocabulary:
        bases, tones, speakers = set(), set(), set()
        for path in paths:
            for cut in read_jsonl(path):
                word = word_of(cut, path)
                bases.add(word.base)
                tones.add(word.tone)
                speakers.add(speaker_of(cut))
        return Vocabulary(tuple(sorted(bases)), tuple(sorted(tones)), tuple(sorted(speakers)))

    def items(self, path: Path) -> tuple[list[str], Items]:
        """Ids and labels of the cuts of a file that this was made of, in its order."""
        base, tone, speaker = ({name: n for n, name in enumerate(names)} for names in
                               (self.bases, self.tones, self.speakers))
        ids, rows = [], []
        for cut in read_jsonl(path):
            word, gender = word_of(cut, path), cut["supervisions"][0].get("gender")
            ids.append(cut["id"])
            rows.append((base[word.base], tone[word.tone], GENDERS.index(gender) if gender in GENDERS else UNKNOWN,
                         speaker[speaker_of(cut)]))
        columns = zip(*rows) if rows else ((),) * 4
        return ids, Items(*(np.array(column, dtype=np.int64) for column in columns))


def speaker_of(cut: dict[str, Any]) -> str:
    return str(cut["supervisions"][0].get("speaker") or "")
