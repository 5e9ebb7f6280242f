import pytest
import torch
from torch.nn import functional as F

from icefall_ext.encoders.frames import conv_lengths, receptive_field, span_mask
from icefall_ext.encoders.spec import named_size
from tests.encoder_toys import KINDS, LOG_MEL, toy_encoder

STACK = named_size("hubert-base").config["conv_kernel"], named_size("hubert-base").config["conv_stride"]


def frames_by_convolution(samples: int, kernels: list[int], strides: list[int]) -> int:
    signal = torch.zeros(1, 1, samples)
    for kernel, stride in zip(kernels, strides):
        if signal.shape[2] < kernel:
            return 0
        signal = F.conv1d(signal, torch.zeros(1, 1, kernel), stride=stride)
    return signal.shape[2]


def test_lengths_are_those_of_the_convolutions_for_every_number_of_samples():
    samples = torch.arange(0, 1800)
    expected = [frames_by_convolution(int(n), *STACK) for n in samples]
    assert conv_lengths(samples, *STACK).tolist() == expected
    assert receptive_field(*STACK) == 400 == expected.index(1)


@pytest.mark.parametrize("subsampling", ["none", "concat", "conv"])
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_in_a_batch_are_those_of_really_running_each_utterance_alone(kind, subsampling):
    encoder = toy_encoder(kind, subsampling=subsampling)
    needed = receptive_field(*(encoder.architecture.config[key] for key in ("conv_kernel", "conv_stride")))
    lengths = torch.tensor([needed, needed + 319, needed + 320, 2399, 2400, 2401, 3333, 4000])
    with torch.no_grad():
        _, together = encoder(torch.randn(len(lengths), 4000), lengths)
        alone = [encoder(torch.randn(1, int(n)), torch.tensor([n]))[0].shape[1] for n in lengths]
    assert together.tolist() == alone == encoder.output_lengths(lengths).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_shorter_than_the_receptive_field_has_length_0_and_finite_frames(kind):
    encoder = toy_encoder(kind).train()
    for lengths in ([5, 0, 399], [4000, 0, 10]):
        frames, frame_lengths = encoder(torch.randn(3, max(lengths)), torch.tensor(lengths))
        assert frame_lengths.tolist() == [conv_lengths(torch.tensor(lengths), *shape_of(encoder)).tolist()[0], 0, 0]
        assert frames.shape[1] >= 1 and torch.isfinite(frames).all() and not frames[1:].any()
        frames.sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def shape_of(encoder):
    return encoder.architecture.config["conv_kernel"], encoder.architecture.config["conv_stride"]


def test_log_mel_frames_lie_20_ms_apart_like_those_of_the_convolutions():
    assert toy_encoder(LOG_MEL).samples_per_frame == toy_encoder("tiny").samples_per_frame == 320
    assert toy_encoder("tiny", subsampling="conv").samples_per_frame == 640


def test_spans_have_the_share_that_transformers_gives_them():
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    torch.manual_seed(0)
    for prob, span in ((0.05, 10), (0.3, 10), (0.65, 10), (0.5, 64)):
        ours = span_mask(torch.full((400,), 500), 500, prob, span).float().mean().item()
        theirs = torch.tensor([_compute_mask_indices((1, 500), prob, span).mean() for _ in range(400)]).mean().item()
        assert ours == pytest.approx(theirs, abs=0.015), (prob, span)


def test_spans_are_whole_inside_the_utterance_and_leave_something_to_see():
    torch.manual_seed(0)
    lengths = torch.tensor([0, 1, 5, 10, 11, 12, 25, 40] * 40)
    mask = span_mask(lengths, 40, 0.8, 10)
    hidden = mask.sum(1)
    assert not any(row[length:].any() for row, length in zip(mask, lengths))
    assert not hidden[lengths <= 10].any(), "an utterance that one span would cover gets none"
    assert (hidden[(lengths > 10) & (lengths < 20)] < lengths[(lengths > 10) & (lengths < 20)]).all()
    assert hidden[lengths == 11].max() == 10 and set(hidden.tolist()) - {0} == {n for n in hidden.tolist() if n >= 10}
    assert 0.4 < hidden[lengths == 40].float().mean() / 40 < 0.8


def test_masks_follow_the_random_state_that_a_checkpoint_saves():
    state, lengths = torch.random.get_rng_state(), torch.tensor([30, 50])
    first = span_mask(lengths, 50, 0.5, 5)
    torch.random.set_rng_state(state)
    assert torch.equal(first, span_mask(lengths, 50, 0.5, 5))
    assert not torch.equal(first, span_mask(lengths, 50, 0.5, 5))


def test_no_probability_means_no_mask():
    assert not span_mask(torch.full((200,), 100), 100, 0.0, 10).any()
