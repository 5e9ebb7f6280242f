"""The model that recipes train: its size, its losses, and what is handed from one phase to the next."""

from __future__ import annotations

import pytest
import torch

from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from icefall_ext.train.config import LossConfig
from icefall_ext.train.handover import OF_THE_VOCABULARY, hand_over
from icefall_ext.train.restore import build_from_system
from icefall_ext.train.transducer_objective import TransducerObjective
from icefall_ext.transducer.model import TransducerModel, frames_for_ctc, pad_tokens
from icefall_ext.transducer.spec import ModelConfig


def tiny(vocab_size=30, seed=0, source="random:tiny-mel", **options) -> TransducerModel:
    torch.manual_seed(seed)
    cfg = ModelConfig(**({"predictor_dim": 16, "joiner_dim": 16} | options))
    encoder = build_encoder(EncoderConfig(source=source, dropout=0.0, mask_time_prob=0.0))
    return TransducerModel(encoder, cfg, vocab_size)


def batch():
    torch.manual_seed(3)
    return torch.randn(3, 16000) * 0.1, torch.tensor([16000, 9000, 12000]), [[5, 6, 6, 7], [9], [4, 8, 4]]


@pytest.mark.parametrize(("vocab_size", "millions"), [(500, 95.4), (1000, 96.2)])
def test_the_papers_model_has_96_million_parameters(vocab_size, millions):
    with torch.device("meta") if hasattr(torch, "device") and torch.__version__ >= "2" else torch.no_grad():
        encoder = build_encoder(EncoderConfig(source="random:hubert-base"))
        model = TransducerModel(encoder, ModelConfig(ctc=False), vocab_size)
    name, count, trained = model.parameter_table()[-1]
    assert name == "model" and count == trained and count / 1e6 == pytest.approx(millions, abs=0.2)


def test_the_table_of_parameters_adds_up():
    model = tiny()
    rows = {name: count for name, count, _ in model.parameter_table()}
    parts = ("encoder", "predictor", "joiner", "simple projections", "CTC head")
    assert sum(rows[part] for part in parts) == rows["model"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, {"predictor": "lstm"}, {"context_size": 4}, {"ctc": False}, {"joiner_dim": 8}])
def test_losses_do_not_depend_on_the_batch(options):
    model = tiny(**options).eval()
    audio, lengths, tokens = batch()
    together = model(audio, lengths, tokens)
    for i in range(3):
        alone = model(audio[i : i + 1, : lengths[i]], lengths[i : i + 1], tokens[i : i + 1])
        for name in ("simple", "pruned", "ctc"):
            if getattr(together, name) is not None:
                torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns():
    model = tiny().train()
    audio, lengths, tokens = batch()
    losses = model(audio, lengths, tokens)
    (losses.simple + losses.pruned + losses.ctc).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert still in ([], ["encoder.backbone.masked_spec_embed"]), "no frame was masked here"


def test_ctc_needs_a_frame_for_each_token_and_one_between_two_alike():
    symbols, lengths = pad_tokens([[5, 6, 6, 7], [9], [4, 4, 4]], torch.device("cpu"))
    assert frames_for_ctc(symbols, lengths).tolist() == [5, 1, 5]


def test_too_many_tokens_are_an_infinite_loss_without_a_gradient():
    model = tiny()
    losses = model(torch.randn(1, 3200) * 0.1, torch.tensor([3200]), [list(range(3, 29)) * 2])
    assert torch.isinf(losses.ctc).all()
    objective = TransducerObjective(model, LossConfig())
    from icefall_ext.data.loading import SpeechBatch

    loss = objective(SpeechBatch(torch.randn(1, 3200), torch.tensor([3200]), [list(range(3, 29)) * 2], ["a"]), 1)
    assert loss.left_out == ["a"] and loss.units == 0 and loss.total.item() == 0.0


def test_the_weights_of_the_losses_move_while_warming_up():
    objective = TransducerObjective(tiny(), LossConfig(simple_scale=0.5, ctc_scale=0.2, warm_batches=100))
    assert objective.scales(100) == objective.scales(10**9) == {"simple_loss": 0.5, "pruned_loss": 1.0, "ctc_loss": 0.2}
    assert objective.scales(50) == pytest.approx({"simple_loss": 0.75, "pruned_loss": 0.55, "ctc_loss": 0.2})


def test_a_model_is_built_again_from_what_its_checkpoint_says():
    model = tiny(predictor="lstm", lstm_layers=2)
    again = build_from_system(model.to_dict())
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize("same_tokens", [False, True])
def test_a_hand_over_rebuilds_the_layers_of_the_vocabulary_even_where_sizes_agree(same_tokens, capsys):
    earlier, later = tiny(seed=1), tiny(seed=2)
    fresh = {name: value.clone() for name, value in later.state_dict().items()}
    hand_over(later, earlier.state_dict(), same_tokens, "phase1/epoch-3.pt")
    for name, value in later.state_dict().items():
        kept = name.startswith(OF_THE_VOCABULARY) and not same_tokens
        assert torch.equal(value, fresh[name] if kept else earlier.state_dict()[name]), name
    printed = capsys.readouterr().out
    assert "phase1/epoch-3.pt" in printed and "loaded" in printed and "reset" in printed
    assert ("rebuilt" in printed) is not same_tokens


def test_a_hand_over_to_another_vocabulary_and_predictor_takes_the_encoder_along(capsys):
    earlier, later = tiny(vocab_size=30, seed=1), tiny(vocab_size=40, predictor="lstm", seed=2)
    hand_over(later, earlier.state_dict(), False, "earlier")
    ours, theirs = later.encoder.state_dict(), earlier.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "left out" in capsys.readouterr().out


def test_an_encoder_that_does_not_fit_is_an_error_and_not_a_random_encoder():
    earlier = tiny(source="random:tiny")
    with pytest.raises(UserError, match="tensors of the encoder.*is it of another encoder"):
        hand_over(tiny(), earlier.state_dict(), False, "earlier")


@pytest.mark.parametrize(
    "options", [{"context_size": 0}, {"prune_range": 1}, {"lm_scale": 0.7, "am_scale": 0.5}, {"joiner_dim": 0}]
)
def test_settings_that_no_model_can_have_are_refused(options):
    with pytest.raises(UsageError):
        tiny(**options)
