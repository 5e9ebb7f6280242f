from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from icefall_ext.audit import open_audit
from icefall_ext.bin import pretrain_encoder
from icefall_ext.bin.pretrain_encoder import Batches, Config, Loop, PretrainedConfig
from icefall_ext.corpora.audio_folder import Windows, write_audio_cuts
from icefall_ext.data.loading import SpeechBatch
from icefall_ext.encoders.frames import receptive_field, valid_positions
from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.pretraining import features as of
from icefall_ext.encoders.pretraining.masked_prediction import MaskedPrediction
from icefall_ext.encoders.pretraining.spec import PredictionConfig
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import open_jsonl_for_writing, read_jsonl
from icefall_ext.train.checkpoint import load_checkpoint
from icefall_ext.train.pretraining_objective import PretrainingObjective, perplexity
from tests.encoder_toys import GROUP_NORM, KINDS, LOG_MEL, ragged_batch, toy_encoder

RATE = 16000


def speech_batch(lengths: list[int], units: list[list[int]] | None = None) -> SpeechBatch:
    waveforms, counts = ragged_batch(lengths)
    return SpeechBatch(waveforms, counts, units or [[] for _ in lengths], [f"u{i}" for i in range(len(lengths))])


def units_for(encoder, lengths: Tensor, clusters: int = 12) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    counts = encoder.layer_lengths(lengths).tolist()
    return [torch.randint(clusters, (count,), generator=generator).tolist() for count in counts]


def toy_model(kind: str = LOG_MEL, **options: object) -> MaskedPrediction:
    torch.manual_seed(1)
    return MaskedPrediction(toy_encoder(kind, dropout=0.0), PredictionConfig(clusters=12, code_dim=16, **options))


# -------------------------------------------------------------------- features


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_of_the_encoder_has_features(kind):
    encoder = toy_encoder(kind)
    lengths = [399, 400, 559, 560, 719, 720, 879, 880, 4000, 16000, 16001, 16319]
    for features in (of.Mfcc(encoder), of.HiddenLayer(encoder, 1)):
        batch = speech_batch(lengths)
        assert [len(f) for f in features(batch)] == encoder.layer_lengths(batch.lengths).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_click_is_in_the_features_of_the_frames_that_hear_it(kind):
    """Without differences, which reach further: the first 13 alone."""
    encoder = toy_encoder(kind, normalize="false")
    encoder.architecture = replace(encoder.architecture, normalize=False)
    config = encoder.architecture.config
    stride, field = int(np.prod(config["conv_stride"])), receptive_field(config["conv_kernel"], config["conv_stride"])
    quiet = 0.01 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(1))
    for place in (5000, 8123, 11000):
        click = quiet.clone()
        click[0, place] = 1.0
        both = [of.Mfcc(encoder)(SpeechBatch(w, torch.tensor([RATE]), [[]], ["u"]))[0][:, :13] for w in (quiet, click)]
        heard = (both[0] != both[1]).any(1).nonzero().squeeze(1).tolist()
        frames = [t for t in range(len(both[0])) if stride * t <= place < stride * t + field]
        assert heard and set(heard) <= set(frames)


