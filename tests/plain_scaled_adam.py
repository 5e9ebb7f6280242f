"""ScaledAdam as its equations say, one tensor after another: the reference of the tests and of the benchmark.

Written from the equations alone, apart from the package: no stacks, no rows, no shared code.
"""

import math

import torch


class PlainScaledAdam:
    """`groups`: one dict of `params` and `lr` each; steps in the type of the parameters."""

    def __init__(self, groups, *, clipping_scale=None, betas=(0.9, 0.98), scalar_lr_scale=0.1, eps=1e-8,
                 param_min_rms=1e-5, param_max_rms=3.0, scalar_max=10.0, size_update_period=4,
                 clipping_update_period=100):
        self.groups, self.betas, self.eps = groups, betas, eps
        self.scalar_lr_scale, self.scalar_max = scalar_lr_scale, scalar_max
        self.param_min_rms, self.param_max_rms = param_min_rms, param_max_rms
        self.P, self.N, self.clipping_scale = size_update_period, clipping_update_period, clipping_scale
        self.t = 0
        self.tensors = {p: {} for group in groups for p in group["params"]}
        self.rings = [[0.0] * self.N for _ in groups]
        self.thresholds = [math.inf for _ in groups]

    @torch.no_grad()
    def step(self):
        if self.t == 0:
            for p, state in self.tensors.items():
                state.update(v=torch.zeros_like(p), m=torch.zeros_like(p), w=0.0, s=[0.0] * self.P, rms=rms_of(p))
        for number, group in enumerate(self.groups):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in group["params"]]
            factor = self.factor(number, group["params"], gradients)
            for p, g in zip(group["params"], gradients):
                self.update(p, g * factor if factor else torch.zeros_like(g), group["lr"], self.tensors[p])
        self.t += 1

    def factor(self, number, params, gradients):
        if self.clipping_scale is None:
            return 1.0
        squares = 0.0
        for p, g in zip(params, gradients):
            weight = self.scalar_lr_scale if p.numel() == 1 else self.tensors[p]["rms"]
            squares = squares + ((g * weight) ** 2).sum()
        norm, t, ring = math.sqrt(squares), self.t, self.rings[number]
        if t > 0:
            ring[t % self.N] = norm
            early = t in (10, 20, 40) and t < self.N
            if early or t % self.N == 0:
                recent = sorted(ring, key=lambda x: math.inf if math.isnan(x) else x)[-t if early else 0 :]
                n = len(recent)
                median = recent[min(n - 1, 2 * (n // 4))]
                assert math.isfinite(median), "most gradients were not finite"
                self.thresholds[number] = self.clipping_scale * median * (2 if early else 1) if median else math.inf
        return min(1.0, self.thresholds[number] / max(norm, 1e-20)) if math.isfinite(norm) else 0.0

    def update(self, p, g, lr, state):
        (b1, b2), t, period = self.betas, self.t, self.P
        state["v"] = b2 * state["v"] + (1 - b2) * g**2
        c = 1 - b2 ** (t + 1)
        corrected = state["v"] / c if c < 0.99 else state["v"]
        if p.numel() == 1:
            delta = -lr * self.scalar_lr_scale * g / (corrected.sqrt() + self.eps)
        else:
            last = t % period == period - 1
            if last:
                state["rms"] = rms_of(p)
            rms = state["rms"]
            delta = -lr * g / (corrected.sqrt() + self.eps) * max(rms, self.param_min_rms)
            state["s"][t % period] = (p * g).sum().item()
            if last and t > 0:
                delta = delta + p * self.size_step(lr, rms, state, b2**period, (t + 1) // period)
        state["m"] = b1 * state["m"] + (1 - b1) * delta
        p += state["m"]
        if p.numel() == 1:
            p.clamp_(-self.scalar_max, self.scalar_max)

    def size_step(self, lr, rms, state, decay, k):
        state["w"] = decay * state["w"] + (1 - decay) * sum(s * s for s in state["s"]) / self.P
        if rms < self.param_min_rms or rms == 0.0:
            return 0.0
        step = -lr * self.scalar_lr_scale * math.sqrt(1 - decay**k) * sum(state["s"])
        step /= math.sqrt(state["w"]) + self.eps
        return min(max(-0.1, min(0.1, step)), (self.param_max_rms - rms) / rms)


def rms_of(p):
    return math.sqrt((p * p).mean().item())
