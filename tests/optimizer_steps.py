"""Parameters and gradients that are the same in every run, and steps over them."""

import io

import torch
from torch import nn

SHAPES = [(), (1,), (1, 1), (3,), (4,), (2, 3), (3, 2), (6,), (2, 1, 2), (5, 4)]


def parameters(shapes, seed=0, dtype=torch.float64, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    drawn = [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [nn.Parameter(value.to(dtype)) for value in drawn]


def gradients_of_step(t, shapes, size=1.0):
    generator = torch.Generator().manual_seed(1000 + t)
    return [size * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def set_gradients(params, gradients):
    for p, g in zip(params, gradients):
        p.grad = None if g is None else g.to(p.dtype)


def run(optimizer, params, steps, shapes, start=0):
    for t in range(start, start + steps):
        set_gradients(params, gradients_of_step(t, shapes))
        optimizer.step()


def clones(params):
    return [nn.Parameter(p.detach().clone()) for p in params]


def saved(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file)
