"""Many tensors as the rows of one vector, so that a step launches kernels per operation and not per tensor.

Rows are ordered by their number of elements, scalars first. Rows of one length are a block, seen as a matrix where
something is done per row; what is done per element is done for the whole vector, or on a CPU for pieces of it that stay
in the cache.

State is kept where icefall keeps it, so that optimiser states interchange. The tensors of one group, type and shape are
a stack of N; its state is on the first of them, and is here made of views of the sheet's vectors:

    step              int
    exp_avg_sq, delta (N, *shape)           v and m
    param_rms         (N, 1, ..., 1)        rms  }
    scale_exp_avg_sq  (N, 1, ..., 1)        w    } not for scalars
    scale_grads       (P, N, 1, ..., 1)     s    }

The first stack of a group, by type and shape, also holds the clipping: `model_norms` (clipping_update_period,) and the
numbers `model_norm_threshold` and `num_clipped`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from icefall_ext.errors import UsageError

PIECE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 27}  # what a CPU caches; a bound on temporary memory


def stacks_of(params: Iterable[Tensor]) -> list[list[Tensor]]:
    """Parameters by type and shape, in icefall's order. A tensor without elements has nothing to learn."""
    stacks: dict[tuple, list[Tensor]] = {}
    for p in params:
        if p.numel():
            stacks.setdefault((str(p.dtype), *p.shape), []).append(p)
    return [stacks[key] for key in sorted(stacks)]


def state_shapes(stack: Sequence[Tensor], size_update_period: int) -> dict[str, tuple[int, ...]]:
    n, shape = len(stack), tuple(stack[0].shape)
    shapes = {"exp_avg_sq": (n, *shape), "delta": (n, *shape)}
    if stack[0].numel() > 1:
        per_tensor = (n, *(1 for _ in shape))
        shapes |= {"param_rms": per_tensor, "scale_exp_avg_sq": per_tensor}
        shapes |= {"scale_grads": (size_update_period, *per_tensor)}
    return shapes


@dataclass(eq=False)
class Group:
    """One of the optimiser's parameter groups, with its state of clipping and what messages call it ("" if alone)."""

    settings: dict[str, Any]
    clipping: dict[str, Any]
    label: str


class Sheet:
    """The tensors of groups that share device, step and all settings but the learning rate.

    Half-precision parameters are computed with, and their state is kept, in float32; the new value is rounded to their
    type. A step below 1/256 of a bfloat16 value is lost that way: train float32 parameters under autocast instead.
    """

    def __init__(self, groups: Sequence[Group], states: Mapping[Tensor, dict], names: Mapping[Tensor, str]):
        self.groups = groups
        stacks = [(i, stack) for i, group in enumerate(groups) for stack in stacks_of(group.settings["params"])]
        stacks.sort(key=lambda item: (item[1][0].numel(), str(item[1][0].dtype), tuple(item[1][0].shape), item[0]))
        self.params = [p for _, stack in stacks for p in stack]
        self.names = [names[p] for p in self.params]
        self.device = self.params[0].device
        for p, name in zip(self.params, self.names):
            if p.device != self.device:
                raise UsageError(f"{name} is on {p.device}, {self.names[0]} on {self.device}: "
                                 "give the parameters of each device a group of their own")
        self.dtype = functools.reduce(torch.promote_types, {p.dtype for p in self.params}, torch.float32)
        self.group_of_row = torch.tensor([i for i, stack in stacks for _ in stack], device=self.device)
        scalars = sum(p.numel() == 1 for p in self.params)
        self.is_scalar = torch.arange(len(self.params), device=self.device) < scalars
        self._lay_out_state([stack for _, stack in stacks], states)
        self._lay_out_clipping()

    def _lay_out_state(self, stacks: Sequence[Sequence[Tensor]], states: Mapping[Tensor, dict]) -> None:
        """Vectors for the whole sheet; each stack's state moves into its part of them."""
        settings = self.groups[0].settings
        period, rows, elements = settings["size_update_period"], len(self.params), sum(p.numel() for p in self.params)
        self.exp_avg_sq, self.delta = self._zeros(elements), self._zeros(elements)
        self.scale_exp_avg_sq, self.scale_grads = self._zeros(rows), self._zeros(period, rows)
        # A scalar has no rms to scale its step by: scalar_lr_scale stands in its place, in every equation.
        self.rms = self._zeros(rows).masked_fill_(self.is_scalar, settings["scalar_lr_scale"])
        self.min_rms = torch.full_like(self.rms, settings["param_min_rms"]).masked_fill_(self.is_scalar, 0.0)
        self.pieces = self._pieces()
        for piece in self.pieces:
            piece.measure_rms(piece.flatten(piece.params))

        self._states = [states[stack[0]] for stack in stacks]
        self.step = self._states[0].get("step", 0)
        row = element = 0
        for stack, state in zip(stacks, self._states):
            of_rows = slice(row, row := row + len(stack))
            of_elements = slice(element, element := element + len(stack) * stack[0].numel())
            whole = {
                "exp_avg_sq": self.exp_avg_sq[of_elements],
                "delta": self.delta[of_elements],
                "param_rms": self.rms[of_rows],
                "scale_exp_avg_sq": self.scale_exp_avg_sq[of_rows],
                "scale_grads": self.scale_grads[:, of_rows],
            }
            for key, shape in state_shapes(stack, period).items():
                view = whole[key].view(shape)
                if key in state and state[key].shape == shape:  # not when its period has changed
                    view.copy_(state[key])
                state[key] = view
            state["step"] = self.step

    def _lay_out_clipping(self) -> None:
        settings = self.groups[0].settings
        if settings["clipping_scale"] is None:
            return
        self.model_norms = self._zeros(len(self.groups), settings["clipping_update_period"])
        for group, norms in zip(self.groups, self.model_norms):
            saved = group.clipping.get("model_norms")
            if saved is not None and saved.shape == norms.shape:
                norms.copy_(saved)
            group.clipping["model_norms"] = norms

    def _pieces(self) -> list[Piece]:
        limit = PIECE_ELEMENTS["cpu" if self.device.type == "cpu" else "cuda"]
        pieces, first_row, first_element, elements = [], 0, 0, 0
        for row, p in enumerate([*self.params, None]):
            if p is None or (row > first_row and elements + p.numel() > limit):
                rows, of_elements = slice(first_row, row), slice(first_element, first_element + elements)
                pieces.append(Piece(self, rows, of_elements))
                first_row, first_element, elements = row, of_elements.stop, 0
            elements += p.numel() if p is not None else 0
        return pieces

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def per_row(self, of_groups: Sequence[float]) -> Tensor:
        return torch.tensor(of_groups, dtype=self.dtype, device=self.device)[self.group_of_row]

    def advance(self) -> None:
        self.step += 1
        for state in self._states:
            state["step"] = self.step


