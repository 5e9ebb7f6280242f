"""The processes of one training: one alone, or as many as torchrun, srun or icefall_ext.bin.launch started.

Gradients are summed over the processes once per step, in a few flat buffers, after the last backward pass of the step.
DistributedDataParallel, which sends each gradient while others are being computed, is not used: its hooks want every
parameter to get its gradient exactly once in a backward pass, and the pruned loss runs the joiner several times. So
there is no message while batches accumulate, and parameters that got no gradient (layers that were dropped, a process
without a batch) count as zero; frozen ones are never sent.

A process that dies is no business of the collectives: with gloo its connections close and the others fail at once, with
NCCL they wait for it, up to the time limit below. The launchers end them, within seconds on one machine and between
machines that can still speak, within half a minute where a machine has vanished (icefall_ext/distributed/link.py).
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from icefall_ext.distributed.place import Place
from icefall_ext.errors import UserError
from icefall_ext.interruption import BY_HAND

T = TypeVar("T")
_BUCKET_BYTES = 64 << 20
_TIMEOUT = datetime.timedelta(minutes=30)  # the first process indexes the cuts while the others wait


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1

    @staticmethod
    @contextmanager
    def start(device: torch.device) -> Iterator[World]:
        """As a launcher says; alone without one. Only the first process speaks."""
        place = Place.of_this_process()
        if place.size == 1:
            yield World()
            return
        if device.type == "cuda":
            torch.cuda.set_device(_gpu_of(place))
        if os.environ.get("MASTER_ADDR", "").startswith("127.") and os.path.isdir("/sys/class/net/lo"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where the machine's own name leads nowhere
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=_meeting_place(), rank=place.rank,
                                world_size=place.size, timeout=_TIMEOUT)
        world = World(place.rank, place.size)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stdout if world.first else nowhere):
            try:
                yield world
            except BaseException as error:
                atexit.register(_end_at_once, _exit_status(error))
                raise
        dist.destroy_process_group()  # not after an error: it would wait for the others

    @contextmanager
    def first_process_first(self) -> Iterator[None]:
        """The others enter when the first has left."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter], batches: int) -> int:
        """In place, over all processes; one that had no batch gives zeros. Returns the sum of `batches`."""
        if self.size == 1:
            return batches
        trained = [p for p in parameters if p.requires_grad]
        for p in trained:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        count = trained[0].grad.new_full((1,), batches, dtype=torch.float32)  # travels along: one message less
        for bucket in _buckets([count, *(p.grad for p in trained)]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket])):
                gradient.copy_(part.view_as(gradient))
        return int(count)

    def gather(self, value: T) -> list[T]:
        """The value of every process, in order of rank, for all of them."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def _meeting_place() -> dist.Store:
    """torchrun on a fixed port (no `--rdzv-backend`) keeps its store when it starts the processes anew. Without a
    prefix for each start they would find the addresses of the dead, and wait for them."""
    store, _, _ = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    return dist.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _exit_status(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return BY_HAND if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_status", 1)


def _end_at_once(status: int) -> None:
    """Threads of the collectives still run. Taking them down while the others are gone may abort the process, and then
    the status would be that of the abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _gpu_of(place: Place) -> int:
    """srun may show every process its own GPU alone."""
    there = torch.cuda.device_count()
    if place.local_rank >= there > 1:
        raise UserError(f"{platform.node()}: {there} GPUs for {place.local_rank + 1} or more processes; start one for "
                        "each GPU")
    return place.local_rank if there > 1 else 0


def _buckets(gradients: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Of one type each, and not too large to copy."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or size >= _BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        yield bucket
