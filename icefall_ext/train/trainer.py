"""The training loop: batches in, steps of the optimiser, running average, validation, checkpoints.

What batch n of epoch e holds is known beforehand (data/batches.py) and the random numbers of a batch depend on the seed
and its number, so a checkpoint is its counters, weights and optimiser: a training that was stopped anywhere goes on
with the same batches, masks and losses, on a CPU bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from icefall_ext import console
from icefall_ext.data.batches import BatchLimits, epoch_batches, in_order, padding_share
from icefall_ext.data.index import CutIndex
from icefall_ext.data.loading import SpeechBatch, load_batches
from icefall_ext.errors import UserError
from icefall_ext.files import atomic_path
from icefall_ext.optim.eden import Eden
from icefall_ext.train import checkpoint as files
from icefall_ext.train.config import LoopConfig
from icefall_ext.train.guards import Guard
from icefall_ext.train.metrics import Journal, Progress, Sums, duration, epoch_line
from icefall_ext.train.objective import Loss, Objective
from icefall_ext.train.run_folder import RunFolder, says
from icefall_ext.train.world import World

AFTER_WARM_UP = sys.maxsize  # a batch number that gives all validations the same weights
log = logging.getLogger(__name__)


@dataclass
class Counters:
    """Where a training is, under icefall's names; at the top level of a checkpoint."""

    batch_idx_train: int = 0
    cur_epoch: int = 1
    average_period: int = 0
    best_train_loss: float = math.inf
    best_valid_loss: float = math.inf
    best_train_epoch: int = -1
    best_valid_epoch: int = -1


