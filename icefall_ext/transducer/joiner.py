"""The joiner: logits from one encoder frame and one predictor output; parameter names as in icefall's checkpoints.

logits = output_linear(tanh(encoder_proj(am) + decoder_proj(lm))). The projections do not depend on the pairing, so loss
and search apply them once to each input and pass `project_input=False`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Joiner(nn.Module):
    def __init__(self, encoder_dim: int, decoder_dim: int, joiner_dim: int, vocab_size: int):
        super().__init__()
        self.encoder_proj = nn.Linear(encoder_dim, joiner_dim)
        self.decoder_proj = nn.Linear(decoder_dim, joiner_dim)
        self.output_linear = nn.Linear(joiner_dim, vocab_size)
        with torch.no_grad():  # a small start keeps tanh linear, and the first losses finite
            for proj in (self.encoder_proj, self.decoder_proj):
                proj.weight.mul_(0.25)
                nn.init.uniform_(proj.bias, -0.025, 0.025)

    def forward(self, am: Tensor, lm: Tensor, project_input: bool = True) -> Tensor:
        """am and lm broadcast against each other: (..., encoder_dim) and (..., decoder_dim), or both joiner_dim."""
        if project_input:
            am, lm = self.encoder_proj(am), self.decoder_proj(lm)
        return self.output_linear(torch.tanh(am + lm))
