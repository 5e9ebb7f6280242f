"""The Triton kernels: the torch backend's numbers under Triton's interpreter on a CPU, and code for GPUs."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rnnt_alignments import BLANK, Batch

from icefall_ext.transducer.loss import RNNT_TYPES, backends, pruned_rnnt_loss, rnnt_loss_smoothed

ROOT = Path(__file__).parents[2]


def losses_and_gradients(backend, rnnt_type, dtype, joiner_scale=1.0, **sizes):
    batch = Batch(dtype=dtype, **sizes)
    linear = torch.nn.Linear(6, batch.vocab, dtype=dtype)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=batch.generator))
    inputs = (batch.lm, batch.am, batch.random(batch.S + 1, 6), batch.random(batch.T, 6))
    losses = pruned_rnnt_loss(
        *(*inputs, lambda am, lm: joiner_scale * linear(torch.tanh(am + lm)), batch.symbols, BLANK, 3, 0.2, 0.1),
        *(batch.boundary, rnnt_type, 0.1, "none"),
        backend=backend,
    )
    weighted = losses.simple.nan_to_num(posinf=0.0).sum() + 0.5 * losses.pruned.nan_to_num(posinf=0.0).sum()
    return [*losses, *torch.autograd.grad(weighted, (*inputs, *linear.parameters()))]


SIZES = {
    "usual": {"symbols": (5, 3, 0, 6), "frames": (12, 9, 4, 7), "vocab": 11},
    "one cell": {"symbols": (0,), "frames": (1,), "vocab": 2, "extra": (0, 0)},
    "one symbol and frame": {"symbols": (1,), "frames": (1,), "vocab": 5, "extra": (0, 0)},
    "fewer frames than symbols": {"symbols": (6, 1), "frames": (2, 3), "vocab": 17},
    "extreme logits": {"symbols": (3, 2), "frames": (5, 4), "vocab": 9, "joiner_scale": 1e4},
}


def compare_with_torch() -> None:
    """Runs in a process of its own, as Triton reads TRITON_INTERPRET when it is imported."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    from icefall_ext.transducer.loss import triton_kernels

    cases = [(name, rnnt_type, torch.float32, None) for name in SIZES for rnnt_type in RNNT_TYPES]
    cases += [("usual", "regular", torch.float64, None), ("usual", "regular", torch.float32, 4)]
    for name, rnnt_type, dtype, largest_block in cases:  # a small block: the vocabulary is read in several
        triton_kernels.LARGEST_BLOCK = largest_block or triton_kernels.LARGEST_BLOCK
        print(name, rnnt_type, dtype, largest_block, file=sys.stderr)
        expected, actual = (losses_and_gradients(b, rnnt_type, dtype, **SIZES[name]) for b in ("torch", "triton"))
        torch.testing.assert_close(actual, expected)

    logits, symbols, grads = torch.randn(7, 21).bfloat16(), torch.randint(0, 21, (7,)), torch.rand(2, 7)
    logits[2] = -torch.inf
    grads[:, 4] = 0.0
    results = []
    for cell_arcs in (triton_kernels.cell_arcs, backends.pruned.cell_arcs):
        leaf = logits.clone().requires_grad_()
        arcs = torch.stack(cell_arcs(leaf, symbols, BLANK))
        results.append((arcs, *torch.autograd.grad(arcs, leaf, grads)))
    torch.testing.assert_close(*results)


def compile_for_gpus() -> None:
    """No GPU is needed: what a kernel asks of types, shapes and shared memory fails here already."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from icefall_ext.transducer.loss import triton_kernels

    def compiled(kernel, constants, num_warps, architecture, **pointers):
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        target = GPUTarget("cuda", architecture, 32)
        return triton.compile(source, target=target, options={"num_warps": num_warps}).asm["cubin"]

    for architecture in (75, 80, 90):
        scores = {"stay": "*fp64", "move": "*fp64", "start": "*i64", "alpha": "*fp64"}
        for block, warps in ((1, 1), (64, 1), (512, 8)):
            assert compiled(triton_kernels._forward_scores, {"BLOCK": block}, warps, architecture, **scores)
        for logits, sums in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp16", "*fp32"), ("*fp64", "*fp64")):
            pointers = {"logits": logits, "logits_grad": logits, "symbols": "*i64"}
            pointers |= dict.fromkeys(("px", "py", "log_sums", "px_grad", "py_grad"), sums)
            for vocab in (500, 20000):
                launch = triton_kernels._block(vocab)
                constants = {"VOCAB": vocab, "BLOCK": launch["BLOCK"]}
                for kernel in (triton_kernels._cell_arcs, triton_kernels._cell_arcs_backward):
                    assert compiled(kernel, constants, launch["num_warps"], architecture, **pointers)


if importlib.util.find_spec("triton"):  # the k2 lane's torch comes without

    @pytest.mark.parametrize("work, interpret", [(compare_with_torch, "1"), (compile_for_gpus, "0")])
    def test_kernels(work, interpret):
        code = f"import test_rnnt_loss_triton as tests; tests.{work.__name__}()"
        path = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
        environment = {**os.environ, "TRITON_INTERPRET": interpret, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-4000:]


def test_without_a_gpu_or_triton_torch_runs_and_the_log_says_so(caplog, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backends._say.cache_clear()
    backends.why_no_triton.cache_clear()
    batch = Batch((3, 2), (4, 3))
    with caplog.at_level(logging.INFO):
        loss = rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK, backend="triton")
    reason = "the tensors are on a CPU" if importlib.util.find_spec("triton") else "Triton is not installed"
    assert len(caplog.messages) == 1 and "torch backend" in caplog.text and reason in caplog.text
    torch.testing.assert_close(
        loss, rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, BLANK, backend="torch"), rtol=0, atol=0
    )
