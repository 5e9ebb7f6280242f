"""Embeddings of syllables that were heard before: partners for those of a batch that has too few.

First in, first out, and without gradients. They are what an earlier encoder made of them, a few batches old; so they
attract and repel, and are no anchors. An utterance of this batch is not recalled: it would be its own partner. Nor is
what came in with this batch or a later one: a batch that is computed a second time, or in parts, sees what it saw, but
for what it has pushed out by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_ext.tone.pairs import Items


@dataclass
class Memory:
    size: int
    embeddings: Tensor | None = None  # (N, D)
    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 6), dtype=np.int64))  # Items, utterance, batch

    def __len__(self) -> int:
        return len(self.labels)

    def recall(self, utterances: np.ndarray, batch: int) -> tuple[Tensor | None, Items]:
        """What was heard before this batch in other utterances."""
        chosen = np.flatnonzero((self.labels[:, 5] < batch) & ~np.isin(self.labels[:, 4], utterances))
        items = Items(*self.labels[chosen, :4].T)
        if self.embeddings is None or not len(chosen):
            return None, items
        return self.embeddings[torch.from_numpy(chosen).to(self.embeddings.device)], items

    def remember(self, embeddings: Tensor, items: Items, utterances: np.ndarray, batch: int) -> None:
        """`utterances` (S,) is where each comes from; what was known of those is forgotten."""
        labels = np.stack([*items.columns, utterances, np.full(len(items), batch)], axis=1).astype(np.int64)
        kept = np.flatnonzero(~np.isin(self.labels[:, 4], utterances))
        now = embeddings.detach()
        if self.embeddings is not None:
            now = torch.cat([self.embeddings[torch.from_numpy(kept).to(now.device)].to(now), now])
        self.embeddings = now[-self.size :] if self.size else None
        self.labels = np.concatenate([self.labels[kept], labels])[-self.size :] if self.size else self.labels

    def state_dict(self) -> dict[str, Any]:
        embeddings = torch.empty(0, 0) if self.embeddings is None else self.embeddings.cpu().clone()
        return {"embeddings": embeddings, "labels": torch.from_numpy(self.labels.copy())}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.labels = state["labels"].numpy().copy()
        self.embeddings = state["embeddings"].to(device) if len(self.labels) else None
