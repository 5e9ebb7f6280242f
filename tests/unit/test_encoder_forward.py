import copy

import pytest
import torch

from icefall_ext.encoders.padding import padding_effect
from icefall_ext.encoders.spec import Architecture
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError
from tests.encoder_toys import GROUP_NORM, KINDS, LAYER_NORM, LOG_MEL, ragged_batch, toy_encoder

LENGTHS = [9000, 4100, 6400, 1000]


def relative(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


# ------------------------------------------------------------------ padding


@pytest.mark.parametrize("subsampling", ["none", "concat", "conv"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_single_utterances_give(kind, subsampling):
    encoder = toy_encoder(kind, subsampling=subsampling)
    if subsampling == "conv":
        torch.nn.init.normal_(encoder.subsampling.conv.weight)
        torch.nn.init.normal_(encoder.subsampling.conv.bias)
    waveforms = [row[:n] for row, n in zip(*ragged_batch(LENGTHS))]
    assert max(padding_effect(encoder, waveforms)) < 1e-5
    frames, frame_lengths = encoder(*ragged_batch(LENGTHS))
    assert not any(row[n:].any() for row, n in zip(frames, frame_lengths)), "frames beyond the end are 0"


def test_without_the_exact_mode_padding_leaks_through_group_norm_and_only_there():
    waveforms = [row[:n] for row, n in zip(*ragged_batch(LENGTHS))]
    effects = {
        (kind, padding): max(padding_effect(toy_encoder(kind, padding=padding), waveforms))
        for kind in KINDS
        for padding in ("exact", "attention", "none")
    }
    assert effects[GROUP_NORM, "attention"] > 0.05 and effects[GROUP_NORM, "none"] > 0.05
    assert max(effects[kind, "attention"] for kind in (LAYER_NORM, LOG_MEL)) < 1e-5
    assert min(effects[kind, "none"] for kind in (LAYER_NORM, LOG_MEL)) > 0.01, "attention has to be masked too"


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_neither_value_nor_gradient(kind):
    encoder = toy_encoder(kind).double()
    outcomes = []
    for beyond, extra in ((0.0, 0), (float("nan"), 777)):
        waveforms, lengths = ragged_batch(LENGTHS, beyond)
        waveforms = torch.nn.functional.pad(waveforms, (0, extra), value=beyond)
        frames, frame_lengths = encoder(waveforms, lengths)
        outcomes.append([frames[:, : frame_lengths.max()].detach(), *gradients_of(encoder, frames.square().sum())])
    largest = max(tensor.abs().max() for tensor in outcomes[0])
    for clean, soiled in zip(*outcomes):
        torch.testing.assert_close(soiled, clean, rtol=1e-7, atol=1e-9 * largest)


def gradients_of(encoder, loss):
    encoder.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_single_precision_are_those_in_double_precision(kind):
    encoder, (waveforms, lengths) = toy_encoder(kind), ragged_batch(LENGTHS)
    single = gradients_of(encoder, encoder(waveforms, lengths)[0].square().sum())
    double = gradients_of(encoder.double(), encoder(waveforms.double(), lengths)[0].square().sum())
    largest = max(gradient.norm() for gradient in double)
    for mine, exact in zip(single, double):
        assert (mine - exact).norm() < 1e-3 * exact.norm() + 1e-6 * largest


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_one_utterance_stays_there(kind):
    encoder, (waveforms, lengths) = toy_encoder(kind), ragged_batch(LENGTHS)
    expected, frame_lengths = encoder(waveforms, lengths)
    waveforms[1, 2000] = float("nan")
    frames, _ = encoder(waveforms, lengths)
    others = [0, 2, 3]
    torch.testing.assert_close(frames[others], expected[others])
    assert frames[1, : frame_lengths[1]].isnan().any()


# ------------------------------------------------------------------ normalisation


@pytest.mark.parametrize("kind", [LAYER_NORM, LOG_MEL])
def test_normalisation_makes_level_and_offset_irrelevant_and_its_absence_does_not(kind):
    waveforms, lengths = ragged_batch([5000, 3000])
    other = waveforms * 3.0 + 0.05
    for normalize, agrees in (("true", True), ("false", False)):
        encoder = with_normalize(toy_encoder(kind), normalize == "true")
        difference = relative(encoder(other, lengths)[0], encoder(waveforms, lengths)[0])
        assert (difference < 1e-4) == agrees, (normalize, difference)


def test_group_norm_takes_level_and_offset_out_by_itself():
    """So the flag of a HuBERT base model hardly matters: what is left is the epsilon of the norm."""
    encoder, (waveforms, lengths) = toy_encoder(GROUP_NORM), ragged_batch([5000, 3000])
    waveforms = waveforms * 10  # away from the epsilon
    on, off = (with_normalize(encoder, flag)(waveforms, lengths)[0] for flag in (True, False))
    assert relative(on, off) < 2e-3


def with_normalize(encoder, flag):
    other = SpeechEncoder(Architecture.from_dict({**encoder.architecture.to_dict(), "normalize": flag}), encoder.cfg)
    other.load_state_dict(encoder.state_dict())
    return other.eval()


def test_a_silent_utterance_stays_finite():
    for kind in KINDS:
        encoder = toy_encoder(kind).train()
        frames, _ = with_normalize(encoder, True).train()(torch.zeros(2, 4000), torch.tensor([4000, 2000]))
        frames.sum().backward()
        assert torch.isfinite(frames).all()


# ------------------------------------------------------------------ layers


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_the_layers_asked_for(kind):
    encoder, (waveforms, lengths) = toy_encoder(kind), ragged_batch(LENGTHS)
    frames, frame_lengths, states = encoder(waveforms, lengths, layers=[2, 0])
    block, body = encoder.backbone.encoder.layers, encoder.backbone.encoder
    last = body.layer_norm(states[0]) if kind == LAYER_NORM else states[0]
    valid = (torch.arange(frames.shape[1]) < frame_lengths.unsqueeze(1)).unsqueeze(2)
    torch.testing.assert_close(last * valid, frames)
    stopped, stopped_lengths, (state,) = encoder(waveforms, lengths, until=1, layers=[1])
    assert torch.equal(stopped, state) and torch.equal(stopped_lengths, frame_lengths)
    calls = []
    handle = block[1].register_forward_hook(lambda *_: calls.append(1))
    encoder(waveforms, lengths, until=1)
    assert not calls, "layers above are not run"
    handle.remove()


def test_a_layer_that_is_not_there_is_named():
    encoder, (waveforms, lengths) = toy_encoder(GROUP_NORM), ragged_batch([4000])
    for options in ({"until": 3}, {"layers": [3]}, {"until": 1, "layers": [2]}, {"layers": [-1]}):
        with pytest.raises(UsageError, match="this encoder has 2 layers"):
            encoder(waveforms, lengths, **options)


def test_subsampling_starts_as_the_mean_of_two_frames():
    waveforms, lengths = ragged_batch([9000, 4100])
    full, full_lengths = toy_encoder(GROUP_NORM)(waveforms, lengths)
    half, half_lengths = toy_encoder(GROUP_NORM, subsampling="conv")(waveforms, lengths)
    pairs = torch.nn.functional.pad(full, (0, 0, 0, full.shape[1] % 2)).reshape(2, -1, 2, 32)
    torch.testing.assert_close(half, pairs.mean(2))
    assert half_lengths.tolist() == [(n + 1) // 2 for n in full_lengths.tolist()]
    concatenated, _ = toy_encoder(GROUP_NORM, subsampling="concat")(waveforms, lengths)
    assert torch.equal(concatenated, pairs.flatten(2))
    assert toy_encoder(GROUP_NORM, subsampling="concat").output_dim == concatenated.shape[2]


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient_whatever_the_masks_and_skipped_layers(kind):
    for options in ({}, {"mask_time_prob": 0.0}, {"layer_drop": 1.0, "mask_time_prob": 0.6, "mask_feature_prob": 0.3}):
        encoder = toy_encoder(kind, **options).train()
        encoder(*ragged_batch(LENGTHS))[0].sum().backward()
        assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_masks_act_in_training_only_unless_given():
    encoder, (waveforms, lengths) = toy_encoder(LAYER_NORM, mask_time_prob=0.6, dropout=0.0), ragged_batch(LENGTHS)
    plain, frame_lengths = encoder(waveforms, lengths)
    assert torch.equal(plain, encoder(waveforms, lengths)[0])
    encoder.train()
    assert relative(encoder(waveforms, lengths)[0], plain) > 0.01
    nothing = torch.zeros(plain.shape[:2], dtype=torch.bool)
    assert relative(encoder(waveforms, lengths, time_mask=nothing)[0], plain) < 1e-6
    everything = torch.ones(plain.shape[:2], dtype=torch.bool)
    hidden = encoder.eval()(waveforms, lengths, time_mask=everything)[0]
    torch.testing.assert_close(hidden, encoder(waveforms.flip(1), lengths, time_mask=everything)[0])


def test_feature_masks_silence_channels_for_a_whole_utterance():
    encoder = toy_encoder(GROUP_NORM, mask_time_prob=0.0, mask_feature_prob=0.5, mask_feature_length=4).train()
    hidden = torch.ones(3, 9, 32)
    masked = encoder._hide(hidden, torch.tensor([9, 9, 9]), None)
    assert torch.equal(masked, masked[:, :1].expand_as(masked)) and 0.2 < masked.mean() < 0.9


def test_single_syllables_can_be_trained_on():
    for kind in KINDS:
        encoder = toy_encoder(kind, mask_time_prob=0.65, mask_time_length=10).train()
        for samples in (600, 2000, 3400):
            encoder(torch.randn(2, samples), torch.tensor([samples, samples - 100]))[0].sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(kind):
    gradients = []
    for twice in (False, True):
        encoder = toy_encoder(kind, gradient_checkpointing=twice, mask_time_prob=0.3).train()
        torch.manual_seed(5)
        encoder(*ragged_batch(LENGTHS))[0].square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for plain, again in zip(*gradients):
        torch.testing.assert_close(again, plain)


def test_gradient_checkpointing_keeps_fewer_activations():
    kept = []
    for twice in (False, True):
        encoder = toy_encoder(GROUP_NORM, gradient_checkpointing=twice).train()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            encoder(*ragged_batch(LENGTHS))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_stays_close_and_finite(kind):
    encoder, batch = toy_encoder(kind), ragged_batch([*LENGTHS, 100])
    expected = encoder(*batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames, _ = encoder(*batch)
        encoder.train()(*batch)[0].float().square().mean().backward()
    assert frames.dtype == torch.float32 and relative(frames, expected) < 0.05
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_an_encoder_can_be_copied_and_averaged_after_it_ran():
    for kind in KINDS:
        encoder, batch = toy_encoder(kind), ragged_batch(LENGTHS)
        frames = encoder(*batch)[0]
        assert torch.equal(copy.deepcopy(encoder)(*batch)[0], frames)


def test_a_checkpoint_rebuilds_the_encoder_without_the_files_it_came_from():
    for kind in KINDS:
        encoder, batch = toy_encoder(kind), ragged_batch(LENGTHS)
        saved = {"model": encoder.state_dict(), "encoder": encoder.architecture.to_dict()}
        again = SpeechEncoder(Architecture.from_dict(saved["encoder"]), encoder.cfg)
        again.load_state_dict(saved["model"])
        assert torch.equal(again.eval()(*batch)[0], encoder(*batch)[0])


def test_parameter_names_do_not_depend_on_the_versions_of_torch_and_transformers():
    names = [name for name in toy_encoder(GROUP_NORM).state_dict() if "pos_conv" in name]
    assert sorted(name.rpartition(".")[2] for name in names) == ["bias", "weight_g", "weight_v"]


def test_a_length_beyond_the_batch_is_an_error():
    with pytest.raises(ValueError, match="a length of 5000 in a batch of 4000 samples"):
        toy_encoder(GROUP_NORM)(torch.zeros(1, 4000), torch.tensor([5000]))


def test_double_precision_works():
    encoder, (waveforms, lengths) = toy_encoder(GROUP_NORM), ragged_batch([4000, 2000])
    expected = encoder(waveforms, lengths)[0]
    frames = encoder.double()(waveforms.double(), lengths)[0]
    assert frames.dtype == torch.float64 and relative(frames.float(), expected) < 1e-5


# ------------------------------------------------------------------ offset


def test_an_offset_changes_raw_states_by_itself_and_nothing_that_is_computed_from_them():
    plain, shifted = toy_encoder(LAYER_NORM).double(), toy_encoder(LAYER_NORM).double()
    shifted.architecture.config["state_offset"] = 3.0
    waveforms, lengths = ragged_batch(LENGTHS)
    frames, frame_lengths, states = plain(waveforms.double(), lengths, layers=[0, 1, 2])
    others, _, raised = shifted(waveforms.double(), lengths, layers=[0, 1, 2])
    assert relative(others, frames) < 1e-4  # an epsilon stands beside the variance, not beside the mean
    for state, higher in zip(states, raised):
        for row, own, length in zip(higher, state, frame_lengths):
            assert relative(row[:length], own[:length] + 3.0) < 1e-4
