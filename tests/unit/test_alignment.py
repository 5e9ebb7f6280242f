"""Forced alignment: the best path against torchaudio and against all paths, syllables in time, and the program."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from icefall_ext.align.aligner import Aligner
from icefall_ext.align.file import Alignments, about_path
from icefall_ext.align.syllables import REACH, labels_of, syllables_in_time, tokens_of_syllables
from icefall_ext.align.viterbi import NO_TOKEN, Path, available_backend, forced_align
from icefall_ext.bin import align
from icefall_ext.data.loading import load_batches
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.saving import save_epoch
from tests.training_toys import make_trainer, train_bpe, write_cuts

TORCHAUDIO_ALIGNS = available_backend() == "torchaudio"


def frames_of(seed: int, size: int, frames: int, vocab: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, frames, vocab, generator=generator, dtype=torch.float32).log_softmax(-1)


def best_of_all(log_probs: torch.Tensor, tokens: list[int]) -> float:
    """Of every sequence of labels that collapses to the tokens."""
    frames, vocab = log_probs.shape
    best = -np.inf
    for labels in itertools.product(range(vocab), repeat=frames):
        collapsed = [label for label, _ in itertools.groupby(labels) if label]
        if collapsed == tokens:
            best = max(best, float(sum(log_probs[t, label] for t, label in enumerate(labels))))
    return best


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 2]])
def test_the_best_path_is_the_best_of_all_paths(tokens):
    log_probs = frames_of(sum(tokens), 1, 6, 3)
    (path,) = forced_align(log_probs, torch.tensor([6]), [tokens], ["a"], "torch")
    assert path.log_probs.sum() == pytest.approx(best_of_all(log_probs[0], tokens), abs=1e-5)
    assert [k for k, _ in itertools.groupby(path.tokens) if k != NO_TOKEN] == list(range(len(tokens)))
    labels = [tokens[k] if k != NO_TOKEN else 0 for k in path.tokens]
    assert [label for label, _ in itertools.groupby(labels) if label] == tokens


@pytest.mark.skipif(not TORCHAUDIO_ALIGNS, reason="this torchaudio has no forced_align")
@pytest.mark.parametrize("seed", range(8))
def test_both_backends_find_the_same_path_in_batches_of_any_lengths(seed):
    random = np.random.default_rng(seed)
    lengths = torch.from_numpy(random.integers(30, 60, 5))
    tokens = [random.integers(1, 4, int(random.integers(0, 15))).tolist() for _ in lengths]  # few labels: many repeats
    log_probs = frames_of(seed, 5, 60, 4)
    ours, theirs = (forced_align(log_probs, lengths, tokens, list("abcde"), name) for name in ("torch", "torchaudio"))
    for one, other, length in zip(ours, theirs, lengths.tolist()):
        assert len(one.tokens) == length
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.log_probs, other.log_probs)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_an_utterance_with_too_few_frames_is_named(backend):
    with pytest.raises(UserError, match="u2: 3 frames, but its tokens need 4"):
        forced_align(frames_of(0, 2, 6, 4), torch.tensor([6, 3]), [[1, 2], [1, 1, 2]], ["u1", "u2"], backend)


def test_tokens_are_given_to_syllables_by_their_bytes():
    spelled = [b" ts", b"iah", b"8--", b"khi", b"3", b",", b" ", b"98", b" e", b"5"]
    assert tokens_of_syllables("tsiah8--khi3, 98 e5", spelled) == [
        (range(0, 3), True), (range(3, 5), True), (range(8, 10), True)
    ]
    shared = tokens_of_syllables("tai5-pak4 e5", [b" tai", b"5-pak", b"4", b" e5"])
    assert shared == [(range(0, 2), False), (range(1, 3), False), (range(3, 4), True)]
    marks = tokens_of_syllables("Tâi-pak", [b" T", b"\xc3", b"\xa2", b"i", b"-", b"pak"])
    assert marks == [(range(0, 4), True), (range(5, 6), True)], "a letter may be of several tokens"
    with pytest.raises(UserError, match="its tokens spell ' tai5'"):
        tokens_of_syllables("tai5-pak4", [b" tai", b"5"])


def test_syllables_have_the_tones_that_are_written_and_those_that_are_spoken():
    labels = labels_of("gua2 si7 tai5-uan5-lang5")
    assert [(one.base, one.citation, one.surface) for one in labels] == [
        ("gua", 2, 1), ("si", 7, 3), ("tai", 5, 7), ("uan", 5, 7), ("lang", 5, 5)
    ]
    assert [one.surface for one in labels_of("tai5 si7", tone5="north")] == [3, 7]


def test_what_lies_between_two_syllables_is_shared_and_a_pause_is_no_ones():
    step, reach = 0.04, round(REACH / 0.04)
    tokens = np.full(40, NO_TOKEN)
    tokens[[6, 7, 9]] = 0, 0, 1  # a syllable of two tokens
    tokens[12] = 2
    tokens[30] = 3
    path = Path(tokens, np.where(tokens == NO_TOKEN, -9.0, -1.0 - tokens))
    owned = [(range(0, 2), True), (range(2, 3), False), (range(3, 4), True)]
    first, none, last = syllables_in_time(path, owned, labels_of("gua2 si7 lang5"), step)
    assert none is None, "it shares a token"
    assert (first.start, first.end) == (pytest.approx((6 - reach) * step), pytest.approx(11 * step))
    assert (last.start, last.end) == (pytest.approx((30 - reach) * step), pytest.approx((31 + reach) * step))
    assert first.log_prob == pytest.approx((-1 - 1 - 2) / 3, abs=1e-4) and last.log_prob == -4


@pytest.fixture(scope="module")
def aligner(tmp_path_factory):
    """A model whose CTC head was taught, frame by frame, which token is where: what CTC finds out in hours."""
    folder = tmp_path_factory.mktemp("aligner")
    cuts, bpe = write_cuts(folder, count=40), train_bpe(folder)
    trainer = make_trainer(folder / "exp", cuts, bpe)
    save_epoch(trainer, 1, [])
    teach_frames(trainer.model.eval(), trainer.data.train)
    save_epoch(trainer, 2, [])
    bpe._write(folder / "exp/lang", [])
    return folder


def teach_frames(model, index):
    step = model.encoder.samples_per_frame / 16000
    hidden, labels = [], []
    for batch in load_batches(index, [np.array([n]) for n in range(len(index))]):
        spelled = ByteBPE.load(index.folder.parents[2] / "lang_tailo").spelled(batch.tokens[0])
        owned = tokens_of_syllables(b"".join(spelled).decode()[1:], spelled)
        with torch.no_grad():
            frames, lengths = model.encode(batch.waveforms, batch.lengths)
        for t in range(int(lengths)):
            syllable, place = divmod((t + 0.5) * step, 0.3)
            tokens, _ = owned[min(int(syllable), len(owned) - 1)]
            hidden.append(frames[0, t])
            labels.append(batch.tokens[0][tokens[int(place / 0.3 * len(tokens))]])
    hidden, labels = torch.stack(hidden), torch.tensor(labels)
    optimizer = torch.optim.Adam(model.ctc_output.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.ctc_output(hidden), labels).backward()
        optimizer.step()


def run(folder, out, **options):
    cfg = align.Config(exp_dir=folder / "exp", cuts=folder / "cuts.jsonl", out=out, device="cpu", threads=1,
                       use_averaged_model=False, **options)
    align.main(cfg)
    return list(read_jsonl(out))


def test_syllables_are_found_where_they_are(aligner, tmp_path):
    rows = run(aligner, tmp_path / "found.jsonl.gz")
    assert [row["id"] for row in rows] == [f"cuts-{n}" for n in range(40)], "in the order of the cuts"
    off = [abs(one["start"] - 0.3 * k) for row in rows for k, one in enumerate(row["syllables"])]
    assert np.median(off) <= 0.1 and np.mean(np.array(off) <= 0.15) > 0.9
    for row, cut in zip(rows, read_jsonl(aligner / "cuts.jsonl")):
        written = cut["supervisions"][0]["custom"]["tailo"].split()
        assert [f"{one['base']}{one['citation']}" for one in row["syllables"]] == written
        ends = [0.0, *(edge for one in row["syllables"] for edge in (one["start"], one["end"])), cut["duration"] + 0.04]
        assert ends == sorted(ends), "one after the other"


def test_an_alignment_that_was_stopped_goes_on_and_ends_the_same(aligner, tmp_path, monkeypatch, capsys):
    whole = run(aligner, tmp_path / "whole.jsonl", max_duration=5.0)
    batches = []

    def dying(self, batch, spoken, of=Aligner.__call__):
        batches.append(batch.ids)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return of(self, batch, spoken)

    with monkeypatch.context() as patch:
        patch.setattr("icefall_ext.align.aligner.Aligner.__call__", dying)
        with pytest.raises(KeyboardInterrupt):
            run(aligner, tmp_path / "parts.jsonl", max_duration=5.0)
    assert not (tmp_path / "parts.jsonl").exists()
    (progress,) = (tmp_path / "parts.jsonl.under-way").glob("*.jsonl")
    progress.write_text(progress.read_text(encoding="utf-8") + '{"id": "cuts-', encoding="utf-8")
    assert run(aligner, tmp_path / "parts.jsonl", max_duration=5.0) == whole
    assert f"{len(batches[0]) + len(batches[1])} utterances are aligned" in capsys.readouterr().out
    assert not list(tmp_path.glob("*under-way"))


def test_a_second_run_does_nothing_and_another_model_begins_anew(aligner, tmp_path, capsys):
    out = tmp_path / "found.jsonl"
    run(aligner, out)
    before = out.stat().st_mtime_ns
    run(aligner, out)
    assert out.stat().st_mtime_ns == before and "kept" in capsys.readouterr().out
    run(aligner, out, epoch=1)
    assert out.stat().st_mtime_ns != before


def test_what_is_left_out_is_counted(aligner, tmp_path, capsys):
    cuts = list(read_jsonl(aligner / "cuts.jsonl"))
    cuts[0]["supervisions"][0]["custom"].pop("tailo")
    cuts[1]["duration"] = cuts[1]["supervisions"][0]["duration"] = 0.2
    cuts[2]["recording"]["sources"][0]["source"] = "no/such.wav"
    path = tmp_path / "cuts.jsonl"
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts), encoding="utf-8")
    cfg = align.Config(exp_dir=aligner / "exp", cuts=path, out=tmp_path / "out.jsonl", device="cpu",
                       use_averaged_model=False)
    align.main(cfg)
    about = json.loads(about_path(cfg.out).read_text(encoding="utf-8"))
    assert about["utterances"] == 37
    assert about["utterances_left_out"] == {"no text": 1, "with fewer frames than tokens": 1, "audio cannot be read": 1}
    assert "cuts-2: its audio cannot be read" in capsys.readouterr().out


def test_a_file_gives_the_syllables_of_the_utterances_that_are_asked_for(aligner, tmp_path):
    rows = run(aligner, tmp_path / "found.jsonl")
    alignments = Alignments.read(tmp_path / "found.jsonl")
    assert len(alignments) == sum(len(row["syllables"]) for row in rows)
    found = alignments.of(["cuts-7", "unknown", "cuts-3"], "citation")
    wanted = rows[7]["syllables"] + rows[3]["syllables"]
    assert found.utterance.tolist() == [0] * len(rows[7]["syllables"]) + [2] * len(rows[3]["syllables"])
    np.testing.assert_allclose(found.start, [one["start"] for one in wanted], atol=1e-5)
    assert found.items.tone.tolist() == [one["citation"] for one in wanted]
    assert alignments.of(["cuts-7"], "surface").items.tone.tolist() == [one["surface"] for one in rows[7]["syllables"]]
    assert len({(b, w["base"]) for b, w in zip(found.items.base.tolist(), wanted)}) == len({w["base"] for w in wanted})
    assert len(alignments.of(["unknown"], "citation").items) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(out="found.txt"), "name a file that ends in .jsonl"),
        (dict(cuts="none.jsonl"), "--cuts none.jsonl: no such file"),
        (dict(max_duration=0.0), "--max-duration 0.0: above 0"),
    ],
)
def test_a_wrong_choice_is_one_line(aligner, tmp_path, options, message):
    chosen = dict(exp_dir=aligner / "exp", cuts=aligner / "cuts.jsonl", out=tmp_path / "a.jsonl", device="cpu")
    paths = {name: type(aligner)(value) if name in ("cuts", "out") else value for name, value in options.items()}
    with pytest.raises(UsageError, match=message):
        align.main(align.Config(**chosen | paths))
