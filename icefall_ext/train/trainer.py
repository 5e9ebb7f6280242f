"""The training loop: batches in, steps of the optimiser, running average, validation, checkpoints.

What batch n of epoch e holds is known beforehand (data/batches.py) and the random numbers of a batch depend on the seed
and its number, so a checkpoint (saving.py) is its counters, weights and optimiser: a training that was stopped anywhere
goes on with the same batches, masks and losses, on a CPU bit for bit. It stops between two steps when it is asked to.
"""

from __future__ import annotations

import copy
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from icefall_ext import console
from icefall_ext.data.batches import BatchLimits, epoch_batches, in_order, padding_share
from icefall_ext.data.index import CutIndex
from icefall_ext.data.loading import BatchStream, SpeechBatch, load_batches
from icefall_ext.distributed.world import World
from icefall_ext.errors import UserError
from icefall_ext.files import digest_of_files
from icefall_ext.interruption import Request, Stopped, name_of
from icefall_ext.optim.eden import Eden
from icefall_ext.train import checkpoint as files
from icefall_ext.train.config import LoopConfig
from icefall_ext.train.guards import Guard
from icefall_ext.train.memory import Portions, out_of_memory
from icefall_ext.train.metrics import Journal, Progress, Sums, duration, epoch_line
from icefall_ext.train.objective import Loss, Objective, Remembering
from icefall_ext.train.precision import autocast_dtype, autocasting, batch_seed, grad_scaler, gradient_norm
from icefall_ext.train.run_folder import RunFolder, says
from icefall_ext.train.saving import resume, save_batch, save_epoch

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

    def smaller(self) -> str:
        """What makes batches smaller, for whom they are too large."""
        return (f"lower --batch.max-duration (now {self.limits.max_duration:g}) or --batch.max-tokens (now "
                f"{self.limits.max_tokens}), or let --train.on-oom shrink compute such batches in parts")

    def valid_batches(self) -> list[np.ndarray]:
        batches = in_order(self.valid.durations, self.valid.token_counts, self.limits) if self.valid else []
        return batches[self.world.rank :: self.world.size]


@dataclass
class Work:
    """One batch of the step under way, and the losses of its parts (one, unless memory ran out)."""

    number: int
    batch: SpeechBatch
    losses: list[tuple[SpeechBatch, Loss]] = field(default_factory=list)

    def with_gradients(self) -> list[tuple[SpeechBatch, Loss]]:
        return [(part, loss) for part, loss in self.losses if has_gradients(part, loss)]


