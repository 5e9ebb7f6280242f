"""What a user chooses about a transducer. Imports no torch: programs read their options before they load anything."""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.cli import option
from icefall_ext.errors import UsageError

PREDICTORS = ("stateless", "lstm")
BACKENDS = ("auto", "torch", "triton", "k2")
RNNT_TYPES = ("regular", "modified", "constrained")


@dataclass
class ModelConfig:
    predictor: str = option("stateless", "prediction network", choices=PREDICTORS)
    context_size: int = option(2, "stateless: tokens it sees")
    predictor_dim: int = option(256, "width of the predictor")
    lstm_layers: int = option(1, "lstm: layers")
    joiner_dim: int = option(256, "width of the joiner")
    ctc: bool = option(True, "a CTC head beside the transducer")
    rnnt_backend: str = option("auto", "of the pruned loss; auto takes k2 where it imports", choices=BACKENDS)
    rnnt_type: str = option("regular", "topology of the transducer", choices=RNNT_TYPES)
    prune_range: int = option(5, "symbols that the joiner sees on each frame")
    lm_scale: float = option(0.25, "share of the predictor alone in the simple loss")
    am_scale: float = option(0.0, "share of the encoder alone in the simple loss")
    delay_penalty: float = option(0.0, "pushes symbols to earlier frames")

    def check(self) -> None:
        for name in ("context_size", "predictor_dim", "lstm_layers", "joiner_dim"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.prune_range < (2 if self.rnnt_type == "regular" else 1):
            raise UsageError(f"prune_range {self.prune_range}: at least 2, or 1 where a symbol passes a frame")
        if not (self.lm_scale >= 0 and self.am_scale >= 0 and self.lm_scale + self.am_scale <= 1):
            raise UsageError(f"lm_scale {self.lm_scale}, am_scale {self.am_scale}: shares, at most 1 together")
