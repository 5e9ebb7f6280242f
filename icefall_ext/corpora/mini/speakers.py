"""Who speaks: the physics of a voice, habits of speech, and what TAT-MOE writes down about a person."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.synth import Voice

INSTITUTIONS = ("IU", "KH", "KK", "KN", "SO", "TA", "TH", "TI", "TS")
_NORTH = ("台北市大同區", "新北市三重區", "基隆市中正區", "宜蘭縣羅東鎮", "新竹市香山區", "台中市清水區")
_SOUTH = ("高雄市鳳山區", "台南市東區", "台南市安平區", "嘉義縣民雄鄉", "屏東縣潮州鎮", "彰化縣鹿港鎮", "雲林縣虎尾鎮")
_EDUCATION = ("國小", "國中", "高中", "大學", "研究所")
_NORTHERN_SHARE = 0.2


@dataclass(frozen=True)
class Speaker:
    folder: str  # <IN>_<SPK>, the only name that is unique
    sex: str  # F or M
    age: int
    tone5: str  # south or north: what tone 5 becomes before another syllable
    birthplace: str
    home: str
    education: str
    voice: Voice
    span: float  # semitones between Chao 1 and Chao 5
    rate: float  # duration of a syllable relative to the usual
    loudness: float

    @property
    def institution(self) -> str:
        return self.folder[:2]

    @property
    def label(self) -> str:
        """發音人: without the institution."""
        return self.folder[3:]

    @property
    def accent(self) -> str:
        return "北部腔" if self.tone5 == "north" else "南部腔"


def make_speaker(seed: int, part: str, number: int) -> Speaker:
    """Speaker `number` of a part; sexes alternate, so every part of two speakers or more has both."""
    dice = Dice(seed, "speaker", part, number)
    sex = "FM"[number % 2]
    age = 18 + dice.below(53)
    tone5 = "north" if dice.happens(_NORTHERN_SHARE) else "south"
    places = _NORTH if tone5 == "north" else _SOUTH
    home = dice.pick(places)
    institution = dice.pick(INSTITUTIONS)
    return Speaker(
        folder=f"{institution}_{institution}{sex}{_number_in_corpus(part, number):04d}",
        sex=sex,
        age=age,
        tone5=tone5,
        birthplace=home if dice.happens(0.6) else dice.pick(places),
        home=home,
        education=dice.pick(_EDUCATION),
        voice=_make_voice(dice, sex, age),
        span=dice.bell(12.0, 1.5),
        rate=dice.bell(1.0, 0.1) * (1.06 if age > 55 else 1.0),
        loudness=2 ** dice.bell(0.0, 0.4),
    )


def _number_in_corpus(part: str, number: int) -> int:
    """Numbers never meet between the parts, as in the real corpus: 10n + 1 for train, + 2 for eval, + 3 for test."""
    return 10 * (number + 1) + {"train": 1, "eval": 2, "test": 3}.get(part, 4)


def _make_voice(dice: Dice, sex: str, age: int) -> Voice:
    woman = sex == "F"
    return Voice(
        pitch=(195.0 if woman else 115.0) * 2 ** (dice.bell(0.0, 2.0) / 12) * (0.95 if woman and age > 55 else 1.0),
        tract=dice.bell(1.16 if woman else 1.0, 0.04),
        formant_offsets=(dice.bell(1, 0.03), dice.bell(1, 0.03), dice.bell(1, 0.02)),
        open_quotient=dice.bell(0.68 if woman else 0.58, 0.06),
        tilt=dice.bell(3000 if woman else 3600, 500),
        breath=(0.05 if woman else 0.03) * 2 ** dice.bell(0.0, 0.8),
        jitter=dice.between(0.003, 0.012) * (1.4 if age > 60 else 1.0),
        width=dice.bell(1.0, 0.12),
    )
