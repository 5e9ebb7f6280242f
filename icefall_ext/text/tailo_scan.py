"""Cuts text into stretches that may be Tai-lo, spaces, punctuation, and what cannot be read, with the reason for the last.

A stretch that may be Tai-lo takes in every letter, digit and mark that touches it, so that a syllable with something foreign
in it (`tai⁵`, a Cyrillic а, a spacing acute) is never half read. Han and Zhuyin may touch a word without spoiling it.
"""

from __future__ import annotations

import re
import unicodedata

# Typed for the hyphen: hyphen, non-breaking hyphen, minus, small and full-width hyphen-minus.
_HYPHEN_FORMS = "\u2010\u2011\u2212\ufe63\uff0d"
_HYPHEN = f"[\\-{_HYPHEN_FORMS}]"
_LONG_DASH = "\u2012-\u2015\u2500\u2e3a\u2e3b\ufe58"
LONG_DASH = "\u2014"

# Radicals, iteration mark, zero, numerals; extension A; unified; compatibility; planes 2 and 3.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ZHUYIN = "\u3100-\u312f\u31a0-\u31bf"
_EASTERN = "\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
_COMBINING = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_SPACING_MARK = "\\^\u00a8\u00af\u00b4\u00b8\u02b0-\u02ff"
_LETTER = f"(?:[^\\W_{_EASTERN}]|[{_COMBINING}{_SPACING_MARK}])"

_STOP, _ELLIPSIS = ".。．｡", "…⋯‥"
PUNCTUATION = {
    form: plain
    for plain, forms in {
        '"': "“”„‟«»「」『』｢｣《》〈〉〝〞〟＂",
        "'": "`‘’‚‛‹›＇",
        ".": _STOP,
        ",": "，、､﹐",
        ";": "；﹔",
        ":": "：﹕",
        "!": "！﹗¡",
        "?": "？﹖¿",
        "(": "（﹙",
        ")": "）﹚",
        "[": "［【〔〖",
        "]": "］】〕〗",
        "{": "｛",
        "}": "｝",
        "~": "～〜",
        "·": "•‧・･",
        "...": _ELLIPSIS,
        "-": _HYPHEN_FORMS,
    }.items()
    for form in forms + plain
}

SCANNER = re.compile(
    f"""
      (?P<zhuyin>  (?:˙?[{_ZHUYIN}][\u02b0-\u02ff\u0307\u030d]*)+ )
    | (?P<dash>    {_HYPHEN}*[{_LONG_DASH}](?:{_HYPHEN}|[{_LONG_DASH}])* | {_HYPHEN}{{3,}}(?:{_HYPHEN}|[{_LONG_DASH}])* )
    | (?P<chunk>   {_HYPHEN}{{0,2}}{_LETTER}+(?:{_HYPHEN}{{1,2}}{_LETTER}+)* )
    | (?P<space>   \\s+ )
    | (?P<ellipsis>[{_STOP}{_ELLIPSIS}]{{2,}} | [{_ELLIPSIS}] )
    | (?P<punct>   [{re.escape("".join(c for c in PUNCTUATION if len(c) == 1))}] )
    | (?P<han>     [{_HAN}]+ )
    | (?P<letters> (?:(?![{_HAN}{_ZHUYIN}])[{_EASTERN}])+ )
    | (?P<other>   . )
    """.replace("#", "\\#"),
    re.VERBOSE | re.DOTALL,
)
PIECES = re.compile(f"({_HYPHEN}*)([^\\-{_HYPHEN_FORMS}]+)")

# One code point for one, so that places in the folded text are places in the text.
_FOLD = {0xFF01 + i: 0x21 + i for i in range(94)} | {ord(form): ord("-") for form in _HYPHEN_FORMS}
_touches_letter = re.compile(_LETTER).match


def fold_width(piece: str) -> str:
    """Full-width letters and digits, and the forms of the hyphen, as ASCII."""
    return piece if piece.isascii() else piece.translate(_FOLD)


def between_letters(text: str, start: int, end: int) -> bool:
    return bool(start and _touches_letter(text, start - 1) and _touches_letter(text, end))


def why_unreadable(text: str) -> str:
    """The reason, by the kind of the characters: short fixed phrases, to be counted."""
    first = text[0]
    if re.match(f"[{_HAN}]", first):
        return "Han character"
    if re.match(f"[{_ZHUYIN}˙]", first):
        return "Zhuyin"
    categories = {unicodedata.category(c) for c in text}
    if categories == {"Nd"}:
        return "arabic digits"
    if categories <= {"Co"}:
        return "private-use character"
    if categories <= {"Cc", "Cf", "Cs", "Cn"}:
        return "invisible character"
    if categories <= {"Po", "Sm", "Sc", "Sk", "So", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf"}:
        return "symbol"
    return "a letter or mark that Tai-lo does not use"
