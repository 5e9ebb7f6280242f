"""Hotwords: an Aho-Corasick graph that knows, after any tokens, which hotwords end here and which are under way.

The bonus of a text is the sum, over all places where a hotword occurs in it, of that hotword's bonus: a function of
the text alone, never negative, and never taken back. A hotword under way gives no bonus, only a prospect, which a
search may use to keep a hypothesis until the hotword is complete, but not to rank finished texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from icefall_ext.errors import UserError
from icefall_ext.transducer.predictor import BLANK, State

ROWS_KEPT = 4096


@dataclass
class _Node:
    """A beginning of a hotword."""

    after: dict[int, int] = field(default_factory=dict)  # token -> longer beginning
    fall_back: int = 0  # the longest proper suffix that is also a beginning
    ending: float = 0.0  # bonus of the hotwords that end here, those of the suffixes included
    prospect: float = 0.0  # bonus so far of the hotword under way, 0 where none can go on


class HotwordGraph:
    """Follows the protocol `Stepper`; outputs (N, 2 V) hold, for every next token, the bonus it completes and the
    prospect it leaves (for blank: nothing, and the prospect as it is)."""

    def __init__(self, hotwords: Iterable[Sequence[int]], vocab_size: int, bonus_per_token: float = 1.5,
                 bonuses: Sequence[float] | None = None, device: torch.device | str = "cpu"):
        """`bonuses`: of each hotword as a whole, in place of `bonus_per_token` times its length."""
        hotwords = [tuple(hotword) for hotword in hotwords]
        for hotword in hotwords:
            if not hotword or not all(BLANK < token < vocab_size for token in hotword):
                raise UserError(f"hotword {list(hotword)}: needs one token or more, each from 1 to {vocab_size - 1}")
        bonuses = [bonus_per_token * len(hotword) for hotword in hotwords] if bonuses is None else list(bonuses)
        if len(bonuses) != len(hotwords) or not all(bonus > 0 for bonus in bonuses):
            raise UserError(f"hotwords: {len(hotwords)} of them and bonuses {bonuses}; each needs one, above 0")
        self.vocab_size, self._device = vocab_size, device
        self.context_size = max(map(len, hotwords), default=1)
        self._nodes = [_Node()]
        for hotword, bonus in dict(zip(hotwords, bonuses)).items():
            self._insert(hotword, bonus)
        self._link()
        self._row = lru_cache(maxsize=ROWS_KEPT)(self._make_row)

    def start(self, batch: int) -> tuple[Tensor, State]:
        return self._outputs([0] * batch)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return self._outputs([self._next(node, token) for node, token in zip(state[0].tolist(), tokens.tolist())])

    def bonus(self, tokens: Iterable[int]) -> float:
        """Of a text."""
        node, bonus = 0, 0.0
        for token in tokens:
            node = self._next(node, token)
            bonus += self._nodes[node].ending
        return bonus

    def _insert(self, hotword: tuple[int, ...], bonus: float) -> None:
        node = 0
        for length, token in enumerate(hotword, start=1):
            if token not in self._nodes[node].after:
                self._nodes[node].after[token] = len(self._nodes)
                self._nodes.append(_Node())
            node = self._nodes[node].after[token]
            if length < len(hotword):
                self._nodes[node].prospect = max(self._nodes[node].prospect, bonus * length / len(hotword))
        self._nodes[node].ending += bonus

    def _link(self) -> None:
        """Breadth first, so that a node's suffixes, which are shorter, are done before it."""
        waiting = deque(self._nodes[0].after.values())
        while waiting:
            node = self._nodes[waiting.popleft()]
            suffix = self._nodes[node.fall_back]
            node.ending += suffix.ending
            node.prospect = max(node.prospect, suffix.prospect)
            for token, child in node.after.items():
                self._nodes[child].fall_back = self._next(node.fall_back, token)
                waiting.append(child)

    def _next(self, node: int, token: int) -> int:
        while node and token not in self._nodes[node].after:
            node = self._nodes[node].fall_back
        return self._nodes[node].after.get(token, 0)

    def _outputs(self, nodes: list[int]) -> tuple[Tensor, State]:
        rows = torch.from_numpy(np.stack([self._row(node) for node in nodes]))
        return rows.to(self._device), (torch.tensor(nodes, device=self._device),)

    def _make_row(self, node: int) -> np.ndarray:
        completed, prospect = row = np.zeros((2, self.vocab_size), dtype=np.float32)
        prospect[BLANK] = self._nodes[node].prospect
        places = [node]
        while places[-1]:
            places.append(self._nodes[places[-1]].fall_back)
        for place in reversed(places):  # where several continue with a token, the longest does
            for token, following in self._nodes[place].after.items():
                completed[token], prospect[token] = self._nodes[following].ending, self._nodes[following].prospect
        return row.ravel()
