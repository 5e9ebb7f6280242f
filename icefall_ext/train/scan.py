"""The largest batches first: an epoch that would run out of memory says so in its first minute.

A scan runs the model forward and back, takes no step, and draws nothing that the training will draw: batches are known
beforehand, and every batch seeds its own random numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icefall_ext.data.batches import worst_batches
from icefall_ext.data.loading import SpeechBatch, load_batches
from icefall_ext.errors import UserError
from icefall_ext.train.memory import out_of_memory, shape
from icefall_ext.train.objective import Remembering
from icefall_ext.train.run_folder import says

if TYPE_CHECKING:
    from icefall_ext.train.trainer import Trainer


def try_largest_batches(trainer: Trainer) -> None:
    index, device = trainer.data.train, trainer.device
    batches = trainer.data.batches(trainer.cfg.seed, trainer.counters.cur_epoch)
    trainer.model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    shapes = []
    remembered = trainer.objective.state_dict() if isinstance(trainer.objective, Remembering) else None
    with load_batches(index, worst_batches(index.durations, index.token_counts, batches)) as loaded:
        for batch in loaded:
            shapes += _fits(trainer, batch.to(device))
    if remembered is not None:
        trainer.objective.load_state_dict(remembered, device)
    memory = f", at most {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    says(f"largest    {'; '.join(shapes)}: they fit{memory}")


def _fits(trainer: Trainer, batch: SpeechBatch) -> list[str]:
    """The shapes that it was computed in."""
    while True:
        shapes = []
        try:
            for part in trainer.portions.of(batch):
                with trainer.autocast():
                    trainer.objective(part, 1).total.backward()
                shapes.append(shape(part))
            return shapes
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if trainer.cfg.on_oom != "shrink" or not trainer.portions.shrink():
                raise UserError(trainer.portions.why()) from None
        finally:
            trainer.optimizer.zero_grad(set_to_none=True)
        trainer.portions.tidy()
