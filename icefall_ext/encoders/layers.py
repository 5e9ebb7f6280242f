"""Modules that torch and transformers lack, or have in a way that depends on the version."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_ext.encoders.frames import valid_positions


class WeightNormConv1d(nn.Module):
    """The positional convolution: weight = g v / |v|, the norm taken over all but the last dimension of the kernel.

    torch's own weight norm calls the parameters weight_g and weight_v in old versions and parametrizations.weight.* in
    new ones, and the old one cannot be deep-copied once it has run, which a running average of the model needs. Here
    the names are weight_g and weight_v everywhere, so checkpoints move between versions.
    """

    def __init__(self, width: int, kernel: int, groups: int):
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, kernel) * math.sqrt(4 / (kernel * width)))
        self.weight_g = nn.Parameter(_kernel_norm(self.weight_v.detach()))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / _kernel_norm(self.weight_v))
        return F.conv1d(hidden, weight, self.bias, padding=self.padding, groups=self.groups)

    @staticmethod
    def split(weight: Tensor) -> tuple[Tensor, Tensor]:
        """g and v of a kernel that was stored whole."""
        return _kernel_norm(weight), weight


def _kernel_norm(weight: Tensor) -> Tensor:
    return weight.pow(2).sum(dim=(0, 1), keepdim=True).sqrt()


class MaskedGroupNorm(torch.autograd.Function):
    """Group norm with one channel a group, over the true frames of each utterance; padding gives 0.

    torch's group norm takes mean and variance over the padding too, so an utterance comes out differently in every
    batch. Statistics are in single precision at least; only the input is kept for the backward pass, as torch does,
    because this is the largest activation of the whole model.

    x (B, C, T), lengths (B,), weight and bias (C,) -> (B, C, T).
    """

    @staticmethod
    def forward(ctx, x: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        valid = valid_positions(lengths, x.shape[2]).unsqueeze(1)
        count = lengths.clamp(min=1).view(-1, 1, 1)
        centred = precise(x).masked_fill(~valid, 0.0)  # in place from here on: this is a tensor to have once
        mean = centred.sum(dim=2, keepdim=True) / count
        centred.sub_(mean).masked_fill_(~valid, 0.0)
        variance = torch.linalg.vector_norm(centred, dim=2, keepdim=True).square() / count
        rstd = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, mean, rstd, weight, valid, count)
        scaled = centred.mul_(rstd * weight.view(1, -1, 1)).add_(bias.view(1, -1, 1))
        return scaled.masked_fill_(~valid, 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, valid, count = ctx.saved_tensors
        grad = precise(grad).masked_fill(~valid, 0.0)
        unit = precise(x).sub(mean).mul_(rstd).masked_fill_(~valid, 0.0)
        grad_bias, grad_weight = grad.sum(dim=2, keepdim=True), (grad * unit).sum(dim=2, keepdim=True)
        grad_x = grad.sub_(unit.mul_(grad_weight / count).add_(grad_bias / count))
        grad_x.mul_(rstd * weight.view(1, -1, 1)).masked_fill_(~valid, 0.0)
        per_channel = [part.sum(dim=(0, 2)).to(weight.dtype) for part in (grad_weight, grad_bias)]
        return grad_x.to(x.dtype), None, *per_channel, None


def precise(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x if x.dtype == torch.float64 else x.float()


class DenseGradient(nn.Module):
    """An activation that gets its gradient in dense memory.

    On a CPU torch 1.13 computes the gradient of GELU from memory that nobody wrote when what comes back is transposed,
    as it is behind the last convolution and behind the positional one: gradients of 1e19, or subtly wrong ones.
    """

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, hidden: Tensor) -> Tensor:
        activated = self.activation(hidden)
        if activated.requires_grad:
            activated.register_hook(torch.Tensor.contiguous)
        return activated


class LogMel(nn.Module):
    """Kaldi's log-mel energies, a few stacked to one frame, in place of the convolutions (MelHuBERT, arXiv 2211.09944).

    Windows that reach over the end are left out (Kaldi's snip-edges), so that frames do not depend on padding.
    `mean` and `std` bring the energies to a common scale; `set_statistics` replaces the defaults by those of a corpus.
    (B, N) -> (B, stack * bins, T).
    """

    def __init__(self, stack: int, bins: int):
        super().__init__()
        from lhotse.features.kaldi.layers import Wav2LogFilterBank

        self.stack = stack
        with warnings.catch_warnings():  # lhotse's manifests count a frame for the rest; nothing here does
            warnings.simplefilter("ignore")
            self.filter_bank = Wav2LogFilterBank(num_filters=bins, snip_edges=True)
        for module in self.filter_bank.modules():  # constants: no parameters of the model, not part of a checkpoint
            for name, constant in list(module._parameters.items()):
                del module._parameters[name]
                module.register_buffer(name, constant.data, persistent=False)
        self.register_buffer("mean", torch.full((bins,), -2.0))  # of speech that has variance 1
        self.register_buffer("std", torch.full((bins,), 4.0))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1e-3))

    def energies(self, waveforms: Tensor) -> Tensor:
        """(B, N) -> (B, frames of 10 ms, bins), before `mean` and `std`."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.filter_bank(waveforms.float())

    def forward(self, waveforms: Tensor) -> Tensor:
        frames = (self.energies(waveforms) - self.mean) / self.std
        whole = frames.shape[1] // self.stack
        return frames[:, : whole * self.stack].reshape(len(frames), whole, -1).transpose(1, 2)
