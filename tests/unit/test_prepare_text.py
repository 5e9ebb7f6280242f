from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from icefall_ext.audit import REJECTED, Audit
from icefall_ext.files import open_jsonl_for_writing, read_jsonl, read_lines
from icefall_ext.text import prepare
from icefall_ext.text.prepare import TextPreparer


def prepared(text, *, form="number", keep_unknown=False, **custom):
    audit = Audit(io.StringIO())
    supervision = {"id": "u1", "text": text, "custom": custom}
    return TextPreparer(form, keep_unknown).prepare(supervision, audit), {reason for _, reason in audit.counts}


def test_both_scripts_come_out_in_canonical_form():
    got, reasons = prepared(
        "我beh去　Ｔâi-pak！", tailo="Guá beh khì Tâi-pak!", tailo_number="Gua2 beh4 khi3 Tai5-pak4!"
    )
    assert got["text"] == "我 beh 去 tâi-pak"
    assert got["custom"]["tailo"] == "gua2 beh4 khi3 tai5-pak4"
    assert not reasons


def test_form_of_the_tones_is_an_option():
    got, _ = prepared("台北", form="diacritic", tailo="Tâi-pak")
    assert got["custom"]["tailo"] == "tâi-pak"


@pytest.mark.parametrize("text", ["", "。！", "\u3000"])
def test_text_without_anything_to_say_is_rejected_and_listed(text):
    got, reasons = prepared(text, tailo="guá")
    assert got is None and reasons == {prepare.EMPTY}


def test_character_outside_the_alphabet_is_rejected_with_its_place_or_kept_on_demand():
    stream = io.StringIO()
    audit = Audit(stream)
    assert TextPreparer().prepare({"id": "u1", "text": "我ㄅ去", "custom": {}}, audit) is None
    assert audit.total(REJECTED) == 1 and "U+3105" in stream.getvalue()
    got, reasons = prepared("我ㄅ去", keep_unknown=True)
    assert got["text"] == "我ㄅ去" and reasons == {prepare.UNKNOWN}


def test_stray_han_in_one_romanisation_leaves_the_other_to_be_used():
    got, reasons = prepared("數字", tailo="sòo字", tailo_number="soo3-ji7")
    assert got["custom"]["tailo"] == "soo3-ji7" and reasons == {prepare.NOT_TAILO}


def test_utterance_whose_romanisations_are_unusable_stays_for_the_training_on_han():
    got, reasons = prepared("百分之三", tailo="pah-hun-tsi sann 3%", tailo_number="3%")
    assert got["text"] == "百分之三" and "tailo" not in got["custom"] and reasons == {prepare.NOT_TAILO}


def test_pehoeji_is_converted_where_there_is_no_tailo_and_listed():
    got, reasons = prepared("足好食", poj="chiok hó-chia̍h")
    assert got["custom"]["tailo"] == "tsiok4 ho2-tsiah8" and reasons == {prepare.FROM_POJ}
    got, reasons = prepared("足好食", poj="chiok hó-chia̍h", tailo="tsiok hó-tsia̍h")
    assert got["custom"]["tailo"] == "tsiok4 ho2-tsiah8" and not reasons


def test_proper_noun_is_not_lost():
    got, _ = prepared("去台北", tailo="khì Tâi-pak", tailo_number="khi3 Tai5-pak4")
    assert got["custom"]["tailo"] == "khi3 tai5-pak4"


def test_romanisations_that_disagree_and_lengths_that_differ_are_listed_and_kept():
    got, reasons = prepared("數字", tailo="sòo-jī", tailo_number="soo3-ji2")
    assert got["custom"]["tailo"] == "soo3-ji7" and reasons == {prepare.DISAGREE}
    _, reasons = prepared("數字字", tailo="sòo-jī")
    assert reasons == {prepare.LENGTHS}


def test_missing_romanisation_is_no_complaint_since_not_every_corpus_has_one():
    got, reasons = prepared("數字")
    assert got["text"] == "數字" and not reasons


def run_program(data_dir: Path, *options: str) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "icefall_ext.bin.prepare_text", "--corpus", "x", "--data-dir", str(data_dir)]
    return subprocess.run([*program, "--parts", "train", *options], capture_output=True, text=True)


@pytest.fixture
def data_dir(tmp_path):
    with open_jsonl_for_writing(tmp_path / "manifests/x_supervisions_train.jsonl.gz") as writer:
        writer.write({"id": "u1", "text": "數字。", "custom": {"tailo": "sòo-jī"}})
        writer.write({"id": "u2", "text": "…", "custom": None})
        writer.write({"id": "u3", "text": "食飯", "custom": None})
    return tmp_path


def test_program_writes_supervisions_text_and_audit(data_dir):
    result = run_program(data_dir)
    assert result.returncode == 0, result.stderr
    assert "2 utterances, 1 with Tai-lo" in result.stdout and "1 rejected, 0 repaired" in result.stdout
    assert "rejected 1  no text left after normalisation (first: u2)" in result.stdout
    assert [item["id"] for item in read_jsonl(data_dir / "text/x_supervisions_train.jsonl.gz")] == ["u1", "u3"]
    assert list(read_lines(data_dir / "text/train.hanlo")) == ["數字", "食飯"]
    assert list(read_lines(data_dir / "text/train.tailo")) == ["soo3-ji7"]
    assert "u2" in (data_dir / "audit/x_text_train.tsv").read_text(encoding="utf-8")


def test_strict_exits_1_and_the_rows_can_be_read(data_dir):
    result = run_program(data_dir, "--strict", "true")
    assert result.returncode == 1 and "1 rejected" in result.stderr and result.stderr.count("\n") == 1
    assert (data_dir / "audit/x_text_train.tsv").exists()


def test_recipe_that_needs_a_script_the_corpus_lacks_is_told_so(tmp_path):
    with open_jsonl_for_writing(tmp_path / "manifests/x_supervisions_train.jsonl.gz") as writer:
        writer.write({"id": "u1", "text": "食飯"})
    result = run_program(tmp_path)
    assert result.returncode == 1 and "no usable Tai-lo" in result.stderr
    assert run_program(tmp_path, "--scripts", "hanlo").returncode == 0