class Piece:
    """Consecutive rows of a sheet, and the operations on them; a flat vector of theirs has one row after the other."""

    def __init__(self, sheet: Sheet, rows: slice, elements: slice):
        self.rows, self.params, self.names, self.dtype = rows, sheet.params[rows], sheet.names[rows], sheet.dtype
        self.exp_avg_sq, self.delta = sheet.exp_avg_sq[elements], sheet.delta[elements]
        self.scale_exp_avg_sq, self.scale_grads = sheet.scale_exp_avg_sq[rows], sheet.scale_grads[:, rows]
        self.rms, self.min_rms, self.is_scalar = sheet.rms[rows], sheet.min_rms[rows], sheet.is_scalar[rows]

        sizes = [p.numel() for p in self.params]
        self._block_rows = [sizes.count(size) for size in dict.fromkeys(sizes)]
        self._block_elements = [size * sizes.count(size) for size in dict.fromkeys(sizes)]
        self._scalars = self.params[: sizes.count(1)]
        self._deltas = [part.view(p.shape) for p, part in zip(self.params, self.delta.split(sizes))]
        self._no_gradient = torch.zeros((), dtype=sheet.dtype, device=sheet.device)

    def flatten(self, tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors]).to(self.dtype)

    def gradients(self) -> Tensor:
        """A parameter without gradient has a gradient of zero: its momentum still moves it."""
        for p, name in zip(self.params, self.names):
            if p.grad is not None and p.grad.layout is not torch.strided:
                raise UsageError(f"ScaledAdam: the gradient of {name} is sparse: build its embedding with sparse=False")
        return self.flatten(self._no_gradient.expand(p.shape) if p.grad is None else p.grad for p in self.params)

    def _matrices(self, flat: Tensor) -> list[Tensor]:
        return [block.view(rows, -1) for block, rows in zip(flat.split(self._block_elements), self._block_rows)]

    def sums(self, flat: Tensor) -> Tensor:
        """The sum of each row."""
        return torch.cat([matrix.sum(1) for matrix in self._matrices(flat)])

    def scale_(self, flat: Tensor, factors: Tensor) -> Tensor:
        """Each row times its factor, in place."""
        for matrix, factor in zip(self._matrices(flat), factors.split(self._block_rows)):
            matrix.mul_(factor.unsqueeze(1))
        return flat

    def measure_rms(self, flat_params: Tensor) -> None:
        means = torch.cat([matrix.mean(1) for matrix in self._matrices(flat_params.square())])
        torch.where(self.is_scalar, self.rms, means.sqrt_(), out=self.rms)

    def move_params(self, scalar_max: float) -> None:
        """p <- p + m, then scalars to their limits."""
        version = self.params[0]._version
        torch._foreach_add_(self.params, self._deltas)
        if self.params[0]._version == version:
            count_as_written(self.params)
        if self._scalars:
            values = self.flatten(self._scalars).clamp_(-scalar_max, scalar_max)
            torch._foreach_zero_(self._scalars)  # torch 1.13 has no _foreach_copy_
            torch._foreach_add_(self._scalars, [value.view(p.shape) for p, value in zip(self._scalars, values)])


def count_as_written(tensors: Sequence[Tensor]) -> None:
    """Fused kernels do not always move a tensor's version, on which autograd and caches of its values rely."""
    if hasattr(torch.autograd.graph, "increment_version"):
        torch.autograd.graph.increment_version(tensors)
    else:
        for tensor in tensors:
            tensor.unsqueeze(0)[:0].zero_()
