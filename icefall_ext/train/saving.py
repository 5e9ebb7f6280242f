"""What a training leaves behind, and goes on from: everything that its next step depends on.

All processes come here together, because what is counted in an epoch is counted over all of them. The first one writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.errors import UserError
from icefall_ext.train import checkpoint as files
from icefall_ext.train.guards import Counts
from icefall_ext.train.metrics import Sums
from icefall_ext.train.objective import Remembering

if TYPE_CHECKING:
    from icefall_ext.train.trainer import Trainer


def save_batch(trainer: Trainer) -> Path:
    """checkpoint-N.pt after batch N; only the last few stay."""
    folder = trainer.folder.path
    path = folder / f"checkpoint-{trainer.counters.batch_idx_train}.pt"
    _save(trainer, path)
    if trainer.world.first:
        _remove_all_but(trainer.cfg.keep_last, files.batch_checkpoints(folder))
    return path


def save_epoch(trainer: Trainer, epoch: int, best: Sequence[str]) -> None:
    """epoch-N.pt, and copies of it under the names in `best`."""
    folder = trainer.folder.path
    _save(trainer, folder / f"epoch-{epoch}.pt", [folder / name for name in best])
    if trainer.world.first and trainer.cfg.keep_epochs:
        _remove_all_but(trainer.cfg.keep_epochs, files.epoch_checkpoints(folder))


def resume(trainer: Trainer) -> bool:
    """Whether there was something to go on from."""
    folder, world = trainer.folder.path, trainer.world
    found = files.newest_whole(folder) if world.first else None
    if found and found[1].get("began", trainer.began) != trainer.began:
        raise UserError(f"{found[0]}: began from other weights than {' '.join(map(str, trainer.began_from))} now "
                        "holds; name another folder, or remove this one to begin anew")
    path = world.gather(found and found[0])[0]
    if path is None:
        return False
    saved = found[1] if found else files.load_checkpoint(path)
    if saved.get("data", trainer.data.train.key) != trainer.data.train.key:
        raise UserError(f"{path}: trained on other data than there is now (cuts, tokens or limits of length have "
                        "changed since); name another folder, or remove this one to begin anew")
    files.fill_model(trainer.model, saved["model"], str(path))
    if trainer.average is not None:
        files.fill_model(trainer.average, saved["model_avg"], str(path))
    trainer.optimizer.load_state_dict(saved["optimizer"])
    trainer.scheduler.load_state_dict(saved["scheduler"])
    if saved.get("grad_scaler"):
        trainer.scaler.load_state_dict(saved["grad_scaler"])
    trainer.counters = type(trainer.counters)(**{name: saved[name] for name in asdict(trainer.counters)})
    trainer.next_batch = saved["sampler"]["next_batch"]
    trainer.portions.most = min(trainer.portions.most, saved.get("most_seconds", trainer.portions.most))
    if world.first and "of_epoch" in saved:
        trainer.of_epoch = Sums.from_dict(saved["of_epoch"])
        trainer.guard.counts = Counts(**saved["counts"])
    of_processes = saved.get("objective", [])
    if isinstance(trainer.objective, Remembering) and world.rank < len(of_processes):
        trainer.objective.load_state_dict(of_processes[world.rank], trainer.device)
    console.reads(path)
    return True


def _save(trainer: Trainer, path: Path, copies: Sequence[Path] = ()) -> None:
    of_epoch, counts = trainer.of_epoch.over(trainer.world), trainer.guard.counts.over(trainer.world)
    objective = trainer.objective
    remembered = trainer.world.gather(objective.state_dict()) if isinstance(objective, Remembering) else []
    if not trainer.world.first:
        return
    files.save_checkpoint(path, {
        "model": trainer.model.state_dict(),
        "model_avg": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.scheduler.state_dict(),
        "grad_scaler": trainer.scaler.state_dict(),
        "sampler": {"epoch": trainer.counters.cur_epoch, "next_batch": trainer.next_batch, "seed": trainer.cfg.seed},
        "system": trainer.system,
        "data": trainer.data.train.key,
        "began": trainer.began,
        "of_epoch": of_epoch.to_dict(),
        "counts": asdict(counts),
        "most_seconds": trainer.portions.most,
        **({"objective": remembered} if remembered else {}),
        **asdict(trainer.counters),
    }, copies)


def _remove_all_but(last: int, by_number: Mapping[int, Path]) -> None:
    for number in sorted(by_number)[:-last]:
        by_number[number].unlink()
