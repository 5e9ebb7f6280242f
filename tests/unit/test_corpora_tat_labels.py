"""What TAT's labels say, and what is wrong with them."""

from __future__ import annotations

import pytest
from tat_tree import Tree, as_json, kept, label, only_row, train

from icefall_ext.audit import REJECTED, REPAIRED
from icefall_ext.corpora import reasons
from icefall_ext.corpora.tat_keys import same_speaker


def test_byte_order_mark_before_a_label_is_removed(tree: Tree):
    tree.plant(json=b"\xef\xbb\xbf" + as_json(label("TS_TSM0020", "0035-6.13")))
    part = train(tree)
    assert kept(part) and part.supervisions[0]["text"] == "數字"
    only_row(part, REPAIRED, reasons.BYTE_ORDER_MARK)


def test_label_with_cr_line_ends_is_read(tree: Tree):
    tree.plant(json=as_json(label("TS_TSM0020", "0035-6.13")).replace(b", ", b",\r\n"))
    part = train(tree)
    assert kept(part) and part.rows == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\u3000數字\u00a0", "\\u3000數字\\xa0"), ("數字\r\n", "數字\\r\\n"), ("\ufeff數字", "\\ufeff數字")],
)
def test_invisible_characters_around_text_are_removed_and_shown(tree: Tree, text: str, shown: str):
    tree.plant(漢羅台文=text)
    part = train(tree)
    assert part.supervisions[0]["text"] == "數字"
    row = only_row(part, REPAIRED, reasons.STRAY_CHARACTERS)
    assert (row["field"], row["value"]) == ("漢羅台文", shown)


def test_line_break_within_text_becomes_a_space(tree: Tree):
    tree.plant(漢羅台文="數\r\n字")
    assert train(tree).supervisions[0]["text"] == "數 字"


def test_inner_wide_space_and_plain_spaces_around_text_are_left_to_the_text_stage_and_not_listed(tree: Tree):
    tree.plant(漢羅台文=" 數\u3000字 ")
    part = train(tree)
    assert part.rows == [] and part.supervisions[0]["text"] == "數\u3000字"


@pytest.mark.parametrize("text", ["", "   ", "\u3000\u00a0"])
def test_empty_text_is_rejected(tree: Tree, text: str):
    tree.plant(漢羅台文=text)
    part = train(tree)
    assert not kept(part) and part.said()[-1] == (REJECTED, reasons.EMPTY_TEXT)
    assert part.rows[-1]["field"] == "漢羅台文"


def test_sentence_without_romanisation_is_kept_and_listed(tree: Tree):
    tree.plant(台羅="", 台羅數字調="", 白話字="")
    part = train(tree)
    assert kept(part)
    only_row(part, REPAIRED, reasons.EMPTY_PHONETIC)


def test_romanisation_is_passed_on_as_it_stands(tree: Tree):
    stray = "“Tai5-uan5” 數字 %⋯ jī－A"
    tree.plant(台羅數字調=stray)
    part = train(tree)
    assert part.rows == [] and part.supervisions[0]["custom"]["tailo_number"] == stray


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", reasons.NOT_JSON),
        (b"{'id': 1}", reasons.NOT_JSON),
        (b'{"id": "1"', reasons.NOT_JSON),
        (b'{"\xff": 1}', reasons.NOT_JSON),
        (b"[" * 100_000, reasons.NOT_JSON),
        (b"[]", reasons.NOT_AN_OBJECT),
        (b'"text"', reasons.NOT_AN_OBJECT),
        (b"{}", reasons.MISSING_KEY),
        ('{"漢羅台文": null}'.encode(), reasons.MISSING_KEY),
        ('{"漢羅台文": ["數字"]}'.encode(), reasons.NOT_TEXT),
    ],
)
def test_label_that_cannot_be_used_is_rejected_with_its_reason(tree: Tree, content: bytes, reason: str):
    tree.plant(json=content)
    part = train(tree)
    assert not kept(part)
    assert only_row(part, REJECTED, reason)["file"] == "TAT-MOE-train/json/TS_TSM0020/0035-6.13.json"


def test_half_a_surrogate_pair_is_rejected_and_not_written(tree: Tree):
    tree.plant(json=as_json(label("TS_TSM0020", "0035-6.13")).replace('"數字"'.encode(), b'"\\ud800"'))
    part = train(tree)
    assert not kept(part)
    only_row(part, REJECTED, reasons.LONE_SURROGATE)


@pytest.mark.parametrize("key", ["台羅", "性別", "音檔長度"])
def test_sentence_without_a_less_needed_key_is_kept_and_listed(tree: Tree, key: str):
    tree.plant(**{key: None})
    part = train(tree)
    assert kept(part)
    assert only_row(part, REPAIRED, reasons.MISSING_KEY)["field"] == key


def test_unknown_gender_is_listed_and_left_out(tree: Tree):
    tree.plant(性別="X")
    part = train(tree)
    assert "gender" not in part.supervisions[0]
    assert only_row(part, REPAIRED, reasons.UNKNOWN_GENDER)["value"] == "X"


def test_speaker_is_the_folder_whatever_the_label_says(tree: Tree):
    tree.plant(發音人="TSM0021")
    part = train(tree)
    assert part.supervisions[0]["speaker"] == "TS_TSM0020"
    assert only_row(part, REPAIRED, reasons.SPEAKER_DISAGREES)["value"] == "TSM0021"


@pytest.mark.parametrize(
    ("folder", "said", "same"),
    [
        ("TA_TAF1006", "TAF1006", True),
        ("IU_IUF0001", "IUF001", True),
        ("IU_IUF0001", "IUF1", True),
        ("IU_IUF0010", "IUF001", False),
        ("IU_IUF0001", "IUM001", False),
        ("IU_IUF0001", "", False),
    ],
)
def test_speaker_number_may_be_padded_differently(folder: str, said: str, same: bool):
    assert same_speaker(folder, said) is same


def test_unpadded_speaker_is_not_listed(tree: Tree):
    tree.plant(speaker="IU_IUF0001", 發音人="IUF001")
    assert train(tree).rows == []


@pytest.mark.parametrize(("drop", "reason"), [(False, None), (True, reasons.FAILED_SPELLING)])
def test_failed_spelling_check_is_kept_or_dropped_by_option(tree: Tree, drop: bool, reason: str | None):
    tree.plant(通過漢羅用字檢查="False")
    part = train(tree, drop_failed_spelling=drop)
    assert kept(part) is not drop
    assert part.said() == ([(REJECTED, reason)] if drop else [])