def test_mfcc_are_those_of_kaldi_for_every_second_frame():
    torchaudio = pytest.importorskip("torchaudio")  # in both lanes; only a user's own installation may lack it
    encoder = toy_encoder(GROUP_NORM)
    batch = speech_batch([16000, 9000])
    for waveform, length, ours in zip(batch.waveforms, batch.lengths, of.Mfcc(encoder)(batch)):
        cepstra = torchaudio.compliance.kaldi.mfcc(waveform[None, :length] * 32768, use_energy=False).T
        first = torchaudio.functional.compute_deltas(cepstra)
        kaldi = torch.cat([cepstra, first, torchaudio.functional.compute_deltas(first)]).T[::2]
        torch.testing.assert_close(ours, kaldi, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_the_batch(kind):
    encoder = toy_encoder(kind)
    batch = speech_batch([16000, 9000])
    alone = SpeechBatch(batch.waveforms[1:, :9000], batch.lengths[1:], [[]], ["u1"])
    for features in (of.Mfcc(encoder), of.HiddenLayer(encoder, 2)):
        torch.testing.assert_close(features(batch)[1], features(alone)[0], atol=1e-4, rtol=1e-4)


def test_energies_get_mean_0_and_deviation_1_over_true_frames():
    encoder = toy_encoder(LOG_MEL)
    of.fit_log_mel(encoder, [speech_batch([16000, 9040]), speech_batch([7000])])
    scaled = []
    for batch in (speech_batch([16000, 9040]), speech_batch([7000])):
        prepared = encoder.prepared(batch.waveforms, batch.lengths)
        energies = encoder.backbone.feature_extractor.energies(prepared)
        log_mel = encoder.backbone.feature_extractor
        for row, length in zip(energies, batch.lengths.tolist()):
            scaled.append((row[: (length - 400) // 160 + 1] - log_mel.mean) / log_mel.std)
    scaled = torch.cat(scaled)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(scaled.std(0, unbiased=False), torch.ones(80), atol=1e-3, rtol=0)


# -------------------------------------------------------------------- loss


@pytest.mark.parametrize("kind", KINDS)
def test_only_hidden_frames_are_in_the_loss(kind):
    model = toy_model(kind)
    waveforms, lengths = ragged_batch([16000, 9000])
    units = units_for(model.encoder, lengths)
    torch.manual_seed(4)
    hidden = model._hidden(model.encoder.layer_lengths(lengths))
    losses = []
    for changed in (None, ~hidden, hidden):
        other = [list(row) for row in units]
        for row, column in changed.nonzero().tolist() if changed is not None else ():
            if column < len(other[row]):
                other[row][column] = (other[row][column] + 1) % 12
        torch.manual_seed(4)
        losses.append(float(model(waveforms, lengths, other).masked_loss.detach()))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_is_not_heard(kind):
    """An encoder that sees its own frame would learn to copy."""
    model = toy_model(kind, mask_prob=1.0, mask_seconds=0.1)
    waveforms, lengths = ragged_batch([16000])
    everything = torch.ones(1, int(model.encoder.layer_lengths(lengths)), dtype=torch.bool)
    model._hidden = lambda frame_lengths: everything
    units = units_for(model.encoder, lengths)
    other = ragged_batch([16000], seed=9)[0]
    losses = [model(audio, lengths, units).masked_loss.detach() for audio in (waveforms, other)]
    assert float(losses[0]) == float(losses[1])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_neither_loss_nor_gradient(kind):
    model = toy_model(kind, unmasked_weight=0.5)
    waveforms, lengths = ragged_batch([16000, 9000])
    units = units_for(model.encoder, lengths)
    results = []
    for padded in (waveforms, torch.nn.functional.pad(waveforms, (0, 5000), value=7.0)):
        model.zero_grad()
        torch.manual_seed(4)
        losses = model(padded, lengths, units)
        (losses.masked_loss + losses.unmasked_loss + losses.feature_square).backward()
        results.append((losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (first, gradients), (second, padded_gradients) = results
    torch.testing.assert_close(second.masked_loss, first.masked_loss)
    torch.testing.assert_close(second.feature_square, first.feature_square)
    assert torch.equal(second.predicted, first.predicted)
    torch.testing.assert_close(padded_gradients, gradients, atol=1e-3, rtol=1e-3)


def test_the_loss_is_that_of_the_paper():
    model = toy_model(temperature=0.2)
    waveforms, lengths = ragged_batch([16000, 9000])
    units = units_for(model.encoder, lengths)
    torch.manual_seed(4)
    losses = model(waveforms, lengths, units)
    torch.manual_seed(4)
    hidden = model._hidden(model.encoder.layer_lengths(lengths))
    frames, _ = model.encoder(waveforms, lengths, time_mask=hidden)
    expected = 0.0
    for row, column in hidden.nonzero().tolist():
        output = model.projection(frames[row, column])
        similar = torch.stack([torch.cosine_similarity(output, code, dim=0) for code in model.codes]) / 0.2
        expected -= float(similar.log_softmax(0)[units[row][column]].detach())
    assert float(losses.masked_loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_masks_last_as_long_at_any_frame_rate():
    assert toy_model(GROUP_NORM).mask_frames == 10
    encoder = build_encoder(EncoderConfig(source="random:mel-mini"))
    model = MaskedPrediction(encoder, PredictionConfig())
    assert model.mask_frames * encoder.samples_per_frame == pytest.approx(0.2 * RATE, abs=encoder.samples_per_frame / 2)


def test_an_utterance_that_a_mask_would_cover_teaches_nothing_and_breaks_nothing():
    model = toy_model().train()
    batch = speech_batch([2000, 100])
    batch = replace(batch, tokens=units_for(model.encoder, batch.lengths))
    loss = PretrainingObjective(model)(batch, 1)
    loss.total.backward()
    assert loss.units == 0 and float(loss.total.detach()) == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_units_that_do_not_fit_the_frames_are_refused():
    model = toy_model()
    waveforms, lengths = ragged_batch([16000])
    with pytest.raises(ValueError, match="units for"):
        model(waveforms, lengths, [[1, 2, 3]])


def test_validation_hides_the_same_frames_every_time():
    model = toy_model().eval()
    batch = speech_batch([16000, 9000])
    batch = replace(batch, tokens=units_for(model.encoder, batch.lengths))
    objective = PretrainingObjective(model)
    torch.manual_seed(1)
    first = objective(batch, 1)
    torch.manual_seed(2)
    assert torch.equal(objective(batch, 1).total, first.total) and first.units > 0


def test_penalty_is_the_mean_square_of_learnt_convolutions_alone():
    model = toy_model(GROUP_NORM)
    waveforms, lengths = ragged_batch([16000, 9000])
    units = units_for(model.encoder, lengths)
    features = model.encoder._features(waveforms, lengths).transpose(1, 2)
    counts = model.encoder.layer_lengths(lengths)
    expected = features[valid_positions(counts, features.shape[1])].square().mean()
    torch.testing.assert_close(model(waveforms, lengths, units).feature_square, expected)
    assert float(toy_model(LOG_MEL)(waveforms, lengths, units_for(toy_encoder(LOG_MEL), lengths)).feature_square) == 0.0


def test_perplexity_counts_units_that_are_equally_frequent():
    assert float(perplexity(torch.tensor([5, 5, 5, 0]))) == pytest.approx(3.0)
    assert float(perplexity(torch.tensor([0, 7]))) == pytest.approx(1.0)


def test_predictions_that_collapse_are_said(monkeypatch, capsys):
    objective = PretrainingObjective(toy_model())
    monkeypatch.setattr("icefall_ext.train.pretraining_objective._WATCH_EVERY", 3)
    everything, one = torch.arange(12), torch.zeros(12, dtype=torch.int64)
    for _ in range(3):
        objective._watch(everything, everything)
    assert "warning" not in capsys.readouterr().out
    for _ in range(3):
        objective._watch(one, everything)
    assert "perplexity of 1.0, the units 12.0" in capsys.readouterr().out


# -------------------------------------------------------------------- the program


@pytest.fixture(scope="module")
def cuts(tmp_path_factory) -> Path:
    """Utterances of four sounds in a fixed order, so that what is hidden follows from what is seen."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(0)
    time = np.arange(int(0.12 * RATE)) / RATE
    sounds = [np.sign(np.sin(2 * np.pi * 130 * time)) * np.sin(2 * np.pi * f * time) for f in (400, 1000, 2200, 4500)]
    for speaker in range(2):
        (folder / f"S{speaker}").mkdir()
        for number in range(8):
            first = int(random.integers(4))
            audio = np.concatenate([sounds[(first + i) % 4] for i in range(8 + number % 4)])
            audio = 0.2 * audio + 0.01 * random.standard_normal(len(audio))
            soundfile.write(folder / f"S{speaker}/{number}.wav", audio, RATE)
    path = folder / "cuts.jsonl.gz"
    with open_jsonl_for_writing(path) as writer, open_audit(folder / "audit.tsv") as audit:
        write_audio_cuts(folder, Windows(0.5, 20.0), writer, audit, nj=1)
    return path


def config(folder: Path, manifest: Path, **options: object) -> Config:
    loop = dict(epochs=2, lr=0.03, lr_warmup=4.0, log_every=1) | options.pop("train", {})
    cfg = Config(
        exp_dir=folder / "training", out_dir=folder / "encoder", cuts=[manifest],
        batch=Batches(max_duration=6.0), max_seconds=5.0, valid_share=0.2, threads=1, workers=0,
        encoder=PretrainedConfig(source="random:tiny-mel"), prediction=PredictionConfig(clusters=8, code_dim=16),
        train=Loop(**loop),
    )
    return replace(cfg, **options)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rows(folder: Path, kind: str, iteration: int = 1) -> list[dict]:
    path = folder / f"training/iteration-{iteration}/log/metrics.jsonl"
    return [row for row in read_jsonl(path) if row["kind"] == kind]


def test_what_is_hidden_is_learnt(tmp_path, cuts):
    pretrain_encoder.main(config(tmp_path, cuts, train={"epochs": 25}))
    facts = json.loads((tmp_path / "encoder/pretraining.json").read_text())
    valid = rows(tmp_path, "valid")
    assert valid[-1]["loss"] < 0.8 * valid[0]["loss"]
    assert facts["accuracy"] > 2 * facts["guess"] and facts["perplexity"] > 3


def test_the_encoder_is_a_source_like_any_other(tmp_path, cuts):
    pretrain_encoder.main(config(tmp_path, cuts))
    encoder = build_encoder(EncoderConfig(source=str(tmp_path / "encoder"))).eval()
    saved = load_checkpoint(tmp_path / "training/iteration-1/epoch-2.pt")["model"]
    assert torch.equal(saved["encoder.backbone.feature_extractor.mean"], encoder.backbone.feature_extractor.mean)
    assert not torch.equal(encoder.backbone.feature_extractor.mean, torch.full((80,), -2.0))
    frames, lengths = encoder(*ragged_batch([16000, 9000]))
    assert frames.shape[2] == 32 and torch.isfinite(frames).all()


def test_a_training_that_was_stopped_goes_on_as_if_nothing_had_happened(tmp_path, cuts):
    pretrain_encoder.main(config(tmp_path / "whole", cuts, train={"epochs": 3}))
    pretrain_encoder.main(config(tmp_path / "parts", cuts, train={"epochs": 1}))
    pretrain_encoder.main(config(tmp_path / "parts", cuts, train={"epochs": 3}))
    for kind in ("train", "valid"):
        ours, theirs = ([(r["batch"], r["loss"]) for r in rows(tmp_path / run, kind)] for run in ("whole", "parts"))
        assert ours == theirs and len(ours) >= 3
    whole, parts = (load_checkpoint(tmp_path / run / "training/iteration-1/epoch-3.pt") for run in ("whole", "parts"))
    for name, value in whole["model"].items():
        assert torch.equal(value, parts["model"][name]), name


def test_a_second_run_of_the_same_command_labels_and_trains_nothing(tmp_path, cuts, monkeypatch):
    pretrain_encoder.main(config(tmp_path, cuts))
    before = (tmp_path / "encoder/model.safetensors").read_bytes()
    monkeypatch.setattr(of.Mfcc, "forward", lambda *_: pytest.fail("made units again"))
    pretrain_encoder.main(config(tmp_path, cuts))
    assert (tmp_path / "encoder/model.safetensors").read_bytes() == before


def test_the_second_iteration_learns_units_of_the_first_encoder(tmp_path, cuts, capsys):
    pretrain_encoder.main(config(tmp_path, cuts, iterations=2, layer=2))
    assert "of layer 2 of 2" in capsys.readouterr().out
    first, second = (np.load(tmp_path / f"training/iteration-{n}/data/train/tokens.npy") for n in (1, 2))
    assert len(first) == len(second) and (first != second).any()
    assert json.loads((tmp_path / "encoder/pretraining.json").read_text())["iteration"] == 2
    starts = [rows(tmp_path, "train", iteration)[0]["loss"] for iteration in (1, 2)]
    assert starts[1] > 0.8 * starts[0]  # from nothing again, not from the first encoder


def test_a_raw_waveform_encoder_is_trained_by_the_same_program(tmp_path, cuts):
    pretrain_encoder.main(config(tmp_path, cuts, encoder=PretrainedConfig(source="random:tiny"), train={"epochs": 1}))
    assert rows(tmp_path, "train")[0]["feature_square"] > 0
    assert build_encoder(EncoderConfig(source=str(tmp_path / "encoder"))).architecture.model_type == "hubert"


def test_units_lie_beside_the_frames_that_they_were_made_of(tmp_path, cuts):
    cfg = config(tmp_path, cuts)
    pretrain_encoder.main(cfg)
    encoder = build_encoder(EncoderConfig(source="random:tiny-mel"))
    centroids = torch.from_numpy(np.load(tmp_path / "training/iteration-1/data/centroids.npy"))
    from icefall_ext.data.index import CutIndex
    from icefall_ext.data.loading import load_batches

    index = CutIndex.open(tmp_path / "training/iteration-1/data/train")
    (batch,) = load_batches(index, [np.arange(4)])
    for units, frames in zip(batch.tokens, of.Mfcc(encoder)(batch)):
        assert units == torch.cdist(frames, centroids).argmin(1).tolist()


@pytest.mark.parametrize("options, error, message", [
    ({"prediction": PredictionConfig(clusters=5000)}, UserError, "frames for 5000 clusters"),
    ({"max_seconds": 0.6}, UsageError, "nothing lies between"),
    ({"min_seconds": 4.0}, UserError, "no utterance to use"),
    ({"valid_share": 1e-9}, UserError, "none is left to validate on"),
    ({"encoder": PretrainedConfig(source="random:tiny-mel", subsampling="conv")}, UsageError, "full frame rate"),
    ({"iterations": 2, "layer": 9}, UsageError, "has 2 layers"),
    ({"cuts": [Path("nowhere.jsonl.gz")]}, UserError, "prepare_audio_cuts"),
])
def test_wrong_input_is_one_line_before_anything_is_trained(tmp_path, cuts, options, error, message):
    with pytest.raises(error, match=message):
        pretrain_encoder.main(config(tmp_path, cuts, **options))
    assert not list(tmp_path.rglob("*.pt")) and not (tmp_path / "encoder").exists()


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path, cuts):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not made by this program"):
        pretrain_encoder.main(config(tmp_path, cuts))


def test_one_utterance_in_two_manifests_is_refused(tmp_path, cuts):
    with pytest.raises(UserError, match="is also in"):
        pretrain_encoder.main(config(tmp_path, cuts, cuts=[cuts, cuts]))


def test_the_program_says_its_options_quickly_and_without_torch():
    code = ("import sys; from icefall_ext.bin import pretrain_encoder; "
            "print('torch' in sys.modules, 'lhotse' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
