"""Han-Lo text (Han characters and romanised words mixed) in one canonical form, and the units it is scored in.

    >>> normalize("我beh 去　Ｔâi-pak，著--無？")
    '我 beh 去 tâi-pak 著無'

Two texts that a Hokkien reader takes for the same come out as the same string:
- NFC, never NFKC (that would turn ⁿ into n). Private-use characters of Ministry fonts, full-width forms, Kangxi
  radicals and graphic variants (臺 台) become the plain character; invisible and control characters go.
- No space between Han characters, one between a Han character and a romanised word or number, one between words.
- Hyphens stay where they join romanised syllables, and `--` before a syllable (it neutralises the tone). Others go.
- Punctuation that nobody speaks is dropped. What may be spoken or may be a letter is not: % & @ # / + =, the point in
  3.5, the dot of o·. It stays, and `unknown_characters` reports it with emoji, Zhuyin, Kana and unmapped private-use.

Normalising twice changes nothing more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import NamedTuple

PRIVATE_USE = {
    0xE35C: 0x2B75B,
    0xE701: 0x2A736,
    0xE703: 0x2B7BC,
    0xE705: 0x2C9B0,
    0xF5E7: 0x308FB,
    0xF5E9: 0x2B74F,
    0xF5EA: 0x2B77A,
    0xF5EE: 0x2B77B,
    0xF5EF: 0x2B7C2,
}

# Pairs "variant, standard form". Only shapes of one and the same character belong here, never respellings of a word.
_VARIANT_PAIRS = """
    臺台 着著 説說 温溫 脱脫 悦悅 税稅 鋭銳 閲閱 内內 没沒 别別 户戶 戸戶 强強 黄黃 横橫 産產 緑綠 録錄 絶絕
    毎每 徳德 歩步 値值 眞真 敎教 靑青 淸清 爲為 僞偽 衆眾 羣群 峯峰 牀床 綫線 啓啟 裏裡 麪麵
