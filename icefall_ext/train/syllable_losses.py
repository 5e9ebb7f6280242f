"""SITA's losses in running speech: syllables that an alignment cuts out of the encoder's output are the items.

    a L_spk + b L_tone, each the InfoNCE of tone/losses.py times the syllables of the batch that had a partner

so that it is a sum over a batch, as the other losses are. A syllable is the mean over its frames after subsampling, in
float32. Words (base and tone) come as sentences have them, so most have no partner in their batch: a memory of earlier
batches is asked where too few have one (tone/memory.py). The memory is that of one process, and part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_ext.align.file import Alignments, Found
from icefall_ext.encoders.layers import precise
from icefall_ext.errors import UserError
from icefall_ext.tone.batches import spoken_by_one_gender
from icefall_ext.tone.losses import contrastive_loss, mean_over_frames
from icefall_ext.tone.memory import Memory
from icefall_ext.tone.pairs import Items, Pairs, cross_gender_pairs, tone_pairs
from icefall_ext.tone.spec import SyllableLossConfig
from icefall_ext.train.run_folder import says

SPEAKER, TONE = "speaker", "tone"
_WANTS = {SPEAKER: "the same word by the other gender", TONE: "the same word a second time"}


class SyllableLosses:
    def __init__(self, alignments: Alignments, cfg: SyllableLossConfig, tones: str, seconds_per_frame: float):
        self.alignments, self.cfg, self.tones, self.step = alignments, cfg, tones, seconds_per_frame
        self.memory = Memory(cfg.memory)
        self.wanted: list[tuple[str, float, Callable[..., Pairs]]] = [
            (SPEAKER, cfg.speaker_scale, partial(cross_gender_pairs, other_tones_repel=cfg.other_tones_repel)),
            (TONE, cfg.tone_scale, tone_pairs),
        ]

    def __call__(
        self, frames: Tensor, lengths: Tensor, ids: Sequence[str], batch: int
    ) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """frames (B, T, D), lengths (B,) -> the weighted sum, and what is shown: (sum, out of) by name."""
        found = self.alignments.of(ids, self.tones)
        embeddings, kept = syllables_of(frames, lengths, found, self.step, self.cfg.min_frames)
        items = found.items[kept]
        places = np.array([self.alignments.place.get(id, -1) for id in ids], dtype=np.int64)
        recalled = self.memory.recall(places, batch)
        random = np.random.default_rng(int(torch.randint(2**31, ())))
        total, shown = precise(frames).new_zeros(()), {}
        for name, scale, pairs_of in self.wanted:
            if not scale:
                continue
            pairs, among = self._pairs(pairs_of, embeddings, items, *recalled)
            anchors, value = pairs.valid_anchors, 0.0
            if anchors:
                loss = contrastive_loss(among, pairs.at_most(self.cfg.positives, random), self.cfg.temperature)
                total, value = total + scale * loss * anchors, float(loss.detach()) * anchors
            shown[f"{name}_loss"] = value, anchors
            shown[f"{name}_anchors"] = anchors, len(items)
        if len(items) and bool(torch.isfinite(embeddings).all()):  # one NaN would be in all batches to come
            self.memory.remember(embeddings, items, places[found.utterance[kept]], batch)
        return total, shown

    def _pairs(
        self, pairs_of: Callable[..., Pairs], embeddings: Tensor, items: Items, known: Tensor | None, of_known: Items
    ) -> tuple[Pairs, Tensor]:
        pairs = pairs_of(items)
        if known is None or pairs.valid_anchors >= self.cfg.enough * len(items):
            return pairs, embeddings
        both = items.followed_by(of_known)
        return pairs_of(both, anchors=len(items)), torch.cat([embeddings, known.to(embeddings)])

    def check_epoch(self, epoch: int, ratios: Mapping[str, Sequence[float]]) -> None:
        """Batches without a pair are no error, a whole epoch of them is: the loss would look like one that is done."""
        for name, scale, _ in self.wanted:
            anchors, syllables = ratios.get(f"{name}_anchors", (0, 0))
            if scale and not anchors:
                raise UserError(f"epoch {epoch}: of {syllables:,.0f} syllables none had {_WANTS[name]} in its batch or "
                                "the memory; raise --batch.max-duration or --tone-loss.memory, or leave that loss out "
                                f"(--tone-loss.{name}-scale 0)")

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory.state_dict(), "alignments": self.alignments.digest}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        if state["alignments"] != self.alignments.digest:
            raise UserError("--alignments: are other ones than this training began with; put those back, or name "
                            "another folder to begin anew")
        self.memory.load_state_dict(state["memory"], device)


def syllables_of(
    frames: Tensor, lengths: Tensor, found: Found, seconds_per_frame: float, min_frames: int
) -> tuple[Tensor, np.ndarray]:
    """Embeddings (S', D) of the syllables with enough frames, and which they are. A frame is a syllable's if its middle
    is, so times of any frame rate will do."""
    first = np.ceil(found.start / seconds_per_frame - 0.5 - 1e-3).astype(np.int64).clip(min=0)
    after = np.ceil(found.end / seconds_per_frame - 0.5 - 1e-3).astype(np.int64)
    after = np.minimum(after, lengths.cpu().numpy()[found.utterance])
    kept = np.flatnonzero(after - first >= min_frames)
    counts = torch.from_numpy((after - first)[kept])
    if not len(kept):
        return precise(frames).new_zeros((0, frames.shape[2])), kept
    positions = torch.from_numpy(first[kept]).unsqueeze(1) + torch.arange(int(counts.max()))
    positions = positions.clamp(max=frames.shape[1] - 1).to(frames.device)
    cut_out = frames[torch.from_numpy(found.utterance[kept]).to(frames.device).unsqueeze(1), positions]
    return mean_over_frames(cut_out, counts), kept


def read_alignments(path: Path, ids: set[str], cfg: SyllableLossConfig, tones: str) -> Alignments:
    """Of the utterances with these ids; says what there is to learn from, or that there is nothing."""
    alignments = Alignments.read(path)
    known = sorted(ids & alignments.place.keys())
    items = alignments.of(known, tones).items
    if not len(items):
        raise UserError(f"{path}: has none of the {len(ids):,} utterances of --train-cuts; align those "
                        "(python -m icefall_ext.bin.align)")
    _, count = np.unique(items.word, return_counts=True)
    both_genders = len(count) - len(spoken_by_one_gender(items))
    hopeless = [name for name, scale, there in ((TONE, cfg.tone_scale, count.max() > 1),
                                                (SPEAKER, cfg.speaker_scale, both_genders)) if scale and not there]
    for name in hopeless:
        raise UserError(f"{path}: no syllable is there with {_WANTS[name]}; leave that loss out "
                        f"(--tone-loss.{name}-scale 0)")
    says(f"syllables  {len(items):,} in {len(known):,} of {len(ids):,} utterances; {len(count):,} words ({tones} tones)"
         f", {both_genders:,} by both genders")
    return alignments
