"""Which JSON key of a label means what: the one difference between TAT and its siblings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeyMap:
    """Keys of a label. A supervision's `custom` holds `phonetic` and `about` under the names given here."""

    language: str
    text: str
    phonetic: dict[str, str]
    speaker: str
    gender: str
    seconds: str
    card: str
    sentence: str
    about: dict[str, str] = field(default_factory=dict)
    spelling_check: str = ""
    # TAT's folder is the speaker and its file name the card and sentence, whatever the label says. HAT has a folder for
    # every card that a speaker read: there the label says it all.
    named_by_path: bool = True


TAT = KeyMap(
    language="nan",
    text="漢羅台文",
    phonetic={"tailo": "台羅", "tailo_number": "台羅數字調", "poj": "白話字"},
    speaker="發音人",
    gender="性別",
    seconds="音檔長度",
    card="提示卡編號",
    sentence="句編號",
    about={
        "label_id": "id",
        "age": "年齡",
        "accent": "腔調",
        "birthplace": "出生地",
        "residence": "現居地",
        "education": "教育程度",
        "environment": "錄音環境",
        "spelling_check": "通過漢羅用字檢查",
    },
    spelling_check="通過漢羅用字檢查",
)

HAT = KeyMap(
    language="hak",
    text="客語漢字",
    phonetic={"pinyin": "客語拼音"},
    speaker="發音員編號",
    gender="性別",
    seconds="音檔長度",
    card="提示卡編號",
    sentence="音檔編號",
    about={
        "label_id": "id",
        "age": "年齡",
        "accent": "錄音腔調",
        "mandarin": "華語字",
        "fluency": "流暢度",
        "residence": "現居地",
        "education": "教育程度",
        "environment": "錄音環境",
    },
    named_by_path=False,
)

_SPEAKER = re.compile(r"(?:[A-Z]{2}_)?([A-Z]*)0*([0-9]+)")


def same_speaker(folder: str, label: str) -> bool:
    """`IU_IUF0001` and `IUF001`: the label leaves out the institution and pads the number differently."""
    if folder == label or folder.partition("_")[2] == label:
        return True
    of_folder, of_label = _SPEAKER.fullmatch(folder), _SPEAKER.fullmatch(label)
    return bool(of_folder and of_label and of_folder.groups() == of_label.groups())