def has_gradients(part: SpeechBatch, loss: Loss) -> bool:
    return len(loss.left_out) < len(part) and bool(torch.isfinite(loss.total))


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
        began_from: Sequence[Path] = (),
    ):
        """`system` is what a checkpoint says about the model, so that it can be built again; `began_from` are the files
        with the weights that the first step is taken from."""
        self.folder, self.model, self.objective, self.optimizer = folder, model, objective, optimizer
        self.data, self.cfg, self.device, self.system = data, cfg, device, system
        self.world, self.began_from = data.world, began_from
        self.began = digest_of_files(began_from) if self.world.first else ""
        self.scheduler = Eden(optimizer, cfg.lr_batches, cfg.lr_epochs, cfg.lr_warmup)
        self.average = copy.deepcopy(model).to(torch.float64).requires_grad_(False) if self.world.first else None
        self.dtype = autocast_dtype(cfg.amp, device)
        self.scaler = grad_scaler(self.dtype == torch.float16)
        self.counters = Counters(average_period=cfg.average_period)
        self.guard = Guard(folder.path, cfg.max_bad_batches, cfg.max_failed_share, self.world.rank)
        self.portions = Portions(data.smaller(), device)
        self.request = Request()
        self.flags = nn.Parameter(torch.zeros(2, device=device))  # summed with the gradients: what one knows, all know
        self.of_epoch = Sums()
        self.next_batch = 0  # of the epoch
        self._step_under_way: list[Work] = []
        self._stops = False

    # ---------------------------------------------------------------- the whole training

    def fit(self) -> None:
        resumed = resume(self)
        if self.counters.cur_epoch > self.cfg.epochs:
            console.kept(self.folder.path, f"{self.cfg.epochs} epochs were done")
            return
        batches = self.data.all_batches(self.cfg.seed, self.counters.cur_epoch)
        self._say_what_begins(batches, resumed)
        done = self.counters.batch_idx_train
        to_do = len(batches) // self.world.size * (self.cfg.epochs - self.counters.cur_epoch + 1) - self.next_batch
        self.journal = Journal(self.folder.metrics, done, silent=not self.world.first)
        self.progress = Progress(done + to_do, done, silent=not self.world.first)
        try:
            with self.request.noted():
                while self.counters.cur_epoch <= self.cfg.epochs:
                    self._epoch(self.data.batches(self.cfg.seed, self.counters.cur_epoch))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(self.portions.why()) from None
        finally:
            self.progress.close()
            self.journal.close()
        self._say_what_was_done()

    def _say_what_was_done(self) -> None:
        left_out, counters = self.guard.counts.over(self.world), self.counters
        if left_out.bad_batches or left_out.without_path or left_out.failed:
            says(f"left out: {left_out.bad_batches} batches without a finite loss or gradient, {left_out.without_path} "
                 f"utterances without a path, {left_out.failed} that could not be loaded (see the log)")
        best = f"; best validation at epoch {counters.best_valid_epoch}" if self.data.valid else ""
        took = duration(self.journal.seconds)
        console.wrote(self.folder.path, f"{counters.batch_idx_train:,} batches in {took}{best}")

    def _say_what_begins(self, batches: Sequence[np.ndarray], resumed: bool) -> None:
        durations = self.data.train.durations
        if resumed:
            says(f"goes on    after batch {self.next_batch} of epoch {self.counters.cur_epoch}")
        says(f"{len(durations):,} utterances, {durations.sum() / 3600:.2f} hours, {len(batches):,} batches an epoch "
             f"({100 * padding_share(durations, batches):.1f} % padding), {self.cfg.accumulate} to a step; "
             f"{str(self.dtype or torch.float32).removeprefix('torch.')} on {self.device}, "
             f"{self.world.size} processes of {torch.get_num_threads()} threads, {self.data.workers} loading for each")

    # ---------------------------------------------------------------- an epoch

    def _epoch(self, batches: Sequence[np.ndarray]) -> None:
        counters, cfg = self.counters, self.cfg
        self.scheduler.step_epoch(counters.cur_epoch - 1)
        self.model.train()
        recent = Sums()
        with self._load(self.data.train, batches[self.next_batch :], self.data.workers) as loaded:
            for batch, waited in _timed(loaded):
                counters.batch_idx_train += 1
                self.next_batch += 1
                number, last = counters.batch_idx_train, self.next_batch == len(batches)
                self.guard.loaded(batch)
                losses = self._backward(batch.to(self.device))
                for sums in (self.of_epoch, recent):
                    sums.waited += waited
                    for part, loss in losses:
                        sums.add(part, loss)
                stepped = self.next_batch % cfg.accumulate == 0 or last
                norm = self._step() if stepped else math.nan
                if number % cfg.average_period == 0 and self.average is not None:
                    files.update_average(self.average, self.model, number, cfg.average_period)
                if number % cfg.log_every == 0 or last:
                    self._log(recent, norm)
                    recent = Sums()
                if stepped:
                    self._between_steps(last)
        self._end_of_epoch()

    def _load(self, index: CutIndex, batches: Sequence[np.ndarray], workers: int) -> BatchStream:
        return load_batches(index, batches, workers, self.device.type == "cuda")

    def _backward(self, batch: SpeechBatch) -> list[tuple[SpeechBatch, Loss]]:
        """Gradients of one batch, added to those of the step; the losses of its parts but those set aside."""
        number = self.counters.batch_idx_train
        self._step_under_way.append(Work(number, batch))
        to_do = self._step_under_way[-1:]
        while True:
            try:
                for work in to_do:
                    work.losses = self._gradients(work.number, work.batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not (self.cfg.on_oom == "shrink" and out_of_memory(error) and self.portions.shrink()):
                    raise
            # Some parameters have their gradient of the batch by now and others have not: the step from its beginning.
            self.optimizer.zero_grad(set_to_none=True)
            self.portions.tidy()
            to_do = self._step_under_way
            says(f"warning: out of memory at batch {number}; from here on, more than {self.portions.most:.1f} s with "
                 "padding is computed in parts")
        for part, loss in work.losses:
            self.guard.no_path(loss.left_out)
            if not bool(torch.isfinite(loss.total)):
                self.guard.skip([part], number, f"a loss of {loss.total.item()}")
        return work.with_gradients()

    def _gradients(self, number: int, batch: SpeechBatch) -> list[tuple[SpeechBatch, Loss]]:
        if not len(batch):
            return []
        torch.manual_seed(batch_seed(self.cfg.seed, (number - 1) * self.world.size + self.world.rank))
        losses = []
        for part in self.portions.of(batch):
            with self.autocast():
                loss = self.objective(part, number)
            if has_gradients(part, loss):
                self.scaler.scale(loss.total).backward()
            losses.append((part, loss))
        return losses

    def _step(self) -> float:
        """One step of the optimiser, for all processes alike; returns the norm of the gradient."""
        parts = [part for work in self._step_under_way for part, _ in work.with_gradients()]
        self._step_under_way = []
        self.flags.grad = self.flags.new_tensor([bool(self.request.number), self.portions.shrunk])
        anything = self.world.sum_gradients([*self.model.parameters(), self.flags], len(parts))
        self._stops, shrunk = (self.flags.grad > 0).tolist()
        if shrunk:
            self.portions.most, self.portions.shrunk = min(self.world.gather(self.portions.most)), False
        if not anything:
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
            self.guard.skip(parts, number, f"a gradient of norm {norm}")
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

    def _between_steps(self, last: bool) -> None:
        """What is due after a step; after the last one of an epoch all but stopping is left to the end of the epoch."""
        number, cfg = self.counters.batch_idx_train, self.cfg
        step = min(cfg.accumulate, number)
        if self._stops:
            self._stop()
        if last:
            return
        if cfg.valid_interval and number % cfg.valid_interval < step:
            self._validate()
        if number % cfg.save_every < step:
            save_batch(self)

    def _stop(self) -> None:
        path, counters = save_batch(self), self.counters
        self.world.wait()
        if not self.world.first:
            raise SystemExit(self.request.exit_status)
        by = name_of(self.request.number) if self.request.number else "on request"
        raise Stopped(f"{by}: stopped after batch {self.next_batch} of epoch {counters.cur_epoch}, {path} is written; "
                      "the same command continues", self.request.exit_status)

    def _end_of_epoch(self) -> None:
        counters, of_epoch = self.counters, self.of_epoch.over(self.world)
        epoch = counters.cur_epoch
        if not of_epoch.units:
            raise UserError(f"epoch {epoch}: not one batch with a finite loss; see {self.folder.path}/log")
        if isinstance(self.objective, Remembering):
            self.objective.check_epoch(epoch, of_epoch.ratios)
        valid = self._validate()
        best = []
        train_loss = of_epoch.means()["loss"]
        if train_loss < counters.best_train_loss:
            counters.best_train_loss, counters.best_train_epoch = train_loss, epoch
            best.append("best-train-loss.pt")
        if valid.get("loss", math.inf) < counters.best_valid_loss:
            counters.best_valid_loss, counters.best_valid_epoch = valid["loss"], epoch
            best.append("best-valid-loss.pt")
        counters.cur_epoch, self.next_batch, self.of_epoch = epoch + 1, 0, Sums()
        save_epoch(self, epoch, best)
        epoch_line(epoch, self.cfg.epochs, of_epoch, valid, self.objective.unit)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Means over the validation data; nothing is changed by it, so a request to stop need not wait for its end."""
        if self.data.valid is None:
            return {}
        self.model.eval()
        sums = Sums()
        with self._load(self.data.valid, self.data.valid_batches(), min(self.data.workers, 1)) as loaded:
            for batch in loaded:
                if self.request.number:
                    break
                for part in self.portions.of(batch.to(self.device)) if len(batch) else ():
                    with self.autocast():
                        sums.add(part, self.objective(part, AFTER_WARM_UP))
        self.model.train()
        if any(self.world.gather(self.request.number)):
            self._stop()
        means = sums.over(self.world).means()
        self.journal.write("valid", self.counters.cur_epoch, self.counters.batch_idx_train, means)
        return means

    def autocast(self):
        return autocasting(self.device, self.dtype)


def _timed(batches: Iterable[SpeechBatch]) -> Iterator[tuple[SpeechBatch, float]]:
    """Each with the seconds that it was waited for."""
    start = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - start
        start = time.monotonic()
