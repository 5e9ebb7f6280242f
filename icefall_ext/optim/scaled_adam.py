"""ScaledAdam: Adam whose step is proportional to the size of each tensor, and which learns that size as a scale.

Per tensor p, with gradient g (after clipping: clipping.py), step t from 0, P = size_update_period, beta = (b1, b2):

1.  v <- b2 v + (1 - b2) g^2;  c = 1 - b2^(t+1);  delta = -lr g / (sqrt(v / c) + eps), without c from c = 0.99 on
2.  rms = root mean square of p at t = 0, and anew when t % P = P - 1;  delta <- delta max(rms, param_min_rms)
3.  s[t % P] = sum(p g), the gradient of the logarithm of p's scale
4.  when t % P = P - 1 and t > 0, with B = b2^P and k = (t + 1) / P:  w <- B w + (1 - B) mean(s^2),
    step = -lr scalar_lr_scale sqrt(1 - B^k) sum(s) / (sqrt(w) + eps), in +-0.1 and up to (param_max_rms - rms) / rms,
    but 0 where rms < param_min_rms;  delta <- delta + p step
5.  m <- b1 m + (1 - b1) delta;  p <- p + m

For a tensor of one element scalar_lr_scale stands for max(rms, param_min_rms), 3 and 4 are left out, and p is clamped
to +-scalar_max. (Dan Povey's optimiser, described in https://arxiv.org/abs/2310.11230.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from icefall_ext.errors import UsageError, UserError
from icefall_ext.optim.clipping import clipping_factors
from icefall_ext.optim.sheet import Group, Piece, Sheet, stacks_of, state_shapes

SHARED_SETTINGS = (
    "clipping_scale",
    "betas",
    "scalar_lr_scale",
    "eps",
    "param_min_rms",
    "param_max_rms",
    "scalar_max",
    "size_update_period",
    "clipping_update_period",
)


class ScaledAdam(torch.optim.Optimizer):
    """Signature and state are icefall's (sheet.py describes the layout), so that checkpoints go both ways.

    `params`: tensors, (name, tensor) pairs, or groups: dicts that hold such a list under "params" or "named_params",
    beside settings of their own. Names appear in messages. Settings may change between steps.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 3e-2,
        clipping_scale: float | None = None,
        betas: tuple[float, float] = (0.9, 0.98),
        scalar_lr_scale: float = 0.1,
        eps: float = 1e-8,
        param_min_rms: float = 1e-5,
        param_max_rms: float = 3.0,
        scalar_max: float = 10.0,
        size_update_period: int = 4,
        clipping_update_period: int = 100,
    ):
        defaults = dict(
            lr=lr,
            clipping_scale=clipping_scale,
            betas=betas,
            scalar_lr_scale=scalar_lr_scale,
            eps=eps,
            param_min_rms=param_min_rms,
            param_max_rms=param_max_rms,
            scalar_max=scalar_max,
            size_update_period=size_update_period,
            clipping_update_period=clipping_update_period,
        )
        self.names: dict[Tensor, str] = {}
        self._sheets: list[Sheet] = []
        self._laid_out_for: list[tuple] = []
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        group = dict(param_group)
        members = group.pop("named_params", None) or group["params"]
        number = len(self.param_groups)
        if isinstance(members, set):
            raise UsageError(f"ScaledAdam: parameter group {number} is a set, whose order is not that of the next run")
        members = [members] if isinstance(members, Tensor) else list(members)
        named = [m if isinstance(m, tuple) else (f"parameter {i} of group {number}", m) for i, m in enumerate(members)]
        group["params"] = [p for _, p in named]
        if not stacks_of(group["params"]):
            raise UsageError(f"ScaledAdam: parameter group {number} has no parameters")
        super().add_param_group(group)
        _check_settings(self.param_groups[-1])
        self.names.update((p, name) for name, p in named)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for sheet in self._current_sheets():
            update(sheet)
        return loss

    def _current_sheets(self) -> list[Sheet]:
        """Laid out again when groups, settings or devices have changed, or a state was loaded."""
        wanted = [
            (*(group[key] for key in SHARED_SETTINGS), group["params"][0].device, len(group["params"]))
            for group in self.param_groups
        ]
        if wanted != self._laid_out_for:
            together: dict[tuple, list[Group]] = {}
            for number, (group, settings) in enumerate(zip(self.param_groups, wanted)):
                _check_settings(group)
                first_state = self.state[stacks_of(group["params"])[0][0]]
                label = f" of group {number}" if len(self.param_groups) > 1 else ""
                key = (str(settings[:-1]), first_state.get("step", 0))
                together.setdefault(key, []).append(Group(group, first_state, label))
            self._sheets = [Sheet(groups, self.state, self.names) for groups in together.values()]
            self._laid_out_for = wanted
        return self._sheets

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = _states_of_stacks(state_dict, self.param_groups, self.names)
        super().load_state_dict(state_dict)
        for p, state in states:  # as they were saved: torch has rounded them to the type of their parameter
            self.state[p] = dict(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # torch comes here to copy, to unpickle and to load a state
        self._sheets, self._laid_out_for = [], []


def update(sheet: Sheet) -> None:
    settings = sheet.groups[0].settings
    lr = sheet.per_row([float(group.settings["lr"]) for group in sheet.groups])
    factors = clipping_factors(sheet) if settings["clipping_scale"] is not None else None
    for piece in sheet.pieces:
        g = piece.gradients()
        if factors is not None:
            piece.scale_(g, factors[piece.rows]).nan_to_num_(0.0)  # infinity times zero, where the norm was not finite
        update_piece(piece, g, lr[piece.rows], sheet.step, settings)
    sheet.advance()


def update_piece(piece: Piece, g: Tensor, lr: Tensor, t: int, settings: dict[str, Any]) -> None:
    """In the letters of the equations: p, g, v, m and delta have an element per element, the others one per tensor."""
    (b1, b2), eps, period = settings["betas"], settings["eps"], settings["size_update_period"]
    v, m, w, s, rms = piece.exp_avg_sq, piece.delta, piece.scale_exp_avg_sq, piece.scale_grads, piece.rms
    p = piece.flatten(piece.params)
    last_of_period = t % period == period - 1

    s[t % period] = piece.sums(p * g)
    v.mul_(b2).addcmul_(g, g, value=1 - b2)
    c = 1 - b2 ** (t + 1)
    delta = g.div_((v / c if c < 0.99 else v).sqrt().add_(eps))
    if last_of_period:
        piece.measure_rms(p)
    piece.scale_(delta, -lr * torch.maximum(rms, piece.min_rms))
    if last_of_period and t > 0:
        b2_size, k = b2**period, (t + 1) // period
        w.lerp_(s.square().mean(0), 1 - b2_size)
        step = -lr * settings["scalar_lr_scale"] * math.sqrt(1 - b2_size**k) * s.sum(0) / (w.sqrt() + eps)
        step = torch.minimum(step.clamp_(-0.1, 0.1), (settings["param_max_rms"] - rms) / rms)
        delta += piece.scale_(p, step.masked_fill_(piece.is_scalar | (rms < piece.min_rms), 0.0))
    m.lerp_(delta, 1 - b1)
    piece.move_params(settings["scalar_max"])


def _check_settings(group: dict[str, Any]) -> None:
    rules = {
        "lr": lambda x: x >= 0,
        "clipping_scale": lambda x: x is None or x > 0,
        "betas": lambda x: len(x) == 2 and all(0 <= beta < 1 for beta in x),
        "scalar_lr_scale": lambda x: x >= 0,
        "eps": lambda x: x > 0,
        "param_min_rms": lambda x: x >= 0,
        "param_max_rms": lambda x: x > group["param_min_rms"],
        "scalar_max": lambda x: x > 0,
        "size_update_period": lambda x: x == int(x) >= 1,
        "clipping_update_period": lambda x: x == int(x) >= 1,
    }
    for key, holds in rules.items():
        if not holds(group[key]):
            raise UsageError(f"ScaledAdam: {key} cannot be {group[key]}")


def _states_of_stacks(
    state_dict: dict[str, Any], groups: list[dict[str, Any]], names: dict[Tensor, str]
) -> list[tuple[Tensor, dict[str, Any]]]:
    """The saved state of each stack, under its first parameter; an error if it is not that of these parameters."""
    saved_groups, saved_states = state_dict["param_groups"], state_dict["state"]
    saved_sizes, sizes = ([len(group["params"]) for group in both] for both in (saved_groups, groups))
    if saved_sizes != sizes:
        raise UserError(f"optimiser state: saved for groups of {saved_sizes} parameters, not {sizes}: "
                        "did the model, its frozen parts or its learning-rate scales change?")
    found = []
    for saved_group, group in zip(saved_groups, groups):
        missing = [key for key in ("lr", *SHARED_SETTINGS) if key not in saved_group]
        if missing:
            raise UserError(f"optimiser state: no {', '.join(missing)}: it is not ScaledAdam's")
        ids = dict(zip(group["params"], saved_group["params"]))
        for first, *others in stacks_of(group["params"]):
            state = saved_states.get(ids[first], {})
            shapes = {key: tuple(value.shape) for key, value in state.items() if isinstance(value, Tensor)}
            expected = state_shapes([first, *others], saved_group["size_update_period"])
            if saved_states and (any(ids[p] in saved_states for p in others) or not expected.items() <= shapes.items()):
                raise UserError(f"optimiser state: for {names[first]} and tensors of its shape it holds {shapes}, not "
                                f"{expected}: does it come from another model, or from parameters in another order?")
            found.append((first, state))
    return found
