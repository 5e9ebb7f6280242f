"""SITA's model, objectives and augmentation: what learns and what stands still, in which stage."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from encoder_toys import KINDS, ragged_batch, toy_encoder

from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.pitch import measure_pitch
from icefall_ext.corpora.mini.speakers import make_speaker
from icefall_ext.corpora.mini.utterance import perform, recordings
from icefall_ext.corpora.mini.words import taiwanese_words
from icefall_ext.data.loading import SpeechBatch
from icefall_ext.tone.augment import augment
from icefall_ext.tone.labels import MISSING, Labels, Word
from icefall_ext.tone.losses import NoPairs, contrastive_loss, margin_loss
from icefall_ext.tone.model import WordModel, greedy_words
from icefall_ext.tone.pairs import Items, tone_pairs
from icefall_ext.tone.spec import PARTS, AugmentConfig, DistillConfig, LayerConfig, ToneLossConfig
from icefall_ext.train.tone_objective import ToneObjective

WORDS = [Word("ta", "1"), Word("ta", "2"), Word("ka", "1")]
LABELS = Labels.of(WORDS)
LENGTHS = [6000, 4000, 5000, 4400, 6200, 3600]  # every word by a woman and by a man


def toy_model(kind: str = "tiny-mel", frozen: int = 0, feature_layer: int = 1, **options) -> WordModel:
    torch.manual_seed(3)
    layers = LayerConfig(frozen, feature_layer)
    return WordModel(toy_encoder(kind, **options), layers, len(LABELS.classes), LABELS.vocab_size)


def toy_batch() -> tuple[SpeechBatch, Items]:
    waveforms, lengths = ragged_batch(LENGTHS)
    words = [word for word in WORDS for _ in range(2)]
    batch = SpeechBatch(waveforms, lengths, [LABELS.encode(word) for word in words], [f"w{n}" for n in range(6)])
    base, tone = ([0, 0, 0, 0, 1, 1], [LABELS.classes.index(word.tone) for word in words])
    return batch, Items(*map(np.array, (base, tone, [0, 1] * 3, [0, 1] * 3)))


def objective(model, part, items, teacher=None, **options) -> ToneObjective:
    return ToneObjective(model, part, lambda ids: items, ToneLossConfig(**options), AugmentConfig(), teacher)


def depths(model: WordModel) -> dict[str, int]:
    return {f"encoder.{name}": model.encoder.depth_of(name) for name, _ in model.encoder.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
def test_only_what_belongs_to_a_stage_gets_a_gradient_and_changes(kind, part):
    model = toy_model(kind, dropout=0.1)
    model.freeze_for(part)
    model.train()
    batch, items = toy_batch()
    before = copy.deepcopy(model.state_dict())
    teacher = toy_model(kind) if part in ("stage2", "single") else None
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(0)
    objective(model, part, items, teacher)(batch, 1).total.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    depth = depths(model)
    blocks = {"teacher": (2, 3), "stage1": (2,), "stage2": (3,), "single": (2, 3)}[part]
    for name, at in depth.items():
        norm_at_the_end = at == model.encoder.num_layers + 2
        may = at in blocks or (norm_at_the_end and part != "stage1")
        assert may or name not in changed, name
    for block in blocks:
        assert any(depth.get(name) == block for name in changed), block
    assert ("tone_output.weight" in changed) == (part in ("stage1", "single"))
    assert ("ctc_output.weight" in changed) == (part != "stage1")


def test_frozen_blocks_drop_nothing_out_so_embeddings_stay_as_they_are_in_stage_2():
    model = toy_model(dropout=0.5, mask_time_prob=0.0)
    waveforms, lengths = ragged_batch(LENGTHS)
    still = model.eval()(waveforms, lengths, embeddings=True, logits=False).embeddings
    model.freeze_for("stage2")
    model.train()
    torch.testing.assert_close(model(waveforms, lengths, embeddings=True, logits=True).embeddings, still)
    model.freeze_for("stage1")
    model.train()
    assert not torch.allclose(model(waveforms, lengths, embeddings=True, logits=False).embeddings, still)


def test_embeddings_are_the_same_with_and_without_what_lies_above():
    model = toy_model("tiny-xls-r")
    waveforms, lengths = ragged_batch(LENGTHS)
    alone = model(waveforms, lengths, embeddings=True, logits=False)
    both = model(waveforms, lengths, embeddings=True, logits=True)
    torch.testing.assert_close(alone.embeddings, both.embeddings)
    assert alone.logits is None and both.logits.shape[2] == LABELS.vocab_size


def test_the_share_of_anchors_with_a_partner_is_logged():
    model = toy_model()
    model.freeze_for("stage1")
    batch, items = toy_batch()
    loss = objective(model, "stage1", items)(batch, 1)
    means = {name: float(value) / loss.units for name, value in loss.terms.items()}
    assert means["speaker_anchors"] == 1 and means["tone_anchors"] == 1
    assert set(means) == {"speaker_loss", "speaker_anchors", "tone_loss", "tone_anchors", "classifier_loss",
                          "tone_accuracy"}


def test_a_batch_without_pairs_is_an_error_after_warm_up_and_counts_for_nothing_before():
    model = toy_model()
    model.freeze_for("stage1")
    batch, items = toy_batch()
    alone = Items(items.base, items.tone, np.zeros(6, dtype=int), items.speaker)  # women only
    learns = objective(model, "stage1", alone, warm_batches=5, classifier_scale=0.0)
    early = learns(batch, 5)
    early.total.backward()
    assert float(early.terms["speaker_loss"]) == 0 and float(early.terms["tone_loss"]) > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with pytest.raises(NoPairs, match="batch 6: none of its 6 words is there by the other gender"):
        learns(batch, 6)
    without = objective(model, "stage1", alone, speaker_scale=0.0)
    assert torch.isfinite(without(batch, 6).total)


def test_the_margin_loss_takes_the_place_of_the_tone_loss():
    model = toy_model(mask_time_prob=0.0)
    batch, items = toy_batch()
    model.freeze_for("stage1")
    model.eval()  # nothing is drawn
    found = [float(objective(model, "stage1", items, kind=kind, margin=0.7)(batch, 1).terms["tone_loss"]) / 6
             for kind in ("infonce", "margin")]
    with torch.no_grad():
        embeddings = model(batch.waveforms, batch.lengths, embeddings=True, logits=False).embeddings
    pairs = tone_pairs(items)
    assert found == pytest.approx([float(contrastive_loss(embeddings, pairs, 0.1)),
                                   float(margin_loss(embeddings, pairs, 0.7))], rel=1e-5)  # fmt: skip
    assert found[1] > 0


def test_a_student_equal_to_its_teacher_is_at_no_distance_and_the_teacher_does_not_learn():
    model = toy_model(mask_time_prob=0.0)
    teacher = copy.deepcopy(model)
    model.freeze_for("stage2")
    batch, items = toy_batch()
    loss = objective(model.eval(), "stage2", items, teacher)(batch, 1)
    assert float(loss.terms["teacher_loss"]) == pytest.approx(0, abs=1e-4)
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    none = ToneObjective(model, "stage2", lambda ids: items, ToneLossConfig(), AugmentConfig(), teacher,
                         DistillConfig(scale=0.0))(batch, 1)
    assert "teacher_loss" not in none.terms


def test_a_word_too_short_for_its_letters_is_left_out_and_the_others_count():
    model = toy_model()
    model.freeze_for("teacher")
    batch, items = toy_batch()
    batch.tokens[2] = [1] * 60
    loss = objective(model, "teacher", items)(batch, 1)
    assert loss.left_out == ["w2"] and torch.isfinite(loss.total)
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_best_path_is_read_without_repetitions_and_blanks():
    logits = torch.eye(4)[torch.tensor([[0, 1, 1, 0, 1, 2, 3, 3]])]
    assert greedy_words(logits, torch.tensor([8])) == [[1, 1, 2, 3]]
    assert greedy_words(logits, torch.tensor([3])) == [[1]]


# -------------------------------------------------------------------- labels


def test_words_are_spelled_in_letters_and_tones_and_read_back():
    labels = Labels.of([Word("tong", "1"), Word("hmoo daw", "b b"), Word("po", "-"), Word("ga", "b")])
    for word in (Word("tong", "1"), Word("hmoo daw", "b b"), Word("dog", "b")):
        assert labels.decode(labels.encode(word)) == word
    assert labels.encode(Word("x", "1")) is None and labels.encode(Word("tong", "9")) is None
    tong = labels.encode(Word("tong", "1"))
    assert labels.decode(tong[:-1]) == Word("tong", MISSING) and labels.decode(tong[-1:]) == Word(MISSING, "1")
    assert labels.decode([]) == Word("", "")
    assert str(Word("hmoo daw", "b b")) == "hmoo-b daw-b" and str(Word("tong", "1")) == "tong1"


# -------------------------------------------------------------------- augmentation


def spoken(tone: int, sex: int) -> torch.Tensor:
    speaker = make_speaker(1, "test", sex)
    dice = Dice("augmented", tone)
    word = next(word for word in taiwanese_words()[0] if word.tone == tone)
    performance = perform("augmented", [word.say(1.0, dice)], speaker, dice)
    (samples,) = recordings(performance, speaker, make_session(1, "a"), MICROPHONES[:1])
    return torch.from_numpy(samples.astype(np.float32) / 32768)


@pytest.mark.parametrize("tone", [1, 2, 5])
@pytest.mark.parametrize("sex", [0, 1])
def test_augmentation_leaves_the_pitch_where_it_was(tone, sex):
    speech = spoken(tone, sex)
    before = measure_pitch(speech.numpy())
    for seed in range(4):
        torch.manual_seed(seed)
        heard = augment(speech[None], torch.tensor([len(speech)]), AugmentConfig(noise_snr=[20.0, 30.0]))[0]
        assert not torch.allclose(heard, speech, rtol=0.1)
        after = measure_pitch(heard.numpy())
        both = ~np.isnan(before) & ~np.isnan(after)
        assert both.sum() > 0.7 * (~np.isnan(before)).sum()
        assert np.median(np.abs(12 * np.log2(after[both] / before[both]))) < 0.1  # semitones


def test_augmentation_is_a_function_of_the_seed_and_keeps_padding_silent():
    waveforms, lengths = ragged_batch(LENGTHS)
    torch.manual_seed(1)
    one = augment(waveforms, lengths, AugmentConfig())
    torch.manual_seed(1)
    assert torch.equal(one, augment(waveforms, lengths, AugmentConfig()))
    assert all((row[length:] == 0).all() for row, length in zip(one, LENGTHS)) and torch.isfinite(one).all()
    nothing = AugmentConfig(gain_db=0, colour_db=0, noise_prob=0)
    torch.testing.assert_close(augment(waveforms, lengths, nothing), waveforms, atol=1e-5, rtol=1e-4)


def test_silence_stays_finite_under_augmentation():
    assert torch.isfinite(augment(torch.zeros(2, 500), torch.tensor([0, 500]), AugmentConfig(noise_prob=1.0))).all()
