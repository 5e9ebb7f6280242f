"""Our forward against transformers' own: the same weights, read by each from the same folder."""

import json

import pytest
import torch

from icefall_ext.encoders.load import build_encoder, save_encoder
from icefall_ext.encoders.spec import EncoderConfig
from tests.encoder_toys import GROUP_NORM, LAYER_NORM, ragged_batch, toy_encoder

LENGTHS = [9000, 6400, 1000]


def transformers_model(folder, kind):
    from transformers import HubertModel, Wav2Vec2Model

    return (HubertModel if kind == GROUP_NORM else Wav2Vec2Model).from_pretrained(folder).eval()


def true_frames(frames, lengths):
    return torch.cat([row[:n] for row, n in zip(frames, lengths)])


@pytest.fixture(params=[GROUP_NORM, LAYER_NORM])
def pair(request, tmp_path):
    """transformers' model, the folder it is in, and its input (normalised by transformers' own feature extractor)."""
    save_encoder(toy_encoder(request.param), tmp_path / "model")
    waveforms, lengths = ragged_batch(LENGTHS)
    return request.param, tmp_path / "model", transformers_model(tmp_path / "model", request.param), waveforms, lengths


def extracted(folder, waveforms, lengths):
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    rows = [row[:n].numpy() for row, n in zip(waveforms, lengths)]
    out = extractor(rows, sampling_rate=16000, padding=True, return_attention_mask=True, return_tensors="pt")
    return out.input_values, out.attention_mask


@torch.no_grad()
def test_single_utterances_agree(pair):
    kind, folder, theirs, waveforms, lengths = pair
    for padding in ("exact", "attention", "none"):
        ours = build_encoder(EncoderConfig(source=str(folder), padding=padding)).eval()
        for row, length in zip(waveforms, lengths):
            inputs, _ = extracted(folder, row.unsqueeze(0), [length])
            expected = theirs(inputs).last_hidden_state
            frames, frame_lengths = ours(row[:length].unsqueeze(0), length.unsqueeze(0))
            assert frame_lengths.tolist() == [expected.shape[1]]
            torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_batches_agree_in_the_mode_that_transformers_has(pair):
    """With its attention mask that is `attention` (for layer norm also `exact`), without it `none`."""
    kind, folder, theirs, waveforms, lengths = pair
    inputs, mask = extracted(folder, waveforms, lengths)
    for padding, with_mask in (("attention", True), ("none", False), ("exact", True)):
        if padding == "exact" and kind == GROUP_NORM:
            continue  # transformers has nothing like it
        ours = build_encoder(EncoderConfig(source=str(folder), padding=padding)).eval()
        frames, frame_lengths = ours(waveforms, lengths)
        expected = theirs(inputs, attention_mask=mask if with_mask else None).last_hidden_state
        torch.testing.assert_close(
            true_frames(frames, frame_lengths), true_frames(expected, frame_lengths), rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_hidden_states_agree(pair):
    kind, folder, theirs, waveforms, lengths = pair
    inputs, mask = extracted(folder, waveforms, lengths)
    expected = theirs(inputs, attention_mask=mask, output_hidden_states=True).hidden_states
    ours = build_encoder(EncoderConfig(source=str(folder), padding="attention")).eval()
    _, frame_lengths, states = ours(waveforms, lengths, layers=[0, 1])
    assert torch.equal(frame_lengths, theirs._get_feat_extract_output_lengths(lengths))
    for mine, other in zip(states, expected):
        mine, other = true_frames(mine, frame_lengths), true_frames(other, frame_lengths)
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_gradients_agree(pair):
    kind, folder, theirs, waveforms, lengths = pair
    ours = build_encoder(EncoderConfig(source=str(folder), padding="attention")).eval().double()
    inputs, mask = extracted(folder, waveforms, lengths)
    frames, frame_lengths = ours(waveforms.double(), lengths)
    true_frames(frames, frame_lengths).square().sum().backward()
    expected = theirs.double()(inputs.double(), attention_mask=mask).last_hidden_state
    true_frames(expected, frame_lengths).square().sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in gradients.values() if gradient is not None)
    for name, parameter in ours.backbone.named_parameters():
        if "pos_conv_embed.conv.weight" not in name and name != "masked_spec_embed":  # named by version; not used
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6 * largest)


@torch.no_grad()
def test_what_transformers_saves_we_read(pair, tmp_path):
    kind, folder, theirs, waveforms, lengths = pair
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "preprocessor_config.json").write_text(json.dumps({"do_normalize": kind == LAYER_NORM}))
    ours = build_encoder(EncoderConfig(source=str(folder))).eval()
    again = build_encoder(EncoderConfig(source=str(tmp_path / "theirs"))).eval()
    torch.testing.assert_close(again(waveforms, lengths)[0], ours(waveforms, lengths)[0])
    assert again.architecture == ours.architecture


@torch.no_grad()
def test_a_model_with_a_ctc_head_is_read_too(pair, tmp_path, capsys):
    from transformers import HubertForCTC, Wav2Vec2ForCTC

    kind, folder, theirs, waveforms, lengths = pair
    with_head = (HubertForCTC if kind == GROUP_NORM else Wav2Vec2ForCTC).from_pretrained(folder)
    with_head.save_pretrained(tmp_path / "ctc")
    again = build_encoder(EncoderConfig(source=str(tmp_path / "ctc"), normalize=str(kind == LAYER_NORM))).eval()
    assert "left out: lm_head.bias, lm_head.weight" in capsys.readouterr().out
    torch.testing.assert_close(
        again(waveforms, lengths)[0], build_encoder(EncoderConfig(source=str(folder))).eval()(waveforms, lengths)[0]
    )
