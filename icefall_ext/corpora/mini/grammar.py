"""A small Hokkien grammar: which sentences there are, where a tone group ends, and how a sentence is written.

A rule is a name and, indented, its alternatives. `{name}` is another rule or a group of the lexicon,
`{count:animal}` a number, the noun's own classifier and a noun, `{this:animal}` the same with 這 or 彼,
`{nickname}` a name whose tone nothing but the voice tells. `#` ends a tone group, `,` ends one with a pause. Other
words stand in the lexicon's function words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.lexicon import GROUPS, NICKNAME_PREFIX, NICKNAME_TONES, NICKNAMES, Entry, nickname
from icefall_ext.text.tailo import Word

_RULES = """
sentence
    {statement} .
    {statement} , {more} .
    {statement} , {more} .
    {statement} , {more} .
    {pronoun} 若 {act} , {pronoun} 就 {act} # .
    {naming} .
    {naming} .
    {naming} .
    {question} ?
statement
    {who} {time} # beh {act} #
    {who} {time} # {act} #
    {who} {act} #
    {who} beh {act} #
    {who} 愛 {act} #
    {who} teh {pastime} #
    {who} 當咧 {pastime} #
    {who} 對 {where} # 來 #
    {who} {time} # 到 {where} #
    {who} {time} # 攏 佇 {where} # {pastime} #
    {time} # {who} 才 beh {act} #
    {where} # 有 {thing_or_animal} #
    {time} # {weather} --ah #
    {who} 看著 --ah #
    {who} 已經 轉去 --ah #
    {pronoun} 起來 --ah #
    {person} # 入來 --ah #
    {pronoun} ê {cloth} # kap {pronoun} ê # 共款 #
    {where} # 無 {food} #
    {who} 毋 出去 #
    {this:thing} # {degree} {adjective} #
    {this:animal} # 較 {adjective} #
    {this:cloth} # 是 {colour} --ê #
    {this:plant} # {degree} 媠 #
    {this:food} # {degree} {taste} #
    {this:drink} # {tripled_taste} #
    {this:plant} # {tripled} #
    {tripled_taste} ê {food} # {who} 足 愛 食 #
    {tripled} ê {cloth} # {who} 無愛 {wear} #
    {colour} --ê # 較 {adjective} #
    {city} ê {food} # {tripled_taste} #
    {where} ê {animal} # {degree} {quantity} #
who
    {pronoun}
    {pronoun}
    {pronoun}
    {pronoun} ê {person} #
    {person} #
    {surname} {title} #
    {surname} 先生 #
    {surname} 小姐 #
    {nickname} #
where
    {place}
    {city}
    {place}
act
    去 {where}
    去 {where} # {trade} {count:thing}
    佇 {where} # {pastime}
    {trade} {count:thing}
    {trade} {count:plant}
    {feed} {count:animal}
    {eat} {count:food}
    {sip} {count:drink}
    {wear} {count:cloth}
    kap {nickname} # {pastime}
    kap {nickname} # 去 {where}
    予 {nickname} # {count:thing}
    共 {nickname} # 借 {count:thing}
    去 揣 {nickname}
    等 {nickname}
thing_or_animal
    {count:thing}
    {count:animal}
    {count:plant}
    {count:drink}
degree
    真
    足
    誠
    上
    較
more
    毋過 {who} 毋 {act} #
    毋過 {who} 袂 {pastime} #
    所以 {who} {act} #
    {who} 嘛 {act} #
    才 閣 {act} #
    {who} 就 {act} #
    因為 {where} # 有 {thing_or_animal} #
    因為 {this:food} # {degree} {taste} #
    毋過 {nickname} # 無愛 {pastime} #
    閣 kap {nickname} # 去 {where} #
naming
    {pronoun} ê 名 # 叫做 {nickname} #
    {this:person} # 叫做 {nickname} #
    {pronoun} ê {person} # 叫做 {nickname} #
    {person} # 就 是 {nickname} #
    {pronoun} 毋是 {nickname} , 是 {nickname} #
    {pronoun} 熟似 {nickname} , 嘛 熟似 {nickname} #
    {pronoun} 捌 {nickname} , 毋捌 {nickname} #
    {nickname} # kap {nickname} # 攏 是 {pronoun} ê 同學 #
    {pronoun} 講 {nickname} # 較 懸 , {nickname} # 較 矮 #
    {time} # {nickname} # 問 {nickname} #
    {pronoun} 佮意 {nickname} , 無愛 {nickname} #
    {pronoun} 叫 {nickname} # 去 {where} #
    {nickname} # 徛 佇 {city} , {nickname} # 徛 佇 {city} #
    {time} # {pronoun} 去 {where} # 送 {nickname} #