@dataclass
class TrainingData:
    train: CutIndex
    valid: CutIndex | None
    limits: BatchLimits
    workers: int = 0

    world: World = World()

    def all_batches(self, seed: int, epoch: int) -> list[np.ndarray]:
        return epoch_batches(
            self.train.durations, self.train.token_counts, self.limits, seed, epoch, self.world.size
        )

    def batches(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Those of this process."""
        return self.all_batches(seed, epoch)[self.world.rank :: self.world.size]

    def valid_batches(self) -> list[np.ndarray]:
        batches = in_order(self.valid.durations, self.valid.token_counts, self.limits) if self.valid else []
        return batches[self.world.rank :: self.world.size]


class Trainer:
    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        data: TrainingData,
        cfg: LoopConfig,
        device: torch.device,
        system: dict[str, Any],
    ):
        """`system` is what a checkpoint says about the model, so that it can be built again."""
        self.folder, self.model, self.objective, self.optimizer = folder, model, objective, optimizer
        self.data, self.cfg, self.device, self.system = data, cfg, device, system
        self.world = data.world
        self.scheduler = Eden(optimizer, cfg.lr_batches, cfg.lr_epochs, cfg.lr_warmup)
        self.average = copy.deepcopy(model).to(torch.float64).requires_grad_(False) if self.world.first else None
        self.dtype = autocast_dtype(cfg.amp, device)
        self.scaler = grad_scaler(self.dtype == torch.float16)
        self.counters = Counters(average_period=cfg.average_period)
        self.guard = Guard(folder.path / "bad-batches", cfg.max_bad_batches, cfg.max_failed_share)
        self._next_batch = 0  # of the epoch

    # ---------------------------------------------------------------- the whole training

    def fit(self) -> None:
        resumed = self._resume()
        if self.counters.cur_epoch > self.cfg.epochs:
            console.kept(self.folder.path, f"{self.cfg.epochs} epochs were done")
            return
        batches = self.data.all_batches(self.cfg.seed, self.counters.cur_epoch)
        self._say_what_begins(batches, resumed)
        done = self.counters.batch_idx_train
        to_do = len(batches) // self.world.size * (self.cfg.epochs - self.counters.cur_epoch + 1) - self._next_batch
        self.journal = Journal(self.folder.metrics, done, silent=not self.world.first)
        self.progress = Progress(done + to_do, done, silent=not self.world.first)
        try:
            while self.counters.cur_epoch <= self.cfg.epochs:
                self._epoch(self.data.batches(self.cfg.seed, self.counters.cur_epoch))
        finally:
            self.progress.close()
            self.journal.close()
        self._say_what_was_done()

    def _say_what_was_done(self) -> None:
        guard, counters = self.guard, self.counters
        of_all = self.world.gather((guard.bad_batches, guard.without_path, guard.failed))
        bad, no_path, failed = map(sum, zip(*of_all))
        if bad or no_path or failed:
            says(f"left out: {bad} batches without a finite loss or gradient, {no_path} utterances without a path, "
                 f"{failed} that could not be loaded (see the log)")
        best = f"; best validation at epoch {counters.best_valid_epoch}" if self.data.valid else ""
        took = duration(self.journal.seconds)
        console.wrote(self.folder.path, f"{counters.batch_idx_train:,} batches in {took}{best}")

    def _say_what_begins(self, batches: Sequence[np.ndarray], resumed: bool) -> None:
        durations = self.data.train.durations
        if resumed:
            says(f"goes on    at batch {self._next_batch + 1} of epoch {self.counters.cur_epoch}")
        says(f"{len(durations):,} utterances, {durations.sum() / 3600:.2f} hours, {len(batches):,} batches an epoch "
             f"({100 * padding_share(durations, batches):.1f} % padding), {self.cfg.accumulate} to a step; "
             f"{str(self.dtype or torch.float32).removeprefix('torch.')} on {self.device}, "
             f"{self.world.size} processes of {torch.get_num_threads()} threads, {self.data.workers} loading for each")

    # ---------------------------------------------------------------- an epoch

    def _epoch(self, batches: Sequence[np.ndarray]) -> None:
        counters, cfg = self.counters, self.cfg
        self.scheduler.step_epoch(counters.cur_epoch - 1)
        self.model.train()
        of_epoch, recent, pending = Sums(), Sums(), []
        for batch, waited in self._loaded(batches[self._next_batch :]):
            counters.batch_idx_train += 1
            self._next_batch += 1
            number, last = counters.batch_idx_train, self._next_batch == len(batches)
            loss = self._backward(batch)
            if loss is not None:
                pending.append(batch)
            for sums in (of_epoch, recent):
                sums.add(loss, batch, waited)
            stepped = self._next_batch % cfg.accumulate == 0 or last
            norm = self._step(pending) if stepped else math.nan
            if stepped:
                pending = []
            if number % cfg.average_period == 0 and self.average is not None:
                files.update_average(self.average, self.model, number, cfg.average_period)
            if number % cfg.log_every == 0 or last:
                self._log(recent, norm)
                recent = Sums()
            if stepped and not last:
                self._between_steps()
        self._end_of_epoch(of_epoch)

    def _loaded(self, batches: Sequence[np.ndarray]) -> Iterable[tuple[SpeechBatch, float]]:
        """Batches on the device, also those that nothing could be loaded of, and how long each was waited for."""
        loader = iter(load_batches(self.data.train, batches, self.data.workers, self.device.type == "cuda"))
        while True:
            start = time.monotonic()
            batch = next(loader, None)
            if batch is None:
                return
            self.guard.loaded(batch)
            yield batch.to(self.device), time.monotonic() - start

    def _backward(self, batch: SpeechBatch) -> Loss | None:
        """Gradients of one batch, added to those of the step; None if it was set aside."""
        if not len(batch):
            return None
        number = self.counters.batch_idx_train
        torch.manual_seed(batch_seed(self.cfg.seed, (number - 1) * self.world.size + self.world.rank))
        with self.autocast():
            loss = self.objective(batch, number)
        self.guard.no_path(loss.left_out)
        if not bool(torch.isfinite(loss.total)):
            self.guard.skip([batch], number, f"a loss of {loss.total.item()}")
            return None
        if len(loss.left_out) == len(batch):
            return None
        self.scaler.scale(loss.total).backward()
        return loss

    def _step(self, pending: Sequence[SpeechBatch]) -> float:
        """One step of the optimiser, for all processes alike; returns the norm of the gradient."""
        if not self.world.sum_gradients(self.model.parameters(), len(pending)):
            self.optimizer.zero_grad(set_to_none=True)
            return math.nan
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.model)
        number = self.counters.batch_idx_train
        if math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.guard.passed()
        elif self.scaler.is_enabled() and self.scaler.get_scale() > 2.0**-10:
            log.info("batch %d: gradient too large for float16, its scale is halved", number)
        else:
            self.guard.skip(pending, number, f"a gradient of norm {norm}")
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step_batch(number)
        return norm

    def _log(self, recent: Sums, norm: float) -> None:
        recent = recent.over(self.world)
        if not recent.units:
            return
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        values = recent.means() | {"lr": rates[-1], "grad_norm": norm} | recent.speed()
        if self.scaler.is_enabled():
            values["grad_scale"] = self.scaler.get_scale()
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        counters = self.counters
        self.journal.write("train", counters.cur_epoch, counters.batch_idx_train, values)
        log.info("epoch %d, batch %d: %s", counters.cur_epoch, counters.batch_idx_train,
                 ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        shown = {"loss": values["loss"], "lr": values["lr"], "audio s/s": values["audio_s_per_s"]}
        self.progress.show(counters.cur_epoch, counters.batch_idx_train, shown)

    def _between_steps(self) -> None:
        number, cfg = self.counters.batch_idx_train, self.cfg
        step = min(cfg.accumulate, number)
        if cfg.valid_interval and number % cfg.valid_interval < step:
            self._validate()
        if number % cfg.save_every < step and self.world.first:
            self._save(self.folder.path / f"checkpoint-{number}.pt")
            for old in sorted(files.batch_checkpoints(self.folder.path).items())[: -cfg.keep_last]:
                old[1].unlink()

    def _end_of_epoch(self, of_epoch: Sums) -> None:
        counters, of_epoch = self.counters, of_epoch.over(self.world)
        epoch = counters.cur_epoch
        if not of_epoch.units:
            raise UserError(f"epoch {epoch}: not one batch with a finite loss; see {self.folder.path}/log")
        valid = self._validate() if self.data.valid else {}
        train_loss = of_epoch.means()["loss"]
        better_train = train_loss < counters.best_train_loss
        better_valid = valid.get("loss", math.inf) < counters.best_valid_loss
        if better_train:
            counters.best_train_loss, counters.best_train_epoch = train_loss, epoch
        if better_valid:
            counters.best_valid_loss, counters.best_valid_epoch = valid["loss"], epoch
        counters.cur_epoch, self._next_batch = epoch + 1, 0
        if self.world.first:
            self._save_epoch(epoch, better_train, better_valid)
        epoch_line(epoch, self.cfg.epochs, of_epoch, valid, self.objective.unit)

    def _save_epoch(self, epoch: int, better_train: bool, better_valid: bool) -> None:
        path = self.folder.path / f"epoch-{epoch}.pt"
        self._save(path)
        for better, name in ((better_train, "best-train-loss.pt"), (better_valid, "best-valid-loss.pt")):
            if better:
                with atomic_path(self.folder.path / name) as temporary:
                    shutil.copyfile(path, temporary)
        if self.cfg.keep_epochs:
            for old in sorted(files.epoch_checkpoints(self.folder.path).items())[: -self.cfg.keep_epochs]:
                old[1].unlink()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        if self.data.valid is None:
            return {}
        self.model.eval()
        sums = Sums()
        workers = min(self.data.workers, 1)
        for batch in load_batches(self.data.valid, self.data.valid_batches(), workers, self.device.type == "cuda"):
            if len(batch):
                with self.autocast():
                    loss = self.objective(batch.to(self.device), AFTER_WARM_UP)
                sums.add(loss, batch)
        self.model.train()
        means = sums.over(self.world).means()
        self.journal.write("valid", self.counters.cur_epoch, self.counters.batch_idx_train, means)
        return means

    # ---------------------------------------------------------------- checkpoints

    def _save(self, path) -> None:
        files.save_checkpoint(path, {
            "model": self.model.state_dict(),
            "model_avg": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "grad_scaler": self.scaler.state_dict(),
            "sampler": {"epoch": self.counters.cur_epoch, "next_batch": self._next_batch, "seed": self.cfg.seed},
            "system": self.system,
            "data": self.data.train.key,
            **asdict(self.counters),
        })

    def _resume(self) -> bool:
        path = files.latest_checkpoint(self.folder.path)
        if path is None:
            return False
        saved = files.load_checkpoint(path)
        if saved.get("data", self.data.train.key) != self.data.train.key:
            raise UserError(f"{path}: trained on other data than there is now (cuts, tokens or limits of length have "
                            "changed since); name another folder, or remove this one to begin anew")
        files.fill_model(self.model, saved["model"], str(path))
        if self.average is not None:
            files.fill_model(self.average, saved["model_avg"], str(path))
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        if saved.get("grad_scaler"):
            self.scaler.load_state_dict(saved["grad_scaler"])
        self.counters = Counters(**{name: saved[name] for name in asdict(self.counters)})
        self._next_batch = saved["sampler"]["next_batch"]
        console.reads(path)
        return True

    def autocast(self):
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """None is float32. A CPU computes in float32 unless asked: its bfloat16 is slower."""
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    if amp == "fp16" and device.type != "cuda":
        raise UserError("--train.amp fp16: needs a GPU; take bf16 or off")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def grad_scaler(enabled: bool):
    """torch 2.3 moved it."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def batch_seed(seed: int, batch: int) -> int:
    """For torch's generator; neighbours must not be alike, as they would be with seed + batch."""
    return int(np.random.SeedSequence((seed, batch)).generate_state(1, np.uint64)[0]) >> 1


def gradient_norm(model: nn.Module) -> float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients])))
