"""Forced alignment: the best CTC path of a text that is known, so which token is on which frame.

    frames (B, T, V) of log-probabilities, lengths (B,), one list of tokens each -> one Path each

torchaudio has it from 2.1 on, for one utterance at a time. The other backend is for older ones, and is for a whole
batch: a(t, s) = max(a(t-1, s), a(t-1, s-1), a(t-1, s-2)) + log p(t, label s) over the states blank, token, blank, ...,
token, blank, where s-2 may be skipped to s only from one token to another. Both give the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_ext.errors import UserError
from icefall_ext.transducer.model import frames_for_ctc, pad_tokens
from icefall_ext.transducer.predictor import BLANK

NO_TOKEN = -1


@dataclass(frozen=True)
class Path:
    tokens: np.ndarray  # (T,) place in the text of the token on each frame, NO_TOKEN on a blank one
    log_probs: np.ndarray  # (T,) of what is on the frame


def available_backend(wanted: str = "auto") -> str:
    """torchaudio where it has the function, unless the other is asked for."""
    if wanted == "torch":
        return wanted
    try:
        from torchaudio.functional import forced_align as _  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: built for another torch
        if wanted == "torchaudio":
            raise UserError(f"--backend torchaudio: {str(error).splitlines()[0]}; torch gives the same paths") from None
        return "torch"
    return "torchaudio"


def forced_align(
    log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]], ids: Sequence[str], backend: str = "auto"
) -> list[Path]:
    """`ids` are for the error about an utterance that has fewer frames than its tokens need."""
    symbols, symbol_lengths = pad_tokens(tokens, log_probs.device)
    needed = frames_for_ctc(symbols, symbol_lengths).tolist()
    for id, has, needs in zip(ids, lengths.tolist(), needed):
        if has < max(needs, 1):
            raise UserError(f"{id}: {has} frames, but its tokens need {needs}; leave it out, or align with a model of "
                            "more frames a second")
    log_probs = log_probs.detach().float()
    if available_backend(backend) == "torchaudio":
        from torchaudio.functional import forced_align as of_one

        labels = [of_one(one[:size].unsqueeze(0), symbols[n : n + 1, :count].int(), blank=BLANK)[0][0].long()
                  if count else one.new_full((size,), BLANK, dtype=torch.int64) for n, (one, size, count) in
                  enumerate(zip(log_probs, lengths.tolist(), symbol_lengths.tolist()))]
        places = [_places(path) for path in labels]
    else:
        states = _best_states(log_probs, lengths, symbols, symbol_lengths)
        places = [torch.where(path % 2 == 1, path // 2, NO_TOKEN) for path in states]
        labels = [_labels(path, one) for path, one in zip(places, symbols)]
    emitted = [one[: len(path)].gather(1, path.unsqueeze(1)).squeeze(1) for one, path in zip(log_probs, labels)]
    return [Path(place.cpu().numpy(), of_frame.cpu().numpy()) for place, of_frame in zip(places, emitted)]


def _places(labels: Tensor) -> Tensor:
    """(T,) labels -> the place of each in the text: another token begins where the label changes."""
    spoken = labels != BLANK
    begins = spoken & (labels != F.pad(labels, (1, 0), value=BLANK)[:-1])
    return torch.where(spoken, begins.cumsum(0) - 1, NO_TOKEN)


def _labels(places: Tensor, symbols: Tensor) -> Tensor:
    return torch.where(places == NO_TOKEN, BLANK, symbols[places.clamp(min=0)])


def _best_states(log_probs: Tensor, lengths: Tensor, symbols: Tensor, counts: Tensor) -> list[Tensor]:
    """(T,) states of each: 2 k + 1 is token k, the even ones are blanks."""
    size, frames, _ = log_probs.shape
    lengths = lengths.to(log_probs.device)
    labels = symbols.new_full((size, 2 * symbols.shape[1] + 1), BLANK)
    labels[:, 1::2] = symbols
    emitted = log_probs.gather(2, labels.unsqueeze(1).expand(-1, frames, -1))
    may_skip = (labels != BLANK) & (labels != F.pad(labels, (2, 0), value=BLANK)[:, :-2])
    score = torch.full_like(emitted[:, 0], -torch.inf)
    score[:, :2] = emitted[:, 0, :2]
    came = torch.zeros(emitted.shape, dtype=torch.uint8, device=emitted.device)  # how many states further back
    for t in range(1, frames):
        skipped = F.pad(score, (2, 0), value=-torch.inf)[:, :-2].masked_fill(~may_skip, -torch.inf)
        best, back = torch.stack([score, F.pad(score, (1, 0), value=-torch.inf)[:, :-1], skipped]).max(dim=0)
        inside = (t < lengths).unsqueeze(1)
        score = torch.where(inside, best + emitted[:, t], score)
        came[:, t] = back.masked_fill(~inside, 0)
    last = (2 * counts.to(score.device)).unsqueeze(1)
    before = (last - 1).clamp(min=0)
    state = torch.where(score.gather(1, before) > score.gather(1, last), before, last)
    path = torch.empty(size, frames, dtype=torch.int64, device=score.device)
    for t in range(frames - 1, -1, -1):
        path[:, t : t + 1] = state
        state = state - came[:, t].gather(1, state).long()
    return [one[:length] for one, length in zip(path, lengths.tolist())]
