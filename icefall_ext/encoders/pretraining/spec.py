"""What a user chooses about masked prediction. Imports no torch, so that programs read their options in no time."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.cli import option
from icefall_ext.errors import UsageError


@dataclass
class PredictionConfig:
    clusters: int = option(100, "units to predict")
    mask_prob: float = option(0.65, "share of frames to hide, overlaps included")
    mask_seconds: float = option(0.2, "length of one mask")
    code_dim: int = option(256, "width in which frames are compared with units")
    temperature: float = option(0.1, "divides the cosine")
    unmasked_weight: float = option(0.0, "weight of the loss on frames that are not hidden")
    feature_penalty: float = option(10.0, "weight of the mean square of what learnt convolutions give")

    def check(self) -> None:
        if not 2 <= self.clusters <= 100_000:
            raise UsageError(f"clusters {self.clusters}: must lie between 2 and 100000")
        if not 0.0 < self.mask_prob <= 1.0:
            raise UsageError(f"mask_prob {self.mask_prob}: must be above 0, at most 1")
        if self.code_dim < 1:
            raise UsageError(f"code_dim {self.code_dim}: must be at least 1")
        for name in ("mask_seconds", "temperature"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name)}: must be above 0")
        for name in ("unmasked_weight", "feature_penalty"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} {getattr(self, name)}: must not be below 0")
