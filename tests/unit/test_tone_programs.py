"""train_tone and score_words on a few generated words: every part after the one before it, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from icefall_ext.bin import prepare_cuts, score_words, train_tone
from icefall_ext.bin.make_mini_words import Config as Words
from icefall_ext.bin.make_mini_words import main as make_words
from icefall_ext.corpora.base import Options
from icefall_ext.corpora.manifest import write_manifests
from icefall_ext.corpora.registry import open_corpus
from icefall_ext.data.batches import BatchLimits
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.score.word_errors import hypotheses_table, word_errors
from icefall_ext.tone.batches import BatchShape
from icefall_ext.tone.labels import MISSING, Labels, Word
from icefall_ext.tone.pairs import Items
from icefall_ext.tone.spec import LayerConfig
from icefall_ext.train.checkpoint import load_checkpoint, save_checkpoint
from icefall_ext.train.config import LoopConfig
from icefall_ext.train.restore import chosen_weights


@pytest.fixture(scope="module")
def cuts(tmp_path_factory) -> Path:
    """Folder of cuts of 2 bases x 4 tones by 4 + 2 + 2 speakers."""
    folder = tmp_path_factory.mktemp("words")
    make_words(Words(folder / "corpus", ["mandarin"], bases=2, speakers=4, unseen=2, takes=1, nj=1))
    write_manifests(open_corpus("words", folder / "corpus/words/mandarin", Options()), folder)
    prepare_cuts.main(prepare_cuts.Config("words", folder, nj=1, as_imported=True))
    return folder / "wav"


def test_statistics_of_words_count_bases_words_and_tones_and_no_tailo(cuts):
    lines = (cuts.parent / "statistics.tsv").read_text(encoding="utf-8").splitlines()
    rows = {name: values for name, *values in (line.split("\t") for line in lines)}
    assert rows["bases, distinct"] == ["2"] * 3 and rows["words (base and tone), distinct"] == ["8"] * 3
    assert [name for name in rows if name.startswith("tone ")] == [f"tone {tone}, %" for tone in (1, 2, 3, 4)]
    assert all(values == ["25.0"] * 3 for name, values in rows.items() if name.startswith("tone "))
    assert not [name for name in rows if "Tai-lo" in name or "characters" in name]


def configuration(part: str, exp_dir: Path, cuts: Path, **changes) -> train_tone.Config:
    settings = dict(
        encoder=EncoderConfig(source="random:tiny-mel", dropout=0.1, mask_time_prob=0.0), layers=LayerConfig(0, 1),
        shape=BatchShape(bases=2), device="cpu", threads=1, workers=0,
        train=LoopConfig(epochs=2, lr=0.03, lr_warmup=1.0, accumulate=1, average_period=1, log_every=1, seed=5),
    ) | changes
    train, valid = (cuts / f"words_cuts_{which}.jsonl.gz" for which in ("train", "dev"))
    return train_tone.Config(part, exp_dir, train, valid, **settings)


@pytest.fixture(scope="module")
def trained(cuts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for part, more in (("teacher", {}), ("stage1", {}),
                       ("stage2", {"init_from": str(folder / "stage1"), "teacher": str(folder / "teacher")})):
        train_tone.main(configuration(part, folder / part, cuts, **more))
    return folder


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)["model"]


def test_stage_2_leaves_everything_up_to_the_feature_layer_as_stage_1_made_it_bit_for_bit(trained):
    began = chosen_weights(trained / "stage1", epoch=2, iteration=0, avg=1, use_averaged_model=True).tensors
    ended = weights(trained / "stage2/epoch-2.pt")
    below = [name for name in began if name.startswith("encoder.") and ".layers.1." not in name]
    assert below
    assert [name for name in below if not torch.equal(began[name].to(ended[name]), ended[name])] == []
    assert not torch.equal(began["ctc_output.weight"], ended["ctc_output.weight"])


def test_frozen_parts_of_stage_1_are_those_that_it_began_with(trained, cuts):
    cfg = configuration("stage1", trained / "stage1", cuts)
    torch.manual_seed(cfg.train.seed)
    early = train_tone.build_model(cfg, Labels.load(cfg.exp_dir)).state_dict()
    late = weights(trained / "stage1/epoch-2.pt")
    changed = {name for name in late if not torch.equal(early[name], late[name])}
    assert changed and all(".encoder.layers.0." in name or name.startswith("tone_output.") for name in changed)


@pytest.mark.parametrize(("frozen", "learns"), [(0, {"0", "1"}), (1, {"1"})])
def test_the_last_block_can_give_the_embeddings_whatever_is_frozen_below(cuts, tmp_path, frozen, learns):
    """As the sweep over feature layers asks for."""
    train_tone.main(configuration("stage1", tmp_path, cuts, layers=LayerConfig(frozen, 2)))
    first, last = (weights(tmp_path / f"epoch-{epoch}.pt") for epoch in (1, 2))
    changed = {name.split("layers.")[1][0] for name in last if ".layers." in name and not torch.equal(
        first[name], last[name])}
    assert changed == learns
    assert score(cuts, tmp_path / "scores", exp_dir=str(tmp_path))["feature_layer"] == 2


def test_what_is_logged_holds_the_share_of_anchors_with_a_partner(trained):
    rows = [json.loads(line) for line in (trained / "stage1/log/metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["speaker_anchors"] == row["tone_anchors"] == 1.0
    assert {row["kind"] for row in rows} == {"train", "valid"}


def test_the_same_command_does_nothing_when_all_is_done(trained, cuts, capsys):
    before = (trained / "stage1/epoch-2.pt").read_bytes()
    train_tone.main(configuration("stage1", trained / "stage1", cuts))
    assert "2 epochs were done" in capsys.readouterr().out
    assert (trained / "stage1/epoch-2.pt").read_bytes() == before


@pytest.mark.parametrize("changed", ["stage1", "teacher"])
def test_stage_2_does_not_go_on_when_what_it_began_from_was_trained_anew(trained, cuts, tmp_path, changed):
    for folder in ("stage1", "teacher"):
        shutil.copytree(trained / folder, tmp_path / folder)
    cfg = configuration("stage2", tmp_path / "stage2", cuts, init_from=str(tmp_path / "stage1"),
                        teacher=str(tmp_path / "teacher"))
    cfg.train.epochs = 1
    train_tone.main(cfg)
    cfg.train.epochs = 2
    path = tmp_path / changed / "epoch-2.pt"
    content = load_checkpoint(path)
    content["model_avg"]["ctc_output.bias"].add_(1)
    save_checkpoint(path, content)
    with pytest.raises(UserError, match=f"epoch-1.pt: began from other weights than .*{path}.* now holds"):
        train_tone.main(cfg)


def test_single_stage_training_has_both_losses(cuts, trained, tmp_path):
    train_tone.main(configuration("single", tmp_path, cuts, teacher=str(trained / "teacher")))
    row = json.loads((tmp_path / "log/metrics.jsonl").read_text().splitlines()[0])
    assert {"speaker_loss", "tone_loss", "classifier_loss", "ctc_loss", "teacher_loss"} <= row.keys()


def test_single_stage_training_can_take_as_many_steps_as_the_two_stages(cuts, trained, tmp_path):
    limits = BatchLimits(max_duration=4)  # stage 2 then has more batches to an epoch than stage 1
    train_tone.main(configuration("stage2", tmp_path / "stage2", cuts, init_from=str(trained / "stage1"), batch=limits))
    train_tone.main(configuration("single", tmp_path / "single", cuts, batch=limits, stage_epochs=[2, 2]))
    of_stages = [load_checkpoint(folder / "epoch-2.pt")["batch_idx_train"]
                 for folder in (trained / "stage1", tmp_path / "stage2")]
    assert of_stages[1] > of_stages[0]
    steps = [load_checkpoint(tmp_path / f"single/epoch-{epoch}.pt")["batch_idx_train"] for epoch in (1, 2, 3, 4)]
    assert steps[-1] == sum(of_stages) and 0 < steps[0] < steps[1] < steps[2] < steps[3]


def score(cuts: Path, out_dir: Path, **changes) -> dict:
    train, test = (cuts / f"words_cuts_{which}.jsonl.gz" for which in ("train", "test"))
    score_words.main(score_words.Config(test, train, out_dir, device="cpu", threads=1, **changes))
    return json.loads((out_dir / "words.json").read_text(encoding="utf-8"))


def test_scores_are_given_for_seen_and_unseen_speakers_apart(trained, cuts, tmp_path, capsys):
    scores = score(cuts, tmp_path, exp_dir=str(trained / "stage2"))
    for name in ("unseen", "seen"):
        one = scores["sets"][name]
        assert one["recordings"] == 16  # 2 speakers x 8 words
        assert [(way["direction"], way["gallery"]) for way in one["retrieval"]] == [("F->M", 8), ("M->F", 8)]
        assert set(one["errors"]) == {"word", "base", "tone", "cer"}
        assert 0 <= one["distances"]["hard"] <= 2 and "speaker" in one["probes"]
    printed = capsys.readouterr().out
    assert "Top-1 F->M, gallery" in printed and "WER %, base and tone" in printed and "unseen speakers" in printed
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "words-hypotheses.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 33 and lines[0] == "id\treference\thypothesis"


def test_embeddings_after_stage_2_are_those_of_stage_1(trained, cuts, tmp_path):
    one, two = (score(cuts, tmp_path / stage, exp_dir=str(trained / stage), avg=1) for stage in ("stage1", "stage2"))
    for name in ("unseen", "seen"):
        before, after = (scores["sets"][name]["distances"] for scores in (one, two))
        assert after.pop("closest_tones") == before.pop("closest_tones")
        assert after == pytest.approx(before, abs=1e-5)
        assert two["sets"][name]["retrieval"] == one["sets"][name]["retrieval"]
    assert "errors" not in one["sets"]["seen"]


def test_a_frozen_block_can_be_measured_too(cuts, tmp_path):
    train_tone.main(configuration("stage1", tmp_path / "exp", cuts, layers=LayerConfig(1, 2)))
    assert score(cuts, tmp_path / "scores", exp_dir=str(tmp_path / "exp"), feature_layer=1)["feature_layer"] == 1


def test_the_baseline_is_the_encoder_as_it_is(cuts, tmp_path):
    scores = score(cuts, tmp_path, encoder=EncoderConfig(source="random:tiny-mel"), feature_layer=2)
    assert scores["feature_layer"] == 2 and "errors" not in scores["sets"]["unseen"]
    with pytest.raises(UsageError, match="say which block"):
        score(cuts, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "stage2"}, "needs --init-from, the folder of stage 1"),
        ({"part": "stage1", "teacher": "exp/t"}, "--part stage1 has none"),
        ({"part": "stage1", "layers": LayerConfig(2, 2)}, "no block learns in stage 1"),
        ({"part": "stage1", "layers": LayerConfig(-1, 1)}, "no block learns in stage 1"),
        ({"part": "stage1", "layers": LayerConfig(0, 3)}, "this encoder has 2 blocks"),
        ({"part": "stage1", "train": LoopConfig(on_oom="shrink")}, "--train.on-oom shrink: losses between the words"),
        ({"part": "teacher", "check_only": True}, "--check-only true: --part teacher needs no pairs"),
        ({"part": "stage1", "init_from": "x", "init_epoch": -1}, "--init-epoch -1: not below 0"),
        ({"part": "stage1", "shape": BatchShape(bases=1)}, "--shape.bases 1: at least 2"),
        ({"part": "stage1", "stage_epochs": [2, 2]}, "--stage-epochs 2 2: two numbers from 1 on, and for"),
        ({"part": "single", "stage_epochs": [2]}, "--stage-epochs 2: two numbers"),
        ({"part": "single", "stage_epochs": [2, 2], "train": LoopConfig(accumulate=4)}, "accumulate 4 has to"),
        ({"part": "stage2", "init_from": "none/such"}, "no such file; name a folder that train_tone made"),
    ],
)
def test_a_wrong_choice_is_one_line_before_anything_is_made(cuts, tmp_path, changes, message):
    changes = dict(changes)
    with pytest.raises(UserError, match=message):
        train_tone.main(configuration(changes.pop("part"), tmp_path / "exp", cuts, **changes))
    assert not (tmp_path / "exp").exists()


def test_words_that_training_does_not_know_are_left_out_of_validation_and_counted(cuts, tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    lines = gzip.open(cuts / "words_cuts_train.jsonl.gz", "rt", encoding="utf-8").read().splitlines()
    few.write_text("\n".join(line for line in lines if json.loads(line)["supervisions"][0]["custom"]["tone"] != "4"))
    cfg = configuration("stage1", tmp_path / "exp", cuts)
    cfg.train_cuts, cfg.train = few, LoopConfig(epochs=1, lr=0.03, accumulate=1, average_period=1)
    train_tone.main(cfg)
    printed = capsys.readouterr().out
    assert "left out: 4 with a letter or a tone that training does not have" in printed
    assert "100.0 % have a partner by the other gender" in printed
    assert Labels.load(tmp_path / "exp").classes == ("1", "2", "3")


@pytest.mark.parametrize("which", ["train", "valid"])
def test_words_of_one_gender_are_refused_before_training_begins(cuts, tmp_path, which):
    """Or else the first batch of them would end it, an epoch later in validation."""
    women = tmp_path / "women.jsonl"
    of = {"train": "train", "valid": "dev"}[which]
    lines = gzip.open(cuts / f"words_cuts_{of}.jsonl.gz", "rt", encoding="utf-8").read().splitlines()
    women.write_text("\n".join(line for line in lines if json.loads(line)["supervisions"][0]["gender"] == "F"))
    cfg = configuration("stage1", tmp_path / "exp", cuts)
    setattr(cfg, f"{which}_cuts", women)
    with pytest.raises(UserError, match=r"women.jsonl: in (\d) of \1 batches no word is there by"):
        train_tone.main(cfg)
    assert not list((tmp_path / "exp").glob("*.pt"))
    cfg.check_only, cfg.exp_dir = True, tmp_path / "checked"
    with pytest.raises(UserError, match=r"women.jsonl: in .* let women and men say the same words in it"):
        train_tone.main(cfg)
    assert not cfg.exp_dir.exists()


def test_pairs_are_looked_for_without_training(cuts, tmp_path):
    train_tone.main(configuration("stage1", tmp_path / "exp", cuts, check_only=True))
    assert not (tmp_path / "exp").exists()


def test_a_batch_without_pairs_in_a_later_epoch_is_found_before_the_first(cuts, tmp_path):
    """Two of four bases were said by women alone: a batch of just these comes in one epoch of three."""
    rows = [(base, tone, gender, speaker) for base in range(4) for tone in range(2) for speaker in range(4)
            for gender in [speaker % 2] if base > 1 or not gender]  # fmt: skip
    train = Items(*np.array(rows).T)
    cfg = configuration("stage1", tmp_path, cuts)
    valid = Items(*np.array([row for row in rows if row[0] > 1]).T)
    ends = {}
    for cfg.train.seed in range(8):
        for cfg.train.epochs in (1, 30):
            try:
                train_tone.check_all_pairs(cfg, train, valid)
            except UserError:
                ends[cfg.train.seed, cfg.train.epochs] = False
            else:
                ends[cfg.train.seed, cfg.train.epochs] = True
    assert any(ends[seed, 1] for seed in range(8)) and not any(ends[seed, 30] for seed in range(8))


def test_a_recording_of_both_sets_is_refused(cuts, tmp_path):
    cfg = configuration("stage1", tmp_path / "exp", cuts)
    cfg.valid_cuts = cfg.train_cuts
    with pytest.raises(UserError, match=r"cuts_train.jsonl.gz: .* is an id of the training cuts too"):
        train_tone.main(cfg)


def test_labels_beside_checkpoints_stay_as_they_are(trained, cuts, tmp_path):
    folder = shutil.copytree(trained / "stage1", tmp_path / "stage1")
    kept = (folder / "labels.json").read_bytes()
    few = tmp_path / "few.jsonl"
    lines = gzip.open(cuts / "words_cuts_train.jsonl.gz", "rt", encoding="utf-8").read().splitlines()
    few.write_text("\n".join(line for line in lines if json.loads(line)["supervisions"][0]["custom"]["tone"] != "4"))
    cfg = configuration("stage1", folder, few.parent)
    cfg.train_cuts, cfg.valid_cuts = few, cuts / "words_cuts_dev.jsonl.gz"
    config = (folder / "config.yaml").read_text().replace(str(cuts / "words_cuts_train.jsonl.gz"), str(few))
    (folder / "config.yaml").write_text(config)
    with pytest.raises(UserError, match="was trained on words with other letters or tones than .*few.jsonl"):
        train_tone.main(cfg)
    assert (folder / "labels.json").read_bytes() == kept


def test_cuts_without_base_and_tone_are_one_line(cuts, tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"id": "a", "supervisions": [{"text": "b"}]}\n')
    cfg = configuration("stage1", tmp_path / "exp", cuts)
    cfg.train_cuts = path
    with pytest.raises(UserError, match="a has no base and tone; import isolated words"):
        train_tone.main(cfg)


def test_word_errors_count_base_and_tone_apart():
    pairs = [(Word("ka", "1"), Word("ka", "2")), (Word("ka", "1"), Word("ta", "1")), (Word("ka", "1"), Word("", "")),
             (Word("ka", "1"), Word("ka a", f"1 {MISSING}"))]
    rates = word_errors(pairs)
    assert rates == {"word": 100.0, "base": 75.0, "tone": 75.0, "cer": pytest.approx(100 * 6 / 12)}
    assert hypotheses_table(["a"], [pairs[0][0]], [pairs[0][1]]) == "id\treference\thypothesis\na\tka1\tka2\n"
