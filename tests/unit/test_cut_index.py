"""The index of cuts, and the batches loaded through it."""

from __future__ import annotations

import numpy as np
import pytest

from icefall_ext.data.index import CutIndex
from icefall_ext.data.loading import load_batches
from icefall_ext.data.transcripts import surface_text, text_of
from icefall_ext.files import read_jsonl
from icefall_ext.text import tailo
from icefall_ext.text.tailo_spelling import FINALS, INITIALS, TONES, base_exists, tone_is_usual
from tests.training_toys import train_bpe, write_cuts


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder, 10), train_bpe(folder)


def build(cuts, folder, bpe, reason_against=lambda *_: None, key="k"):
    return CutIndex.build(cuts, folder, lambda c: text_of(c, "tailo"), bpe.encode, reason_against, key)


def test_cuts_lengths_and_tokens_are_those_of_the_manifest(toys, tmp_path):
    cuts, bpe = toys
    index, left_out = build(cuts, tmp_path / "index", bpe)
    items = list(read_jsonl(cuts))
    assert len(index) == 10 and left_out == {}
    for number in (7, 0, 9):
        assert index.cuts([number])[0].id == items[number]["id"]
        assert bpe.decode(index.tokens(number)) == items[number]["supervisions"][0]["custom"]["tailo"]
        assert index.durations[number] == pytest.approx(items[number]["duration"])
    assert index.token_counts.tolist() == [len(index.tokens(n)) for n in range(10)]


def test_what_is_left_out_is_counted_by_reason(toys, tmp_path):
    cuts, bpe = toys
    index, left_out = build(cuts, tmp_path / "index", bpe, lambda seconds, _: "long" if seconds > 1.0 else None)
    assert left_out["long"] + len(index) == 10 and index.durations.max() <= 1.0
    again, still = build(cuts, tmp_path / "index", bpe, lambda *_: pytest.fail("the index was there"))
    assert len(again) == len(index) and still == left_out


def test_other_cuts_or_another_key_make_another_index(toys, tmp_path):
    cuts, bpe = toys
    index, _ = build(cuts, tmp_path / "index", bpe)
    assert build(cuts, tmp_path / "index", bpe, key="other")[0].key != index.key
    others, _ = build(write_cuts(tmp_path, 4, name="others"), tmp_path / "index", bpe)
    assert len(others) == 4 and others.key != index.key


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_same_with_any_number_of_workers(toys, tmp_path, workers):
    index, _ = build(*toys[:1], tmp_path / "index", toys[1])
    batches = [np.array([3, 1]), np.array([0]), np.array([5, 9, 2])]
    loaded = list(load_batches(index, batches, workers))
    assert [batch.ids for batch in loaded] == [[f"cuts-{n}" for n in numbers] for numbers in batches]
    for batch, numbers in zip(loaded, batches):
        for row, length, number in zip(batch.waveforms, batch.lengths, numbers):
            audio = index.cuts([number])[0].load_audio()[0]
            assert length == len(audio) and np.array_equal(row[:length].numpy(), audio) and not row[length:].any()


def test_surface_tones_are_those_of_the_sandhi_rules():
    assert surface_text("gua2 si7 tai5-uan5-lang5") == "gua1 si3 tai7-uan7-lang5"
    assert surface_text("tsiah8-png7") == "tsiah3-png7"
    assert surface_text("khi3--ah4") == "khi3--ah4"
    assert surface_text("toh4-a2") == "to1-a2" and surface_text("ioh8-a2") == "ioh7-a2"


@pytest.mark.parametrize("tone5", ["south", "north"])
@pytest.mark.parametrize("final", FINALS)
def test_surface_tones_of_every_syllable_can_be_written(final, tone5):
    """Before any syllable, before the diminutive, and three times in a word."""
    initial = next(initial for initial in INITIALS if base_exists(initial, final))
    for tone in TONES:
        if tone_is_usual(final, tone):
            one = f"{initial}{final}{tone}"
            for text in (f"{one} lang5", f"{one}-a2", f"{one}-a2-lang5", f"{one}--e5", f"{one}-{one}-{one}"):
                spoken = surface_text(text, tone5)
                assert " ".join(word.number() for word in tailo.parse(spoken).words) == spoken
