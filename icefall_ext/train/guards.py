"""Batches that would spoil a model: set aside, written down, and counted; too many in a row end the training."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.errors import UserError
from icefall_ext.files import write_text

log = logging.getLogger(__name__)


class Guard:
    def __init__(self, folder: Path, max_in_a_row: int, max_failed_share: float):
        self._folder, self._max_in_a_row, self._max_failed_share = folder, max_in_a_row, max_failed_share
        self.in_a_row = self.bad_batches = self.utterances = self.failed = self.without_path = 0

    def skip(self, batches: Sequence[SpeechBatch], number: int, what: str) -> None:
        """A batch, or those of one step, whose loss or gradient is not finite."""
        self.in_a_row += 1
        self.bad_batches += 1
        path = self._folder / f"batch-{number}.json"
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
        """Counts what could not be loaded, and stops when it is more than a few."""
        self.utterances += len(batch) + len(batch.failed)
        for id, reason in batch.failed:
            self.failed += 1
            log.warning("left out: %s", reason if id in reason else f"{id}: {reason}")
        if self.failed > max(self._max_failed_share * self.utterances, self._max_failed_share * 1000):
            raise UserError(
                f"{self.failed} of {self.utterances} utterances could not be loaded, the last: {batch.failed[-1][1]} "
                "(all are in the log; --train.max-failed-share sets how many may)"
            )

    def no_path(self, ids: Sequence[str]) -> None:
        self.without_path += len(ids)
        for id in ids:
            log.warning("%s: left out of its batch, its loss is infinite", id)
