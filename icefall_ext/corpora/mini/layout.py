"""TAT-MOE's layout on disk: where the files of a sentence lie, and the JSON label with all its keys."""

from __future__ import annotations

import io
import json
import wave
from typing import NamedTuple

import numpy as np

from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.microphones import Microphone
from icefall_ext.corpora.mini.speakers import Speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.utterance import Utterance
from icefall_ext.text.tailo import Word
from icefall_ext.text.tailo_poj import to_poj

PARTS = {"train": "TAT-MOE-train", "eval": "TAT-MOE-eval", "test": "TAT-MOE-test"}
TEXT_KEYS = ("漢羅台文", "台羅", "台羅數字調", "白話字")
_PER_CARD = 14  # sentences: more than ten, so that 1.1 and 1.10 both occur


class Place(NamedTuple):
    """The files of one sentence, relative to the corpus folder."""

    part: str
    speaker: str
    card: str
    sentence: str

    @property
    def stem(self) -> str:
        return f"{self.card}-{self.sentence}"

    @property
    def label(self) -> str:
        return f"{PARTS[self.part]}/json/{self.speaker}/{self.stem}.json"

    def audio(self, microphone: Microphone) -> str:
        return f"{PARTS[self.part]}/{microphone.name}/wav/{self.speaker}/{self.stem}-{microphone.channel}.wav"


def place_of(seed: int, part: str, speaker: Speaker, number: int) -> Place:
    """Cards are shared by all speakers, so card and sentence alone name nothing."""
    dice = Dice(seed, "card", speaker.folder, number // _PER_CARD)
    card = f"{dice.below(60):04d}" if dice.happens(0.5) else f"{dice.pick('AB')}{dice.below(60):03d}"
    section = 1 + 2 * (number // _PER_CARD)  # odd, so that a card drawn twice has each sentence once
    return Place(part, speaker.folder, card, f"{section}.{number % _PER_CARD + 1}")


def label_of(
    utterance: Utterance, place: Place, speaker: Speaker, label_id: int, minutes: float, dice: Dice
) -> dict[str, str]:
    """All keys of the real labels in their order; every value is a string."""
    sentence = utterance.sentence
    return {
        "id": str(label_id),
        "提示卡編號": place.card,
        "句編號": place.sentence,
        "漢羅台文": sentence.hanlo(),
        "台羅": sentence.romanised(Word.diacritic),
        "台羅數字調": sentence.romanised(Word.number),
        "白話字": sentence.romanised(to_poj),
        "發音人": speaker.label,
        "性別": speaker.sex,
        "年齡": str(speaker.age),
        "腔調": speaker.accent if dice.happens(0.6) else "不清楚",
        "出生地": speaker.birthplace,
        "現居地": speaker.home,
        "教育程度": speaker.education,
        "字數": str(sentence.syllable_count),
        "音檔長度": f"{utterance.performance.seconds:.2f}",
        "總錄音時間(分)": str(max(1, round(minutes))),
        "錄音環境": "錄音室",
        "提示卡切換速度": "快" if speaker.rate < 0.93 else "慢" if speaker.rate > 1.08 else "中等",
        "通過漢羅用字檢查": "True",
    }


def encode_label(label: dict[str, str]) -> bytes:
    return json.dumps(label, ensure_ascii=False, indent=4).encode()


def encode_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """`samples` as (frames,) or (frames, channels) of 16-bit integers."""
    packed = io.BytesIO()
    with wave.open(packed, "wb") as stream:
        stream.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples.astype("<i2").tobytes())
    return packed.getvalue()
