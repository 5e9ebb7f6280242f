"""From one training to the next: what carries over, what is rebuilt for other tokens, what begins anew.

Layers as wide as the vocabulary are rebuilt whenever the tokens differ, also where there are as many of them: two
vocabularies of 500 have equal shapes and nothing else in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from icefall_ext.errors import UserError
from icefall_ext.train.run_folder import says

OF_THE_VOCABULARY = (
    "decoder.embedding.", "joiner.output_linear.", "simple_am_proj.", "simple_lm_proj.", "ctc_output."
)


def hand_over(model: nn.Module, tensors: Mapping[str, Tensor], same_tokens: bool, source: str) -> None:
    """Fill `model` with what fits from an earlier one, and say so part by part; the encoder has to fit whole."""
    own, loaded, rebuilt, wrong = model.state_dict(), [], [], []
    with torch.no_grad():
        for name, value in own.items():
            if name.startswith(OF_THE_VOCABULARY) and not same_tokens:
                rebuilt.append(name)
            elif name in tensors and tensors[name].shape == value.shape:
                value.copy_(tensors[name])
                loaded.append(name)
            elif name.startswith("encoder."):
                wrong.append(name)
            else:
                rebuilt.append(name)
    if wrong:
        raise UserError(f"{source}: {len(wrong)} tensors of the encoder ({', '.join(wrong[:3])}) are not in it with "
                        "the shapes they have here; is it of another encoder?")
    left_out = [name for name in tensors if name not in own]
    says(f"from       {source}")
    for what, names in (("loaded", loaded), ("rebuilt", rebuilt), ("left out", left_out)):
        if names:
            says(f"  {what:<9}{_by_part(names, own if what != 'left out' else tensors)}")
    says("  reset    optimiser, learning rate, counters, running average")


def _by_part(names: list[str], tensors: Mapping[str, Tensor]) -> str:
    parts: dict[str, list[int]] = {}
    for name in names:
        part = ".".join(name.split(".")[: 1 if name.startswith("encoder.") else 2])
        part = part.removesuffix(".weight").removesuffix(".bias")
        parts.setdefault(part, []).append(tensors[name].numel())
    return ", ".join(f"{part} ({sum(sizes):,} in {len(sizes)} tensors)" for part, sizes in parts.items())


def same_tokens(one: Path, other: Path) -> bool:
    """Of two lang folders."""
    return (one / "tokens.txt").read_bytes() == (other / "tokens.txt").read_bytes()