"""
VARIANTS = {ord(pair[0]): pair[1] for pair in _VARIANT_PAIRS.split()}

TONE_MARKS = "\u0300\u0301\u0302\u0304\u0306\u030b\u030c\u030d\u0358"  # U+0306 is tone 9 in POJ, U+0358 the dot of o͘

# Bodies of regular-expression classes. Han reaches to the end of plane 3; 々 and 〇 are written like Han characters.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fffd\U00030000-\U0003fffd"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1effⁿᴺ"
_MARK = "\u0300-\u036f"
_STAYS = "-%‰‱&@#*/\\§¶†‡"  # punctuation to Unicode; hyphens have rules of their own, the others are read aloud
_SILENT = "~⋯∼─━⸺⸻・" + "".join(
    chr(code)
    for first, last in ((0x21, 0x7E), (0xA1, 0xBF), (0x2012, 0x205E), (0x3001, 0x3030))
    for code in range(first, last + 1)
    if unicodedata.category(chr(code)).startswith("P") and chr(code) not in _STAYS
)

_MEANT = r"(?<=[0-9])[.,:](?=[0-9])|(?<=[oóòôǒōőŏOÓÒÔǑŌŐŎ\u030d])[·‧]"  # numbers, and o· typed for o͘
_DROPPED = re.compile(rf"(?:(?!{_MEANT})[{re.escape(_SILENT)}])+")
_APOSTROPHE = re.compile(rf"(?<=[{_LATIN}{_MARK}])['’ʼ](?=[{_LATIN}])")
_HYPHENS = re.compile("-+")
_IS_WORD_START = re.compile(rf"[{_LATIN}0-9]").match
_IS_WORD_END = re.compile(rf"[{_LATIN}{_MARK}0-9]").match
_IS_HAN = re.compile(rf"[{_HAN}]").match
_SPACE_TO_DROP = re.compile(rf"(?<=[{_HAN}]) +(?=[{_HAN}])|(?<= ) +|^ +| +$")
_SPACE_TO_ADD = re.compile(rf"(?<=[{_HAN}])(?=(?:--)?[{_LATIN}0-9])|(?<=[{_LATIN}{_MARK}0-9])(?=[{_HAN}])")

_SYLLABLE = rf"(?:[0-9]+(?:[.,:][0-9]+)+|[{_LATIN}0-9][{_LATIN}{_MARK}0-9]*)"  # 3.5 is one
_TOKEN = re.compile(rf"(?:--)?{_SYLLABLE}(?:--?{_SYLLABLE})*|\S[{_MARK}]*")
_SYLLABLES = re.compile(rf"{_SYLLABLE}|[{_HAN}]")


def _is_romanised(letter: str) -> bool:
    base, *marks = unicodedata.normalize("NFD", letter)
    return base.isascii() and base.isalpha() and set(marks) <= set(TONE_MARKS)


_LETTERS = "".join(
    chr(code)
    for first, last in ((0x41, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF))
    for code in range(first, last + 1)
    if _is_romanised(chr(code))
)


def _known(also: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[{_LETTERS}][{TONE_MARKS}]*|[ⁿᴺ0-9 {_HAN}{also}-])+")


_KNOWN = {"drop": _known(""), "keep": _known(re.escape(_SILENT))}


class Normalized(NamedTuple):
    text: str
    changes: Counter[str]  # how many characters or places of each kind; empty when nothing changed


class Unknown(NamedTuple):
    """A character outside the alphabet."""

    position: int
    character: str

    def __str__(self) -> str:
        name = unicodedata.name(self.character, "no name")
        return f"U+{ord(self.character):04X} ({name}) at {self.position}"


def _plain(character: str) -> tuple[str, str] | None:
    """What a single character is replaced by, and what kind of change that is; None if it stays."""
    code, category = ord(character), unicodedata.category(character)
    if code in PRIVATE_USE:
        return "private-use character", chr(PRIVATE_USE[code])
    if character.isspace():
        return None if character == " " else ("space", " ")
    if category == "Cc":
        return "control character", ""
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or code == 0x034F:
        return "invisible character", ""
    if character in "\u2010\u2011":
        return "hyphen", "-"
    form, _, plain = unicodedata.decomposition(character).partition(" ")
    if form in ("<wide>", "<narrow>", "<small>", "<vertical>"):
        return "full-width form", "".join(chr(int(part, 16)) for part in plain.split())
    if 0x2F00 <= code <= 0x2FD5:
        return "Kangxi radical", chr(int(plain, 16))
    return None


class _PlainTable(dict[int, str]):
    """For str.translate; a character is looked up in the Unicode tables once."""

    def __missing__(self, code: int) -> str:
        change = _plain(chr(code))
        self[code] = change[1] if change else chr(code)
        return self[code]


_PLAIN = _PlainTable()


def normalize(text: str, *, case: str = "lower", punctuation: str = "drop") -> str:
    """The canonical form. `case` is lower or keep, `punctuation` is drop or keep (and then hyphens are left alone)."""
    return normalize_counting(text, case=case, punctuation=punctuation).text


def normalize_counting(text: str, *, case: str = "lower", punctuation: str = "drop") -> Normalized:
    """The canonical form, and how much of each kind of change led to it."""
    if case not in ("lower", "keep") or punctuation not in ("drop", "keep"):
        raise ValueError(f"case={case!r}, punctuation={punctuation!r}: lower or keep, drop or keep")
    changes: Counter[str] = Counter()
    plain = text.translate(_PLAIN)
    if plain != text:
        changes.update(change[0] for change in map(_plain, text) if change)
    if case == "lower":
        lowered = plain.lower().replace("ᴺ", "ⁿ")
        if lowered != plain:
            changes["upper case"] = sum(c != c.lower() or c == "ᴺ" for c in plain)
        plain = lowered
    composed = unicodedata.normalize("NFC", plain)  # after lower(): J̌ has no composed form, ǰ has
    if composed != plain:
        changes["Unicode form"] = sum(not unicodedata.is_normalized("NFC", unit) for unit in _clusters(plain)) or 1
    text = composed.translate(VARIANTS)
    if text != composed:
        changes["variant character"] = sum(ord(c) in VARIANTS for c in composed)
    if punctuation == "drop":
        text = _without_punctuation(text, changes)
    text, removed = _SPACE_TO_DROP.subn("", text)
    text, added = _SPACE_TO_ADD.subn(" ", text)
    if removed + added:
        changes["spacing"] = removed + added
    return Normalized(text, changes)


def _without_punctuation(text: str, changes: Counter[str]) -> str:
    dropped = 0

    def gap(match: re.Match[str]) -> str:
        """A space where the words left and right would otherwise run together."""
        nonlocal dropped
        dropped += len(match[0])
        before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
        if before in ("", " ") or after in ("", " ") or (_IS_HAN(before) and _IS_HAN(after)):
            return ""
        return " "

    def hyphens(match: re.Match[str]) -> str:
        after_word = match.start() > 0 and _IS_WORD_END(match.string, match.start() - 1)
        before_word = _IS_WORD_START(match.string, match.end())
        keep = before_word and (match[0] == "--" or (match[0] == "-" and after_word))
        return match[0] if keep else gap(match)

    text, apostrophes = _APOSTROPHE.subn("", text)
    text = _DROPPED.sub(gap, text)
    if "-" in text:
        text = _HYPHENS.sub(hyphens, text)
    if dropped + apostrophes:
        changes["punctuation"] = dropped + apostrophes
    return text


def unknown_characters(text: str, *, punctuation: str = "drop") -> list[Unknown]:
    """Characters of a normalised text that are neither Han, romanisation with Tai-lo or POJ tone marks, nor digits."""
    known, found, position = _KNOWN[punctuation], [], 0
    while position < len(text):
        match = known.match(text, position)
        if match:
            position = match.end()
        else:
            found.append(Unknown(position, text[position]))
            position += 1
    return found


def tokens(text: str) -> list[str]:
    """Units of the mixed error rate: one Han character or one romanised word (or number) each."""
    return _TOKEN.findall(text)


def characters(text: str) -> list[str]:
    """Units of the strict character error rate: a letter with its tone marks is one (m̄ as well as ḿ).

    Spaces and hyphens are not counted: they are how a word is written, not what was said.
    """
    return _clusters("".join(text.split()).replace("-", ""))


def count_syllables(text: str) -> int:
    """A Han character is a syllable, and so is each part of a romanised word between hyphens (and a number)."""
    return len(_SYLLABLES.findall(text))


def _clusters(text: str) -> list[str]:
    """A character and the combining marks after it."""
    clusters: list[str] = []
    for character in text:
        if clusters and unicodedata.category(character)[0] == "M":
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters
