"""Batches that would spoil a model: set aside, written down, and counted; too many in a row end the training."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.distributed.world import World
from icefall_ext.errors import UserError
from icefall_ext.files import write_text

log = logging.getLogger(__name__)


@dataclass
class Counts:
    """Of this process; those before a training was stopped count for its first."""

    utterances: int = 0
    failed: int = 0  # that could not be loaded
    without_path: int = 0
    bad_batches: int = 0

    def over(self, world: World) -> Counts:
        return Counts(*map(sum, zip(*world.gather(astuple(self)))))


class Guard:
    def __init__(self, folder: Path, max_in_a_row: int, max_failed_share: float, rank: int = 0):
        """`folder` is that of the training. Each process has files of its own."""
        self._max_in_a_row, self._max_failed_share = max_in_a_row, max_failed_share
        self._folder, self._of_rank = folder, f"-rank-{rank}" if rank else ""
        self._list = folder / f"cannot-be-loaded{self._of_rank}.tsv"
        self._listed: set[str] | None = None
        self.counts, self.in_a_row = Counts(), 0

    def skip(self, batches: Sequence[SpeechBatch], number: int, what: str) -> None:
        """A batch, or those of one step, whose loss or gradient is not finite."""
        self.in_a_row += 1
        self.counts.bad_batches += 1
        path = self._folder / "bad-batches" / f"batch-{number}{self._of_rank}.json"
        utterances = [
            {"id": id, "seconds": int(length) / 16000, "tokens": list(tokens)}
            for batch in batches
            for id, length, tokens in zip(batch.ids, batch.lengths, batch.tokens)
        ]
        write_text(path, json.dumps({"batch": number, "why": what, "utterances": utterances}, indent=1) + "\n")
        log.warning("batch %d left out: %s; its %d utterances are in %s", number, what, len(utterances), path)
        if self.in_a_row >= self._max_in_a_row:
            raise UserError(
                f"{what} in {self.in_a_row} batches in a row, the last at batch {number} ({path}): the model has "
                "diverged; continue from an earlier checkpoint with a lower --train.lr, or with --train.amp off"
            )

    def passed(self) -> None:
        self.in_a_row = 0

    def loaded(self, batch: SpeechBatch) -> None:
        """Counts and lists what could not be loaded, and stops when it is more than a few."""
        counts, share = self.counts, self._max_failed_share
        counts.utterances += len(batch) + len(batch.failed)
        for id, reason in batch.failed:
            counts.failed += 1
            log.warning("left out: %s", reason if id in reason else f"{id}: {reason}")
            self._keep(id, reason)
        if counts.failed > max(share * counts.utterances, share * 1000):
            raise UserError(
                f"{counts.failed} of {counts.utterances} utterances could not be loaded, the last: "
                f"{batch.failed[-1][1]} (all are in {self._list}; --train.max-failed-share sets how many may)"
            )

    def _keep(self, id: str, reason: str) -> None:
        """A line in a list that grows over all runs of the training, once for each utterance."""
        if self._listed is None:
            there = self._list.read_text(encoding="utf-8").splitlines() if self._list.is_file() else []
            self._listed = {line.partition("\t")[0] for line in there}
        if id not in self._listed:
            self._listed.add(id)
            with open(self._list, "a", encoding="utf-8") as stream:
                stream.write(f"{id}\t{reason}\n")

    def no_path(self, ids: Sequence[str]) -> None:
        self.counts.without_path += len(ids)
        for id in ids:
            log.warning("%s: left out of its batch, its loss is infinite", id)
