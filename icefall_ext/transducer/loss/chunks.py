"""How much of a tensor over the vocabulary is worked on at once."""

from __future__ import annotations

from torch import Tensor

CPU_ELEMENTS = 1 << 21  # 8 MB of float32: the few tensors of a chunk fit the last-level cache
GPU_ELEMENTS = 1 << 26  # 256 MB of float32: launches do not count


def chunk_length(tensor: Tensor, elements_per_row: int | None = None) -> int:
    """How many rows of `tensor`, along its first dimension, to take at once, of `elements_per_row` or its own."""
    if elements_per_row is None:
        elements_per_row = tensor.numel() // max(1, len(tensor))
    return max(1, (GPU_ELEMENTS if tensor.is_cuda else CPU_ELEMENTS) // max(1, elements_per_row))
