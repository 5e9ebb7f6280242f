"""Tai-lo text: words to syllables (initial, final, tone, neutral) and back, in diacritics (tsi̍t) or digits (tsit8).

Both notations are recognised syllable by syllable, in NFC, NFD or a mixture, in any case. What is read is written
back in full: capitals, `-`, `--`, and the lexical tone after `--`. What is not Tai-lo (Han, Zhuyin, arabic digits,
`%`, foreign words) stays as it is and is reported with its place; the tokens of `parse` always join to the text they
came from. A foreign word that happens to be spelled like a syllable (`a`, `to`, `sit`) cannot be told from one.

>>> parse_word("tai5-pak4").diacritic(), parse_word("lâng--ê").number()
('tâi-pak', 'lang5--e5')
>>> parsed = parse("Tâi-pak tsiah 98%")
>>> [token.text for token in parsed.tokens]
['Tâi-pak', ' ', 'tsiah', ' ', '98', '%']
>>> [(problem.start, problem.text, problem.reason) for problem in parsed.problems]
[(14, '98', 'arabic digits'), (16, '%', 'symbol')]

Traps: `\\w` does not match U+030D, so a `\\w+` tokenizer cuts tsi̍t in two; tone 8 never composes and neither do
m̀ m̂ m̄ n̂ n̄, so lengths are counted in syllables, not in code points.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from icefall_ext.text import tailo_spelling as spelling
from icefall_ext.text.tailo_scan import PIECES, SCANNER, between_letters, fold_width, plain_punctuation, why_unreadable


@dataclass(frozen=True)
class Syllable:
    """Citation tone 1-9; `neutral` says that it stands after `--` and is spoken without that tone."""

    initial: str
    final: str
    tone: int
    neutral: bool = False

    def __post_init__(self) -> None:
        if not spelling.base_exists(self.initial, self.final):
            raise ValueError(f"{self.initial!r} + {self.final!r} is not a Tai-lo syllable")
        if not spelling.tone_can_be_written(self.final, self.tone):
            raise ValueError(f"tone {self.tone!r} cannot be written on the final {self.final!r}")

    @property
    def base(self) -> str:
        return self.initial + self.final

    @property
    def checked(self) -> bool:
        return spelling.is_checked(self.final)

    def number(self) -> str:
        return f"{self.base}{self.tone}"

    def diacritic(self, unicode_form: str = "NFC") -> str:
        return spelling.spell_with_mark(self.base, self.tone, 0, unicode_form)

    __str__ = diacritic


@dataclass(frozen=True)
class Word:
    """Syllables, what joins each to the one before it ("", "-" or "--"), and which letters of its base are capitals.

    Bit i of `capitals[k]` is letter i of syllable k. The first join is empty but for a suffix written apart (`--ah`);
    without joins given, `--` goes before the first neutral syllable and `-` between the others.
    """

    syllables: tuple[Syllable, ...]
    joins: tuple[str, ...] = ()
    capitals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.joins:
            neutral = [s.neutral for s in self.syllables]
            inner = ("--" if now and not before else "-" for before, now in pairwise(neutral))
            object.__setattr__(self, "joins", ("--" if neutral[:1] == [True] else "", *inner))
        if not self.capitals:
            object.__setattr__(self, "capitals", (0,) * len(self.syllables))
        if not len(self.syllables) == len(self.joins) == len(self.capitals) > 0:
            raise ValueError("a word needs at least one syllable, and one join and one capital mask for each")
        if not {self.joins[0]} <= {"", "-", "--"} or not {*self.joins[1:]} <= {"-", "--"}:
            raise ValueError(f"joins are {self.joins}; they are '-' or '--', and the first may be empty")
        if "--" in self.joins and not all(s.neutral for s in self.syllables[self.joins.index("--") :]):
            raise ValueError("the syllables after '--' are neutral")

    def lower(self) -> Word:
        return Word(self.syllables, self.joins)

    def number(self) -> str:
        return "".join(
            f"{join}{spelling.capitalise(s.base, mask)}{s.tone}"
            for join, s, mask in zip(self.joins, self.syllables, self.capitals, strict=True)
        )

    def diacritic(self, unicode_form: str = "NFC") -> str:
        return "".join(
            join + spelling.spell_with_mark(s.base, s.tone, mask, unicode_form)
            for join, s, mask in zip(self.joins, self.syllables, self.capitals, strict=True)
        )

    __str__ = diacritic


class Problem(NamedTuple):
    """Something in the text at `start` (in code points) that is not plain Tai-lo.

    `read` says that the word was understood all the same and is converted; otherwise it is left as it is.
    """

    start: int
    text: str
    reason: str
    read: bool = False


WORD, SPACE, PUNCTUATION, UNKNOWN = "word", "space", "punctuation", "unknown"


class Token(NamedTuple):
    start: int
    text: str
    kind: str
    word: Word | None = None


class Parsed(NamedTuple):
    tokens: tuple[Token, ...]
    problems: tuple[Problem, ...]

    @property
    def words(self) -> list[Word]:
        return [token.word for token in self.tokens if token.word]

    @property
    def syllables(self) -> list[Syllable]:
        return [syllable for word in self.words for syllable in word.syllables]


class NotTailo(ValueError):
    """The text is not one Tai-lo word; `problem` says where and why."""

    def __init__(self, text: str, problem: Problem):
        super().__init__(f"{text!r}: {problem.text!r} at {problem.start}: {problem.reason}")
        self.problem = problem


class _Reading(NamedTuple):
    """One syllable as it was found: `syllable` is None when `reason` says why it could not be read."""

    syllable: Syllable | None = None
    capitals: int = 0
    tone_from: Literal["digit", "mark", "neither"] = "neither"
    reason: str = ""


_SYLLABLE = re.compile(r"([A-Za-z]+)([\u0300-\u036f]*)([A-Za-z]*)([0-9]*)")
_SEVERAL_MARKS = re.compile(r"[A-Za-z][A-Za-z\u0300-\u036f]*[0-9]*")
_LETTER_AFTER_DIGIT = re.compile(r"[0-9][A-Za-z]")


@lru_cache(maxsize=1 << 16)
def _read_syllable(piece: str) -> _Reading:
    decomposed = unicodedata.normalize("NFD", fold_width(piece))
    match = _SYLLABLE.fullmatch(decomposed)
    if not match:
        if _SEVERAL_MARKS.fullmatch(decomposed):
            return _Reading(reason="marks on more than one letter: a hyphen may be missing")
        if _LETTER_AFTER_DIGIT.search(decomposed):
            return _Reading(reason="a letter after a digit: a hyphen may be missing")
        return _Reading(reason=why_unreadable(piece))
    before, marks, after, digits = match.groups()
    letters = before + after
    split = spelling.split_base(letters.lower())
    if not split:
        return _Reading(reason="not a Tai-lo syllable")
    if len(marks) > 1:
        return _Reading(reason="more than one mark on a letter")
    if marks and marks not in spelling.TONE_OF_MARK:
        return _Reading(reason="a mark that is no tone of Tai-lo")
    if marks and before[-1].lower() not in "aeioumng":
        return _Reading(reason="the tone mark is on a consonant")
    if digits and digits not in "123456789":
        return _Reading(reason="the digit is no tone of Tai-lo (1-9)")
    initial, final = split
    written = spelling.TONE_OF_MARK[marks] if marks else spelling.unmarked_tone(final)
    tone = int(digits) if digits else written
    if marks and tone != written:
        return _Reading(reason="the tone mark and the digit disagree")
    if not spelling.tone_can_be_written(final, tone):
        return _Reading(reason="tone 1 on a checked final" if tone == 1 else "tone 4 without p, t, k or h at the end")
    reason = ""
    if marks and len(before) - 1 != spelling.mark_position(letters.lower()):
        reason = "the tone mark is on another letter than the rule's"
    elif not spelling.tone_is_usual(final, tone):
        reason = "an unusual tone for this final"
    capitals = sum(1 << i for i, letter in enumerate(letters) if letter.isupper())
    tone_from = "digit" if digits else "mark" if marks else "neither"
    return _Reading(Syllable(initial, final, tone), capitals, tone_from, reason)


@lru_cache(maxsize=1 << 16)
def _read_chunk(chunk: str) -> tuple[tuple[Token, ...], tuple[Problem, ...]]:
    """A stretch of hyphenated pieces: words where the pieces are syllables, unknown tokens where they are not."""
    tokens: list[Token] = []
    problems: list[Problem] = []
    pending: list[tuple[int, str, str, _Reading]] = []  # start, join, piece, reading: a word that is not complete yet
    neutral = False

    def close_word() -> None:
        if not pending:
            return
        start = pending[0][0]
        text = "".join(join + piece for _, join, piece, _ in pending)
        readings = [reading for *_, reading in pending]
        word = Word(
            tuple(reading.syllable for reading in readings),
            tuple(fold_width(join) for _, join, _, _ in pending),
            tuple(reading.capitals for reading in readings),
        )
        tokens.append(Token(start, text, WORD, word))
        if {"digit", "neither"} <= {reading.tone_from for reading in readings}:
            problems.append(Problem(start, text, "a digit may be missing: other syllables have one", read=True))
        if fold_width(text) != text:
            problems.append(Problem(start, text, "full-width or typographic letters, digits or hyphens", read=True))
        pending.clear()

    for match in PIECES.finditer(chunk):
        join, piece = match.groups()
        neutral = neutral or len(join) == 2
        reading = _read_syllable(piece)
        if reading.reason:
            problems.append(Problem(match.start(2), piece, reading.reason, read=reading.syllable is not None))
        if reading.syllable is None:
            close_word()
            tokens.append(Token(match.start(), join + piece, UNKNOWN))
            continue
        if neutral:
            reading = reading._replace(syllable=replace(reading.syllable, neutral=True))
        pending.append((match.start(), join, piece, reading))
    close_word()
    return tuple(tokens), tuple(sorted(problems))


def parse(text: str) -> Parsed:
    """Every character of `text` in exactly one token, and a problem for whatever is not plain Tai-lo."""
    tokens: list[Token] = []
    problems: list[Problem] = []
    for match in SCANNER.finditer(text):
        kind, start, found = match.lastgroup, match.start(), match.group()
        if kind == "chunk":
            read, wrong = _read_chunk(found)
            for offset, part, part_kind, word in read:
                tokens.append(Token(start + offset, part, part_kind, word))
            for offset, part, reason, was_read in wrong:
                problems.append(Problem(start + offset, part, reason, was_read))
        elif kind == "space":
            tokens.append(Token(start, found, SPACE))
        elif kind in ("punct", "ellipsis", "dash"):
            tokens.append(Token(start, found, PUNCTUATION))
            if kind == "dash" and between_letters(text, start, match.end()):
                problems.append(Problem(start, found, "a long dash between letters: `--` may be meant"))
        else:
            tokens.append(Token(start, found, UNKNOWN))
            problems.append(Problem(start, found, why_unreadable(found)))
    return Parsed(tuple(tokens), tuple(problems))


def parse_word(text: str) -> Word:
    """The one word that `text` is; NotTailo when it is more, less or something else."""
    tokens, problems = parse(text)
    unread = [problem for problem in problems if not problem.read]
    if unread:
        raise NotTailo(text, unread[0])
    if len(tokens) != 1 or tokens[0].word is None:
        raise NotTailo(text, Problem(0, text, "not one word"))
    return tokens[0].word


def to_numbers(text: str) -> str:
    """`text` with its Tai-lo words in digits; everything else, spaces and punctuation too, is left as it is."""
    return "".join(token.word.number() if token.word else token.text for token in parse(text).tokens)


def to_diacritics(text: str, unicode_form: str = "NFC") -> str:
    return "".join(token.word.diacritic(unicode_form) if token.word else token.text for token in parse(text).tokens)


class Normalized(NamedTuple):
    """`changes` counts by kind (spelling, case, punctuation, spaces); the places of `problems` are in the input."""

    text: str
    changes: Counter[str]
    problems: tuple[Problem, ...]


@lru_cache(maxsize=1 << 16)
def _normal_word(text: str, form: str, case: str) -> tuple[str, tuple[str, ...]]:
    word = parse_word(text)
    kept = word.number() if form == "number" else word.diacritic()
    written = kept if case == "keep" else kept.lower()
    changes = ("spelling",) * (kept != text) + ("case",) * (written != kept)
    return written, changes


def normalize(
    text: str,
    form: Literal["number", "diacritic"] = "number",
    *,
    case: Literal["lower", "keep"] = "lower",
    punctuation: Literal["keep", "drop"] = "keep",
) -> Normalized:
    """The one way to write `text` for training and scoring: one notation, NFC, ASCII punctuation, single spaces.

    What could not be read is kept as it is. A second pass changes nothing.
    """
    for name, value, allowed in (
        ("form", form, ("number", "diacritic")),
        ("case", case, ("lower", "keep")),
        ("punctuation", punctuation, ("keep", "drop")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it is {allowed[0]!r} or {allowed[1]!r}")
    tokens, problems = parse(text)
    changes: Counter[str] = Counter()
    parts: list[str] = []
    for i, (_, found, kind, _) in enumerate(tokens):
        if kind == WORD:
            found, changed = _normal_word(found, form, case)
            for change in changed:
                changes[change] += 1
        elif kind == PUNCTUATION:
            plain = plain_punctuation(found) if punctuation == "keep" else " "
            if plain != found:
                changes["punctuation"] += 1
            found = plain
        elif kind == SPACE and (found != " " or i in (0, len(tokens) - 1)):
            changes["spaces"] += 1
        parts.append(found)
    return Normalized(" ".join("".join(parts).split()), changes, problems)
