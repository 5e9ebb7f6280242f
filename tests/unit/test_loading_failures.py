"""What happens when a process that loads audio dies, hangs, or hears a signal that was meant for the training."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icefall_ext.data import loading
from icefall_ext.errors import UserError
from tests.training_toys import make_trainer, train_bpe, write_cuts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder), train_bpe(folder)


def trainer_with_workers(folder, toys, workers: int = 2):
    trainer = make_trainer(folder, *toys, epochs=1)
    trainer.data.workers = workers
    trainer.data.valid = None
    return trainer


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_loading_process_that_dies_ends_the_training_with_the_name_of_its_utterance(
    toys, tmp_path, monkeypatch, number
):
    load = loading.load_audio

    def dying(cut):
        if cut.id == "cuts-5":
            os.kill(os.getpid(), number)
            time.sleep(10)
        return load(cut)

    monkeypatch.setattr(loading, "load_audio", dying)
    with pytest.raises(UserError, match=f"cuts-5: the process that loads its audio died .{number.name}."):
        trainer_with_workers(tmp_path / "exp", toys).fit()


def test_a_loading_process_that_dies_before_torch_knows_of_it_is_not_waited_for(toys, tmp_path, monkeypatch):
    """Its signal comes when nobody listens: what is left is to look now and then."""
    for name in ("_set_worker_pids", "_remove_worker_pids"):
        monkeypatch.setattr(f"torch.utils.data._utils.signal_handling.{name}", lambda *_: None)
    monkeypatch.setattr(loading, "load_audio", lambda cut: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="the process that loads its audio died .SIGKILL."):
        trainer_with_workers(tmp_path / "exp", toys).fit()


def test_a_loading_process_that_hangs_is_ended_after_a_while(toys, tmp_path, monkeypatch):
    load, pids = loading.load_audio, tmp_path / "pids"

    def hanging(cut):
        if cut.id == "cuts-5":
            pids.write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(600)
        return load(cut)

    monkeypatch.setattr(loading, "load_audio", hanging)
    monkeypatch.setattr(loading, "PATIENCE_S", 2)
    with pytest.raises(UserError, match="cuts-5: the process that loads its audio does not end within 2 s"):
        trainer_with_workers(tmp_path / "exp", toys).fit()
    for _ in range(100):
        if not alive(int(pids.read_text(encoding="utf-8"))):
            return
        time.sleep(0.05)
    raise AssertionError("it was left behind")


def test_a_loading_process_that_never_begins_is_ended_after_a_while(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_begin_worker", lambda _: time.sleep(600))
    monkeypatch.setattr(loading, "PATIENCE_S", 2)
    with pytest.raises(UserError, match="loads audio does not begin within 2 s; run the same command again"):
        trainer_with_workers(tmp_path / "exp", toys).fit()


def test_of_a_loading_process_that_dies_before_it_begins_that_is_said(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_begin_worker", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="loads audio died .*(SIGKILL|Killed).*; run the same command again"):
        trainer_with_workers(tmp_path / "exp", toys).fit()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_loading_processes_do_not_hear_what_is_said_to_all(toys, tmp_path, monkeypatch):
    """SIGTERM, SIGUSR1 and Ctrl-C in the middle of loading, from another process than the training."""
    load = loading.load_audio

    def signalled(cut):
        for name in ("TERM", "USR1", "INT"):
            subprocess.run(["kill", f"-{name}", str(os.getpid())], check=True)
        return load(cut)

    monkeypatch.setattr(loading, "load_audio", signalled)
    trainer = trainer_with_workers(tmp_path / "exp", toys)
    trainer.fit()
    assert trainer.guard.counts.utterances == 12 and trainer.guard.counts.failed == 0


def test_loading_processes_end_with_the_loop_that_was_left(toys, tmp_path):
    trainer = trainer_with_workers(tmp_path / "exp", toys)
    stream = trainer._load(trainer.data.train, trainer.data.batches(1, 1), 2)
    with pytest.raises(KeyError), stream:
        for _ in stream:
            processes = stream._running._workers
            raise KeyError
    assert not any(process.is_alive() for process in processes)


ORPHANS = """
import os, signal, sys
from pathlib import Path
from tests.training_toys import make_trainer
from icefall_ext.text.bbpe import ByteBPE
exp, cuts, lang = map(Path, sys.argv[1:])
trainer = make_trainer(exp, cuts, ByteBPE.load(lang), epochs=1)
trainer.data.workers = 2
def dying(part, number):
    os.kill(os.getpid(), signal.SIGKILL)
trainer.objective = dying
trainer.fit()
"""


def test_a_training_that_is_killed_alone_leaves_no_lock_behind(toys, tmp_path):
    """Its loading processes live on for some seconds; they must not keep the next run out."""
    cuts, _ = toys
    command = [sys.executable, "-c", ORPHANS, str(tmp_path / "exp"), str(cuts), str(cuts.parent / "lang_tailo")]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    with open(tmp_path / "exp/.lock", "r+") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_list_of_what_cannot_be_loaded_survives_and_names_each_once(toys, tmp_path):
    cuts = write_cuts(tmp_path, 12, name="damaged")
    (tmp_path / "audio/damaged-3.wav").unlink()
    (tmp_path / "audio/damaged-7.wav").write_bytes(b"not audio")
    for epochs in (1, 2):  # a second process, which goes on
        trainer = make_trainer(tmp_path / "exp", cuts, toys[1], epochs=epochs, max_failed_share=0.5)
        trainer.fit()
    rows = (tmp_path / "exp/cannot-be-loaded.tsv").read_text(encoding="utf-8").splitlines()
    assert sorted(row.split("\t")[0] for row in rows) == ["damaged-3", "damaged-7"]
    assert all("cannot be read" in row for row in rows)
    assert trainer.guard.counts.failed == 4 and trainer.guard.counts.utterances == 24, "over both runs"
