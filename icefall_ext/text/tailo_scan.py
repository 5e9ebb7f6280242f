"""Cuts text into stretches that may be Tai-lo, spaces, punctuation, and what cannot be read, with the reason why.

A stretch that may be Tai-lo takes in every letter, digit and mark that touches it, so that a syllable with something
foreign in it (tai⁵, a Cyrillic letter, a spacing acute) is never half read. Han and Zhuyin may touch a word.
"""

from __future__ import annotations

import re
import unicodedata

# Typed for the hyphen: hyphen, non-breaking hyphen, minus, small and full-width hyphen-minus.
_HYPHEN_FORMS = "\u2010\u2011\u2212\ufe63\uff0d"
_HYPHEN = f"[\\-{_HYPHEN_FORMS}]"
_LONG_DASH = "\u2012-\u2015\u2500\u2e3a\u2e3b\ufe58"
_ANY_DASH = f"\\-{_HYPHEN_FORMS}{_LONG_DASH}"

# Radicals, iteration mark, zero, numerals; extension A; unified; compatibility; planes 2 and 3.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ZHUYIN = "\u3100-\u312f\u31a0-\u31bf"
_EASTERN = "\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
_COMBINING = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_SPACING_MARK = "\\^\u00a8\u00af\u00b4\u00b8\u02b0-\u02ff"
_LETTERS = f"(?:[^\\W_{_EASTERN}]+|[{_COMBINING}{_SPACING_MARK}]+)+"  # nothing that may fail ever follows it

_STOP, _ELLIPSIS = ".。．｡", "…⋯‥"
_PLAIN = {
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
        "-": _HYPHEN_FORMS,
    }.items()
    for form in forms + plain
}

SCANNER = re.compile(
    f"""
      (?P<chunk>   (?!˙[{_ZHUYIN}]) {_HYPHEN}{{0,2}} {_LETTERS} (?: {_HYPHEN}{{1,2}} {_LETTERS} )* )
    | (?P<space>   \\s+ )
    | (?P<dash>    {_HYPHEN}* [{_LONG_DASH}] [{_ANY_DASH}]* | {_HYPHEN}{{3,}} [{_ANY_DASH}]* )
    | (?P<ellipsis>[{_STOP}{_ELLIPSIS}]{{2,}} | [{_ELLIPSIS}] )
    | (?P<punct>   [{re.escape("".join(_PLAIN))}] )
    | (?P<han>     [{_HAN}]+ )
    | (?P<zhuyin>  (?: ˙? [{_ZHUYIN}] [\u02b0-\u02ff\u0307\u030d]* )+ )
    | (?P<letters> (?: (?! [{_HAN}{_ZHUYIN}] ) [{_EASTERN}] )+ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
PIECES = re.compile(f"({_HYPHEN}*)([^\\-{_HYPHEN_FORMS}]+)")  # of a chunk: join, piece

# One code point for one, so that places in the folded text are places in the text.
_FOLD = {0xFF01 + i: 0x21 + i for i in range(94)} | {ord(form): ord("-") for form in _HYPHEN_FORMS}
_touches_letter = re.compile(_LETTERS).match


def fold_width(piece: str) -> str:
    """Full-width letters and digits, and the forms of the hyphen, as ASCII."""
    return piece if piece.isascii() else piece.translate(_FOLD)


def plain_punctuation(mark: str) -> str:
    """ASCII where there is such a mark; `...` for any run of stops, one em dash for any long dash."""
    return _PLAIN.get(mark) or ("..." if mark[0] in _STOP + _ELLIPSIS else "—")


def between_letters(text: str, start: int, end: int) -> bool:
    return bool(start > 0 and _touches_letter(text, start - 1) and _touches_letter(text, end))


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
