"""In which numbers a training computes, and the random ones that it draws."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import nn

from icefall_ext.errors import UserError


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """None is float32. A CPU computes in float32 unless asked: its bfloat16 is slower."""
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    if amp == "fp16" and device.type != "cuda":
        raise UserError("--train.amp fp16: needs a GPU; take bf16 or off")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def autocasting(device: torch.device, dtype: torch.dtype | None):
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def grad_scaler(enabled: bool):
    """torch 2.3 moved it."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def batch_seed(seed: int, batch: int) -> int:
    """For torch's generator; neighbours must not be alike, as they would be with seed + batch."""
    return int(np.random.SeedSequence((seed, batch)).generate_state(1, np.uint64)[0]) >> 1


def gradient_norm(model: nn.Module) -> float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients])))
