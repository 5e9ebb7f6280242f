"""Trainings on one process and on two: stopped by signals to all of their processes, or killed.

They are forks of this process, which has imported everything, with what a launcher gives its processes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from icefall_ext.bin import train
from icefall_ext.cli import run
from icefall_ext.interruption import STOPPED
from icefall_ext.train import checkpoint as files
from icefall_ext.train import transducer_objective
from tests.training_toys import train_bpe, write_cuts

UTTERANCES = 18


class Training:
    """`kill_at`: the batch at which the last of its processes is killed. What each process gives to its model is
    written to a file beside `exp`, a line "batch id id ..." before each batch."""

    def __init__(self, toys, exp: Path, processes: int, kill_at: int = -1):
        self._exp, self._kill_at, self.printed = exp, kill_at, exp.with_name("printed")
        folder, cuts = toys
        settings = {
            "exp-dir": exp, "script": "tailo", "lang-dir": folder / "lang_tailo", "train-cuts": cuts,
            "valid-cuts": cuts, "workers": 1, "threads": 1, "encoder.source": "random:tiny-mel",
            "model.predictor-dim": 16, "model.joiner-dim": 16, "batch.max-utterances": 3 - processes,
            "train.epochs": 2, "train.lr": 0.02, "train.average-period": 1, "train.accumulate": 2,
            "train.save-every": 2, "train.lr-warmup": 0,
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        self.printed.write_text("", encoding="utf-8")
        self._processes: list[int] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(processes):
            process = os.fork()
            if not process:
                self._be(rank, processes, port, options)
            self._processes.append(process)
            os.setpgid(process, self._processes[0])

    def _be(self, rank: int, processes: int, port: int, options: list[str]) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, self._processes[0] if self._processes else 0)
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
                           "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            sys.stdout = sys.stderr = open(self.printed, "a", buffering=1, encoding="utf-8")
            os.dup2(sys.stderr.fileno(), 2)
            last, kill_at, seen = rank == processes - 1, self._kill_at, f"{self._exp}-seen-{rank}"

            class Recording(transducer_objective.TransducerObjective):
                def __call__(self, batch, number):
                    if self.model.training:
                        with open(seen, "a", encoding="utf-8") as stream:
                            stream.write(" ".join([str(number), *batch.ids]) + "\n")
                        if number == kill_at and last:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return super().__call__(batch, number)

            transducer_objective.TransducerObjective = Recording
            run(train.main, train.Config, options)
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def signal(self, number: int) -> None:
        os.killpg(self._processes[0], number)

    def end(self) -> list[int]:
        """The status of each; one that was killed takes the others with it, as a launcher does it."""
        statuses: dict[int, int] = {}
        while len(statuses) < len(self._processes):
            for process in set(self._processes) - set(statuses):
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    statuses[process] = os.waitstatus_to_exitcode(status)
            if any(status not in (0, STOPPED) for status in statuses.values()) and len(statuses) < len(self._processes):
                self.signal(signal.SIGKILL)
            time.sleep(0.01)
        return [statuses[process] for process in self._processes]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    cuts = write_cuts(folder, UTTERANCES)
    train_bpe(folder)
    return folder, cuts


def done(training: Training) -> str:
    statuses, printed = training.end(), training.printed.read_text(encoding="utf-8")
    assert set(statuses) == {0}, printed
    return printed


def learnt_from(exp: Path, processes: int) -> list[Counter]:
    """The utterances of both epochs, each batch as it was computed last: what came before was lost with its process."""
    by_batch: dict[tuple[int, int], list[str]] = {}
    for rank in range(processes):
        for line in Path(f"{exp}-seen-{rank}").read_text(encoding="utf-8").splitlines():
            number, *ids = line.split()
            by_batch[int(number), rank] = ids
    batches = max(number for number, _ in by_batch)
    assert batches % 2 == 0 and len(by_batch) == batches * processes, "no batch is left out"
    return [Counter(id for (number, _), ids in by_batch.items() if (number > batches / 2) == second for id in ids)
            for second in (False, True)]


def assert_same_models(exp: Path, other: Path) -> None:
    for epoch in (1, 2):
        ours, theirs = (files.load_checkpoint(folder / f"epoch-{epoch}.pt") for folder in (exp, other))
        assert all(torch.equal(ours[kind][name], value) for kind in ("model", "model_avg")
                   for name, value in theirs[kind].items())


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def undisturbed(toys, tmp_path_factory, request):
    exp = tmp_path_factory.mktemp("undisturbed") / "exp"
    done(Training(toys, exp, request.param))
    assert learnt_from(exp, request.param) == [Counter({f"cuts-{n}": 1 for n in range(UTTERANCES)})] * 2
    return exp, request.param


def test_an_epoch_with_three_kills_takes_every_utterance_once(toys, undisturbed, tmp_path):
    other, processes = undisturbed
    exp = tmp_path / "exp"
    for moment in (2, 5, 7):  # all in the first epoch
        assert Training(toys, exp, processes, moment).end()[-1] == -signal.SIGKILL
    done(Training(toys, exp, processes))
    assert learnt_from(exp, processes) == learnt_from(other, processes)
    assert_same_models(exp, other)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_ends_them_together_and_the_same_command_goes_on(
    toys, undisturbed, tmp_path, number
):
    """As a cluster does it: to the training, and to what loads its audio."""
    other, processes = undisturbed
    exp = tmp_path / "exp"
    training = Training(toys, exp, processes)
    wait_for(Path(f"{exp}-seen-0"))
    training.signal(number)
    statuses, printed = training.end(), training.printed.read_text(encoding="utf-8")
    assert statuses == [STOPPED] * processes, printed
    assert "Traceback" not in printed and printed.count("the same command continues") == 1, printed
    assert files.batch_checkpoints(exp) and not (exp / "epoch-2.pt").exists()
    assert "goes on" in done(Training(toys, exp, processes))
    assert_same_models(exp, other)


def test_a_signal_before_the_training_has_begun_ends_it_at_once_with_the_same_status(toys, tmp_path):
    training = Training(toys, tmp_path / "exp", 1)
    wait_for(tmp_path / "exp/.lock")
    training.signal(signal.SIGUSR1)
    assert training.end() == [STOPPED]
    printed = training.printed.read_text(encoding="utf-8")
    assert "Traceback" not in printed and printed.count("the same command continues") == 1, printed


def wait_for(path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.001)
