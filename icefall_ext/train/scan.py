"""The largest batches first: an epoch that would run out of memory says so in its first minute.

A scan runs the model forward and back, takes no step, and draws nothing that the training will draw: batches are known
beforehand, and every batch seeds its own random numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icefall_ext.data.batches import worst_batches
from icefall_ext.data.loading import load_batches
from icefall_ext.errors import UserError
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
    for batch in load_batches(index, worst_batches(index.durations, index.token_counts, batches)):
        shape = f"{len(batch)} x {float(batch.lengths.max()) / 16000:.1f} s, {max(map(len, batch.tokens))} tokens"
        try:
            with trainer.autocast():
                trainer.objective(batch.to(device), 1).total.backward()
        except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one; a CPU's allocator has none of its own
            if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
                raise
            limits = trainer.data.limits
            raise UserError(f"a batch of {shape} does not fit into the memory of {device}: lower --batch.max-duration "
                            f"(now {limits.max_duration:g}) or --batch.max-tokens (now {limits.max_tokens}), or set "
                            "--encoder.gradient-checkpointing") from None
        shapes.append(shape)
        trainer.optimizer.zero_grad(set_to_none=True)
    memory = f", at most {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    says(f"largest    {'; '.join(shapes)}: they fit{memory}")
