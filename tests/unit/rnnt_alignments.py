"""Transducer batches with padding, and their losses by enumeration of every alignment: what the loss's tests share."""

from __future__ import annotations

import itertools

import torch

INF = float("inf")
BLANK = 0


def alignments(symbols: int, frames: int, rnnt_type: str):
    """Every path from (0, 0) to (symbols, frames) as a list of (kind, s, t)."""
    emitted_on = (
        itertools.combinations_with_replacement(range(frames), symbols)
        if rnnt_type == "regular"
        else itertools.combinations(range(frames), symbols)
    )
    for frames_of_symbols in emitted_on:
        path, s = [], 0
        for t in range(frames):
            while s < symbols and frames_of_symbols[s] == t:
                path.append(("symbol", s, t))
                s += 1
            if rnnt_type == "regular" or t not in frames_of_symbols:
                path.append(("blank", s, t))
        yield path


def enumerate_total(px, py, symbols, frames, rnnt_type):
    """Log-sum over the alignments, and the occupations of px and py, by counting."""
    scores, paths = [], list(alignments(symbols, frames, rnnt_type))
    if not paths:
        return torch.tensor(-INF), torch.zeros_like(px), torch.zeros_like(py)
    for path in paths:
        scores.append(sum((px if kind == "symbol" else py)[s, t] for kind, s, t in path) + px.new_zeros(()))
    total = torch.stack(scores).logsumexp(0)
    px_count, py_count = torch.zeros_like(px), torch.zeros_like(py)
    for path, score in zip(paths, scores):
        for kind, s, t in path:
            (px_count if kind == "symbol" else py_count)[s, t] += (score - total).exp()
    return total, px_count, py_count


class Batch:
    """Random tensors of one batch; `symbols` and `frames` are the lengths of its utterances, the rest is padding."""

    def __init__(self, symbols=(3, 2, 0, 1), frames=(4, 3, 2, 1), vocab=5, dtype=torch.float64, extra=(1, 2), seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.num_symbols, self.num_frames, self.vocab, self.dtype = symbols, frames, vocab, dtype
        self.size, self.S, self.T = len(symbols), max(symbols) + extra[0], max(frames) + extra[1]
        self.lm, self.am = self.random(self.S + 1, vocab), self.random(self.T, vocab)
        self.symbols = torch.randint(1, vocab, (self.size, self.S), generator=self.generator)
        self.boundary = torch.tensor([[0, 0, s, t] for s, t in zip(symbols, frames)])

    def random(self, *shape):
        return torch.randn(self.size, *shape, dtype=self.dtype, generator=self.generator).requires_grad_()

    def all_rows(self):
        return torch.arange(self.S + 1).expand(self.size, self.T, -1)


def definition_of_smoothed(batch, l, a, rnnt_type, delay_penalty=0.0):
    """px and py of each utterance, straight from the formulas."""
    unigram = batch.lm.softmax(2).mean((0, 1)).log()
    for b, (symbols, frames) in enumerate(zip(batch.num_symbols, batch.num_frames)):
        lm, am, y = batch.lm[b, : symbols + 1, None], batch.am[b, None, :frames], batch.symbols[b, :symbols]
        joint, lm_only = (am + lm).log_softmax(2), lm.log_softmax(2).expand(-1, frames, -1)
        am_only = (am + unigram).log_softmax(2).expand(symbols + 1, -1, -1)
        scores = (1 - l - a) * joint + l * lm_only + a * am_only
        px = torch.stack([scores[s, :, y[s]] for s in range(symbols)]) if symbols else scores[:0, :, 0]
        yield with_type_and_penalty(px, scores[:, :, BLANK], rnnt_type, delay_penalty)


def definition_of_full(logits, batch, rnnt_type, delay_penalty=0.0):
    for b, (symbols, frames) in enumerate(zip(batch.num_symbols, batch.num_frames)):
        scores = logits[b, :frames, : symbols + 1].log_softmax(2).transpose(0, 1)
        px = torch.stack([scores[s, :, batch.symbols[b, s]] for s in range(symbols)]) if symbols else scores[:0, :, 0]
        yield with_type_and_penalty(px, scores[:, :, BLANK], rnnt_type, delay_penalty)


def with_type_and_penalty(px, py, rnnt_type, delay_penalty):
    frames = py.shape[1]
    if rnnt_type == "constrained":
        px = px + py[1:]
    return px + delay_penalty * ((frames - 1) / 2 - torch.arange(frames)), py


def enumerated_losses(arcs, batch, rnnt_type):
    lengths = zip(batch.num_symbols, batch.num_frames)
    return torch.stack([-enumerate_total(px, py, s, t, rnnt_type)[0] for (px, py), (s, t) in zip(arcs, lengths)])


def gradients(loss, *inputs):
    grads = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, grads)]
