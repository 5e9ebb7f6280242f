import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from icefall_ext.encoders.layers import LogMel, MaskedGroupNorm, WeightNormConv1d


def random_case(dtype):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 11, dtype=dtype) * 3 + 1
    weight, bias = torch.randn(6, dtype=dtype), torch.randn(6, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (x, weight, bias)], torch.tensor([11, 7, 2, 0])


def test_masked_group_norm_is_torchs_on_each_utterance_alone_in_value_and_gradient():
    (x, weight, bias), lengths = random_case(torch.float64)
    ours = MaskedGroupNorm.apply(x, lengths, weight, bias, 1e-5)
    alone = [F.group_norm(x[i : i + 1, :, :n], 6, weight, bias, 1e-5) for i, n in enumerate(lengths) if n > 0]
    for row, expected in enumerate(alone):
        torch.testing.assert_close(ours[row : row + 1, :, : lengths[row]], expected)
    upstream = torch.randn_like(ours)
    got = torch.autograd.grad(ours, (x, weight, bias), upstream)
    total = sum((a * upstream[i : i + 1, :, : a.shape[2]]).sum() for i, a in enumerate(alone))
    for mine, theirs in zip(got, torch.autograd.grad(total, (x, weight, bias))):
        torch.testing.assert_close(mine, theirs)


def test_masked_group_norm_has_the_gradient_of_its_value():
    (x, weight, bias), lengths = random_case(torch.float64)
    assert torch.autograd.gradcheck(lambda *t: MaskedGroupNorm.apply(t[0], lengths, *t[1:], 1e-5), (x, weight, bias))


def test_masked_group_norm_in_bfloat16_keeps_its_statistics_in_float32():
    (x, weight, bias), lengths = random_case(torch.float32)
    loud = (x.detach() + 100).bfloat16()  # squares of such values leave 8 bits nothing of the variance
    ours = MaskedGroupNorm.apply(loud, lengths, weight, bias, 1e-5)
    assert ours.dtype == torch.bfloat16
    expected = MaskedGroupNorm.apply(loud.float(), lengths, weight, bias, 1e-5)
    torch.testing.assert_close(ours.float(), expected, rtol=1e-2, atol=1e-2)


def test_padding_in_group_norm_may_hold_anything():
    (x, weight, bias), lengths = random_case(torch.float32)
    dirty = x.detach().clone()
    for row, length in enumerate(lengths):
        dirty[row, :, length:] = 1e6
    clean, soiled = (MaskedGroupNorm.apply(t, lengths, weight, bias, 1e-5) for t in (x, dirty))
    torch.testing.assert_close(clean, soiled)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the older of torch's two spellings
def test_weight_norm_is_torchs():
    torch.manual_seed(0)
    ours, theirs = WeightNormConv1d(12, 8, 3), nn.Conv1d(12, 12, 8, padding=4, groups=3)
    with torch.no_grad():
        ours.weight_g.mul_(1.7)
        ours.bias.normal_()
    wrapped = nn.utils.weight_norm(theirs, dim=2)
    wrapped.load_state_dict(ours.state_dict())
    x = torch.randn(2, 12, 20)
    torch.testing.assert_close(ours(x), wrapped(x))


def test_weight_norm_can_be_copied_after_it_ran():
    ours, x = WeightNormConv1d(12, 8, 3), torch.randn(1, 12, 20)
    value = ours(x)
    torch.testing.assert_close(copy.deepcopy(ours)(x), value)


@pytest.mark.filterwarnings("ignore")  # lhotse's advice about its own manifests
@pytest.mark.parametrize("stack", [1, 2, 4])
def test_log_mel_is_kaldis_filter_bank_stacked(stack):
    from lhotse import Fbank, FbankConfig

    wave = torch.randn(1, 16000) * 0.1
    front_end = LogMel(stack, 80)
    front_end.set_statistics(torch.full((80,), 1.5), torch.full((80,), 2.0))
    expected = Fbank(FbankConfig(snip_edges=True)).extract(wave.numpy(), 16000)
    expected = (expected - 1.5) / 2.0
    whole = len(expected) // stack
    expected = np.asarray(expected[: whole * stack]).reshape(whole, stack * 80)
    torch.testing.assert_close(front_end(wave)[0].T, torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


def test_log_mel_agrees_with_torchaudios_kaldi():
    from torchaudio.compliance import kaldi

    wave = torch.randn(1, 8000) * 0.1
    expected = kaldi.fbank(wave, num_mel_bins=80, sample_frequency=16000, low_freq=20, high_freq=-400, dither=0.0)
    torch.testing.assert_close(LogMel(2, 80).energies(wave)[0], expected, rtol=1e-3, atol=1e-3)


def test_log_mel_keeps_its_statistics_in_checkpoints_and_its_constants_out():
    assert list(LogMel(2, 80).state_dict()) == ["mean", "std"] and not list(LogMel(2, 80).parameters())


def test_log_mel_is_the_same_under_autocast():
    wave, front_end = torch.randn(1, 4000), LogMel(2, 80)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = front_end(wave)
    assert torch.equal(mixed, front_end(wave))
