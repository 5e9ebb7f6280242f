"""Parameters of an encoder by part: how many there are, which train, and at which learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from icefall_ext.encoders.spec import EMBEDDINGS, FRONT_END
from icefall_ext.encoders.speech_encoder import SpeechEncoder


@dataclass
class LearningRateGroup:
    """Trainable parameters under one factor on the base learning rate."""

    name: str
    lr_scale: float
    named_parameters: list[tuple[str, nn.Parameter]] = field(default_factory=list)


def learning_rate_groups(encoder: SpeechEncoder, prefix: str = "") -> list[LearningRateGroup]:
    """One group for each part that trains, from the front end up; frozen parameters are in none.

    Layer k of n gets lr_scale * layer_lr_decay ** (n - k), everything below the layers what a layer 0 would get, the
    last norm lr_scale. Subsampling is not pre-trained and gets 1. `prefix` goes before each name ("encoder.").
    """
    groups: dict[int, LearningRateGroup] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            depth = encoder.depth_of(name)
            group = groups.setdefault(depth, LearningRateGroup(part_name(encoder, depth), _scale(encoder, depth)))
            group.named_parameters.append((prefix + name, parameter))
    return [groups[depth] for depth in sorted(groups)]


def _scale(encoder: SpeechEncoder, depth: int) -> float:
    if depth == encoder.num_layers + 3:
        return 1.0
    layer = min(max(depth - 1, 0), encoder.num_layers)
    return encoder.cfg.lr_scale * encoder.cfg.layer_lr_decay ** (encoder.num_layers - layer)


def part_name(encoder: SpeechEncoder, depth: int) -> str:
    last = encoder.num_layers
    names = {FRONT_END: "front end", EMBEDDINGS: "embeddings", last + 2: "last norm", last + 3: "subsampling"}
    return names.get(depth) or f"layer {depth - 1}"


def parameter_counts(encoder: SpeechEncoder) -> list[tuple[str, int, int]]:
    """(part, parameters, those that train), layers that are treated alike in one row, and a row for the sum."""
    totals: dict[int, tuple[int, int]] = {}
    for name, parameter in encoder.named_parameters():
        depth = encoder.depth_of(name)
        count, trained = totals.get(depth, (0, 0))
        totals[depth] = count + parameter.numel(), trained + parameter.numel() * parameter.requires_grad
    rows: list[tuple[str, int, int]] = []
    for depths in _alike(encoder, sorted(totals)):
        name = part_name(encoder, depths[0])
        if len(depths) > 1:
            name = f"layers {depths[0] - 1}-{depths[-1] - 1}"
        rows.append((name, sum(totals[depth][0] for depth in depths), sum(totals[depth][1] for depth in depths)))
    return [*rows, ("encoder", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def _alike(encoder: SpeechEncoder, depths: Sequence[int]) -> list[list[int]]:
    """Neighbouring layers that are all frozen or all trained."""
    runs: list[list[int]] = []
    for depth in depths:
        is_layer = EMBEDDINGS < depth <= encoder.num_layers + 1
        joins = runs and is_layer and runs[-1][-1] > EMBEDDINGS
        if joins and encoder.is_frozen(runs[-1][-1]) == encoder.is_frozen(depth):
            runs[-1].append(depth)
        else:
            runs.append([depth])
    return runs
