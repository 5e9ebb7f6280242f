"""Which code computes the loss: k2 where it imports, kernels on a GPU with Triton, plain torch everywhere.

    torch    CPU and GPU, every topology and edge case; the fastest on a CPU (benchmarks/RESULTS_loss.md)
    triton   the same steps with the recursion and the logits' normaliser as kernels: few launches on a GPU
    k2       the reference
    auto     k2 if it imports and can take the batch, else triton on a GPU, else torch

All give the same numbers. What ran is logged, once for each answer.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from icefall_ext.errors import UsageError
from icefall_ext.transducer.k2_here import why_no_k2
from icefall_ext.transducer.loss import joining, pruned, recursion

BACKENDS = ("auto", "torch", "triton", "k2")
log = logging.getLogger(__name__)


class Engine(NamedTuple):
    """Who runs the loss: k2, or ours with these two inner loops."""

    name: str
    k2: ModuleType | None = None
    scores: recursion.Scores | None = None
    cell_arcs: joining.CellArcs | None = None


def choose(backend: str, tensor: Tensor, beyond_k2: str | None = None) -> Engine:
    """The engine for `tensor`; `beyond_k2` says what k2 cannot do about this call."""
    if backend not in BACKENDS:
        raise UsageError(f"RNN-T loss backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    reason = "as asked"
    if backend in ("auto", "k2"):
        missing = why_no_k2()
        if missing and backend == "k2":
            raise UsageError(f"RNN-T loss backend k2: {missing}; backend torch gives the same numbers")
        reason = missing or beyond_k2
        if reason is None:
            _say("k2", "as asked" if backend == "k2" else "it imports")
            return Engine("k2", k2=importlib.import_module("k2"))
    if backend == "triton" or (backend == "auto" and tensor.is_cuda):
        missing = why_no_triton(tensor.is_cuda)
        if missing is None:
            from icefall_ext.transducer.loss import triton_kernels

            _say("triton", reason)
            return Engine("triton", scores=triton_kernels.forward_scores, cell_arcs=triton_kernels.cell_arcs)
        reason = missing
    _say("torch", reason)
    return Engine("torch", scores=recursion.forward_scores, cell_arcs=pruned.cell_arcs)


@functools.lru_cache
def why_no_triton(on_gpu: bool) -> str | None:
    """What stands between this tensor and a Triton kernel; None if one can run."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not hasattr(importlib.import_module("triton.language"), "gather"):
        return "this Triton is too old: it has no tl.gather"
    if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        return "the tensors are on a CPU, where Triton needs TRITON_INTERPRET=1"
    return None


@functools.lru_cache
def _say(name: str, reason: str) -> None:
    log.info("RNN-T loss: %s backend (%s)", name, reason)
