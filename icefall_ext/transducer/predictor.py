"""Prediction networks: stateless (a convolution over the last tokens) and LSTM, under one calling protocol.

Training calls `forward(y)` with y (N, U), blank first: (N, U, dim). A search calls `start` and `step`, one token at a
time, and gets the same numbers. The parameters carry the names of icefall's decoders, so its checkpoints load.

The trap is the start of an utterance. In training the context before the first token is [nothing, ..., nothing, blank],
where "nothing" is the zero padding of the convolution, not the embedding of blank. Here nothing is token -1, and a
search that keeps contexts as numbers and must write blank for both (k2's does) asks `from_contexts`, which tells them
apart: a blank followed by a blank is nothing, because no search emits blanks.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_ext.errors import UsageError

BLANK = 0
State = tuple[Tensor, ...]  # every tensor's first dimension is the row: one row per hypothesis


class Stepper(Protocol):
    """What a search asks of a predictor, and of a language model: an output per token sequence, one token at a time."""

    context_size: int | None  # the output depends on that many last tokens; None: on all of them

    def start(self, batch: int) -> tuple[Tensor, State]:
        """Outputs (batch, dim) and states of empty sequences."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs (N, dim) and states of the sequences in `state`, each longer by its entry of `tokens` (N,)."""


class StatelessPredictor(nn.Module):
    """Embedding and a grouped convolution over the last `context_size` tokens (https://arxiv.org/abs/2109.07513).

    Stepping needs no convolution: it is a sum of one vector per context position, and the vectors of all tokens at all
    positions make a table of (context_size, vocab_size, dim). `start` makes it anew if the weights have changed: it
    compares their values, because `.data`, fused optimisers and broadcasts change them without a trace in `_version`.
    """

    def __init__(self, vocab_size: int, dim: int, context_size: int = 2, conv_groups: int | None = None):
        super().__init__()
        conv_groups = conv_groups or max(dim // 4, 1)
        if context_size < 1 or dim % conv_groups:
            raise UsageError(f"context_size {context_size}, dim {dim}, conv_groups {conv_groups}: the context needs a "
                             "token, and the groups must divide the dimension")
        self.vocab_size, self.context_size = vocab_size, context_size
        self.embedding = nn.Embedding(vocab_size, dim)
        if context_size > 1:
            self.conv = nn.Conv1d(dim, dim, context_size, groups=conv_groups, bias=False)
        self._table: PositionTable | None = None

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:
        """y (N, U) -> (N, U, dim), or with need_pad=False (N, U - context_size + 1, dim); -1 stands for nothing."""
        embedded = self.embedding(y.clamp(min=0)) * (y >= 0).unsqueeze(-1)
        if self.context_size == 1:
            return embedded
        columns = embedded.transpose(1, 2)
        if need_pad:
            columns = F.pad(columns, (self.context_size - 1, 0))
        return F.relu(self.conv(columns)).transpose(1, 2)

    def start(self, batch: int) -> tuple[Tensor, State]:
        if self._table is not None and not all(map(_same, self._table.weights, self._tabled())):
            self._table = None
        contexts = self.embedding.weight.new_full((batch, self.context_size), -1, dtype=torch.int64)
        contexts[:, -1] = BLANK
        return self._outputs(contexts), (contexts,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        contexts = torch.cat((state[0][:, 1:], tokens.unsqueeze(1)), dim=1)
        return self._outputs(contexts), (contexts,)

    def from_contexts(self, contexts: Tensor) -> Tensor:
        """Outputs (N, dim) for contexts (N, context_size) in which blank also stands for nothing."""
        nothing = (contexts[:, :-1] == BLANK) & (contexts[:, 1:] == BLANK)
        return self._outputs(torch.cat((contexts[:, :-1].masked_fill(nothing, -1), contexts[:, -1:]), dim=1).long())

    def _outputs(self, contexts: Tensor) -> Tensor:
        if self.context_size == 1:
            return self.embedding(contexts[:, 0])
        self._table = _, first_rows, vectors = self._table or self._position_table()
        return F.relu(F.embedding_bag(contexts + first_rows, vectors, mode="sum")).to(self.embedding.weight.dtype)

    def _tabled(self) -> tuple[Tensor, Tensor]:
        return self.embedding.weight, self.conv.weight

    @torch.no_grad()
    @torch.inference_mode(False)  # it may outlive the search that asks first
    def _position_table(self) -> PositionTable:
        with torch.autocast(self.embedding.weight.device.type, enabled=False):
            weights = [w.detach().clone() for w in self._tabled()]
            embedding, kernel = (w.to(torch.promote_types(w.dtype, torch.float32)) for w in weights)
            tokens = embedding.view(self.vocab_size, self.conv.groups, -1)  # (V, groups, in)
            kernel = kernel.view(self.conv.groups, -1, *kernel.shape[1:])  # (groups, out, in, C)
            vectors = torch.einsum("vgi,goic->cvgo", tokens, kernel).reshape(self.context_size, self.vocab_size, -1)
            vectors = F.pad(vectors, (0, 0, 1, 0)).flatten(0, 1)
            first_rows = torch.arange(1, len(vectors), self.vocab_size + 1, device=vectors.device)
        return PositionTable(weights, first_rows, vectors)


class PositionTable(NamedTuple):
    weights: list[Tensor]  # that it was made from
    first_rows: Tensor  # of token 0 at each position; the row before it is nothing's, all zeros
    vectors: Tensor


def _same(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)


class LstmPredictor(nn.Module):
    """An LSTM over all tokens so far."""

    context_size = None

    def __init__(self, vocab_size: int, dim: int, num_layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.embedding_dropout = nn.Dropout(dropout)
        self.rnn = nn.LSTM(dim, dim, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0)
        self.output_linear = nn.Linear(dim, dim)

    def forward(self, y: Tensor) -> Tensor:
        return self._advance(y, None)[0]

    def start(self, batch: int) -> tuple[Tensor, State]:
        blanks = self.embedding.weight.new_full((batch, 1), BLANK, dtype=torch.int64)
        output, state = self._advance(blanks, None)
        return output.squeeze(1), self._rows_first(state)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        output, state = self._advance(tokens.unsqueeze(1), self._rows_first(state))
        return output.squeeze(1), self._rows_first(state)

    def _advance(self, y: Tensor, state: State | None) -> tuple[Tensor, State]:
        output, state = self.rnn(self.embedding_dropout(self.embedding(y)), state)
        return self.output_linear(output), state

    @staticmethod
    def _rows_first(state: State) -> State:
        """Swap torch's (layers, N, dim) and the protocol's (N, layers, dim)."""
        return tuple(part.transpose(0, 1).contiguous() for part in state)