question
    {pronoun} {time} # beh {act} --bô #
    {pronoun} 敢 beh {act} #
    {pronoun} 捌 去 {city} --bô #
    {pronoun} 捌 {nickname} --bô #
    {person} # 敢 有 {count:thing} #
    {this:food} # 敢 會 {taste} #
"""


@dataclass(frozen=True)
class Group:
    """A tone group: its last syllable that is not neutral keeps the citation tone."""

    words: tuple[Entry, ...]
    slot: int | None = None  # place of the nickname among `words`; it is the last but for a neutral particle
    pause: bool = False  # a comma follows


@dataclass(frozen=True)
class Sentence:
    groups: tuple[Group, ...]
    end: str  # "." or "?"

    @property
    def syllable_count(self) -> int:
        return sum(len(entry.word.syllables) for group in self.groups for entry in group.words)

    def hanlo(self) -> str:
        """Han without spaces; Latin words stand apart from it and from one another, but for `--` and punctuation."""
        text, latin = "", False
        for group in self.groups:
            for entry in group.words:
                apart = latin or entry.is_latin
                text += " " * bool(text and apart and not entry.han.startswith("--")) + entry.han
                latin = entry.is_latin
            if group.pause:
                text, latin = text + "，", False
        text = text.replace("， ", "，")
        return text + {".": "。", "?": "？"}[self.end]

    def romanised(self, spell: Callable[[Word], str]) -> str:
        """Words apart, `--` close to what it follows, the first letter a capital."""
        text = ""
        for group in self.groups:
            for entry in group.words:
                written = spell(entry.word)
                text += " " * bool(text and not written.startswith("--")) + written
            text += "," * group.pause
        return text[0].upper() + text[1:] + self.end


@lru_cache(maxsize=1)
def _rules() -> dict[str, list[list[str]]]:
    rules: dict[str, list[list[str]]] = {}
    name = ""
    for line in _RULES.strip().splitlines():
        if line.startswith(" "):
            rules[name].append(line.split())
        else:
            name = line
            rules[name] = []
    return rules


@lru_cache(maxsize=1)
def _function_words() -> dict[str, Entry]:
    known = {entry.han: entry for entry in GROUPS["function"]}
    for name in ("classifier", "adjective", "trade", "eat", "person"):
        known.update((entry.han, entry) for entry in GROUPS[name])
    return known


def make_sentence(dice: Dice) -> Sentence:
    groups: list[Group] = []
    words: list[Entry] = []
    slot: int | None = None
    end = "."
    for token in _expand("sentence", dice):
        if isinstance(token, Entry):
            if token.han.startswith(NICKNAME_PREFIX):
                slot = len(words)
            words.append(token)
        elif token in "#," and words:
            groups.append(Group(tuple(words), slot, pause=token == ","))
            words, slot = [], None
        elif token == ",":
            groups[-1] = Group(groups[-1].words, groups[-1].slot, pause=True)
        elif token in ".?":
            end = token
    return Sentence(tuple(groups), end)


def _expand(symbol: str, dice: Dice) -> list[Entry | str]:
    tokens: list[Entry | str] = []
    for token in dice.pick(_rules()[symbol]):
        if token in ("#", ",", ".", "?"):
            tokens.append(token)
        elif not token.startswith("{"):
            tokens.append(_function_words()[token])
        else:
            tokens += _fill(token[1:-1], dice)
    return tokens


def _fill(slot: str, dice: Dice) -> list[Entry | str]:
    kind, _, group = slot.rpartition(":")
    if kind:
        noun = dice.pick(GROUPS[group])
        classifier = _function_words()[noun.classifier or "个"]
        before = dice.pick(GROUPS["number"]) if kind == "count" else _function_words()[dice.pick(("這", "彼"))]
        return [before, classifier, noun]
    if slot == "nickname":
        return [nickname(dice.pick(NICKNAMES)[0], dice.pick(NICKNAME_TONES))]
    return _expand(slot, dice) if slot in _rules() else [dice.pick(GROUPS[slot])]
