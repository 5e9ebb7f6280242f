from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from icefall_ext.audit import COLUMNS, REJECTED, REPAIRED, Rows, open_audit, stop_if_rejected, summarise
from icefall_ext.errors import UserError


def test_a_row_names_what_was_done_why_and_to_what(tmp_path: Path):
    with open_audit(tmp_path / "a.tsv") as audit:
        audit.rejected("empty text", "a.json", field="text", value="\u3000\t")
        audit.repaired("other rate", "b.wav", value=8000, note="resampled")
        audit.ignored("not a file of the corpus", ".DS_Store")
    assert (tmp_path / "a.tsv").read_text(encoding="utf-8").split("\n") == [
        "\t".join(COLUMNS),
        "rejected\tempty text\ta.json\ttext\t\\u3000\\t\t",
        "repaired\tother rate\tb.wav\t\t8000\tresampled",
        "ignored\tnot a file of the corpus\t.DS_Store\t\t\t",
        "",
    ]


def test_summary_puts_rejections_first_and_shows_one_file_of_each_reason(tmp_path: Path):
    with open_audit(tmp_path / "a.tsv") as first, open_audit(tmp_path / "b.tsv") as second:
        first.repaired("stereo", "a.wav")
        for name in ("b.wav", "c.wav"):
            first.repaired("8 kHz", name)
        second.rejected("empty", "d.wav")
        second.repaired("stereo", "e.wav")
        second.repaired("stereo", "f.wav")
    assert summarise([first, second]) == [
        "rejected 1  empty (first: d.wav)",
        "repaired 3  stereo (first: a.wav)",
        "repaired 2  8 kHz (first: b.wav)",
    ]


def test_strict_is_an_error_only_after_rejections_and_leaves_the_file(tmp_path: Path):
    with open_audit(tmp_path / "kept.tsv") as kept, open_audit(tmp_path / "strict.tsv") as strict:
        kept.repaired("stereo", "a.wav")
        kept.ignored("not a file of the corpus", "x")
        strict.rejected("empty", "a.wav")
    stop_if_rejected({tmp_path / "kept.tsv": kept})
    with pytest.raises(UserError, match=r"strict.tsv: 1 rejected \(empty\); mend them or leave out --strict"):
        stop_if_rejected({tmp_path / "kept.tsv": kept, tmp_path / "strict.tsv": strict})
    assert "a.wav" in (tmp_path / "strict.tsv").read_text(encoding="utf-8")


def test_rows_of_a_worker_become_rows_of_the_audit(tmp_path: Path):
    rows = Rows()
    rows.rejected("empty", "a.wav")
    rows.repaired("stereo", "b.wav", value=2)
    with open_audit(tmp_path / "a.tsv") as audit:
        for row in pickle.loads(pickle.dumps(list(rows))):
            audit.add(row)
    assert (audit.total(REJECTED), audit.total(REPAIRED)) == (1, 1)
