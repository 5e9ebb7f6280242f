"""Checkpoints on disks that lose, change or have no room for bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from icefall_ext.errors import UserError
from icefall_ext.files import atomic_path
from icefall_ext.train import checkpoint as files
from tests.training_toys import make_trainer, train_bpe, write_cuts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder), train_bpe(folder)


def content(batches: int = 3, epoch: int = 1) -> dict:
    torch.manual_seed(batches)
    return {"model": {f"w{n}": torch.randn(20, 20) for n in range(3)}, "batch_idx_train": batches, "cur_epoch": epoch}


def test_a_bit_flipped_anywhere_is_found_or_harmless(tmp_path):
    path, saved = tmp_path / "epoch-1.pt", content()
    files.save_checkpoint(path, saved)
    whole, draw = path.read_bytes(), random.Random(0)
    found = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            read = files.load_checkpoint(path)
        except UserError:
            found += 1
            continue
        assert {**read, "model": None} == {**saved, "model": None}
        assert all(torch.equal(read["model"][name], value) for name, value in saved["model"].items())
    assert found > 200


def test_torch_load_alone_would_not_see_a_weight_that_changed(tmp_path):
    """Why checkpoints are read by this project's own reader, also where they are trusted."""
    path, saved = tmp_path / "epoch-1.pt", content()
    files.save_checkpoint(path, saved)
    changed = bytearray(path.read_bytes())
    changed[changed.find(saved["model"]["w1"].numpy().tobytes()) + 100] ^= 1
    path.write_bytes(changed)
    assert not torch.equal(torch.load(path)["model"]["w1"], saved["model"]["w1"])
    with pytest.raises(UserError, match="CRC"):
        files.load_checkpoint(path)


@pytest.mark.parametrize("damage", ["cut short", "empty", "a weight changed", "zeros"])
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_it_taken(toys, tmp_path, capsys, damage):
    make_trainer(tmp_path / "exp", *toys, epochs=1, accumulate=1).fit()
    newest = tmp_path / "exp/epoch-1.pt"
    raw = bytearray(newest.read_bytes())
    if damage == "cut short":
        raw = raw[: len(raw) // 2]
    elif damage == "empty":
        raw = b""
    elif damage == "a weight changed":
        raw[len(raw) // 2] ^= 16
    else:  # what a file is that had its name before its content was on the disk
        raw = bytes(len(raw))
    newest.write_bytes(raw)
    before = max(files.batch_checkpoints(tmp_path / "exp"))
    trainer = make_trainer(tmp_path / "exp", *toys, epochs=1, accumulate=1)
    trainer.fit()
    printed = capsys.readouterr().out
    assert printed.count("renamed to epoch-1.pt.damaged") == 1 and "the one before it is taken" in printed
    assert f"checkpoint-{before}.pt" in printed
    assert newest.with_name("epoch-1.pt.damaged").is_file()
    assert files.load_checkpoint(newest)["cur_epoch"] == 2, "written anew"


def test_a_training_never_begins_anew_because_all_checkpoints_are_damaged(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, epochs=1, accumulate=1).fit()
    for path in (tmp_path / "exp").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    for _ in range(2):  # however often it is tried
        with pytest.raises(UserError, match=r"no whole checkpoint \(checkpoint-.*put a good copy"):
            make_trainer(tmp_path / "exp", *toys, epochs=1, accumulate=1).fit()


@pytest.mark.parametrize("newest", ["checkpoint-30.pt", "epoch-2.pt"])
def test_the_newest_checkpoint_is_known_by_what_is_in_it_not_by_its_time(tmp_path, newest):
    files.save_checkpoint(tmp_path / "epoch-2.pt", content(20 if newest.startswith("check") else 40, 3))
    files.save_checkpoint(tmp_path / "checkpoint-30.pt", content(30, 3 if newest.startswith("check") else 2))
    files.save_checkpoint(tmp_path / "epoch-1.pt", content(10, 2))
    for age, path in enumerate(sorted(tmp_path.glob("*.pt"), key=lambda path: path.name == newest, reverse=True)):
        os.utime(path, (10**9 + age, 10**9 + age))  # the newest looks like the oldest, as after a copy
    assert files.newest_whole(tmp_path)[0].name == newest


def test_a_best_model_is_there_whenever_a_checkpoint_says_so(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killing(source, target):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(files.shutil, "copyfile", killing)
        files.save_checkpoint(tmp_path / "epoch-1.pt", content(), [tmp_path / "best-valid-loss.pt"])
    assert not list(tmp_path.iterdir()), "neither is there: the epoch is done again"
    files.save_checkpoint(tmp_path / "epoch-1.pt", content(), [tmp_path / "best-valid-loss.pt"])
    assert (tmp_path / "best-valid-loss.pt").read_bytes() == (tmp_path / "epoch-1.pt").read_bytes()


def test_what_a_killed_run_was_writing_is_cleared_by_the_next(toys, tmp_path):
    make_trainer(tmp_path / "exp", *toys, epochs=1).fit()
    for name in (".checkpoint-7.pt.partial", ".epoch-1.pt.partial", ".config.yaml.partial"):
        (tmp_path / "exp" / name).write_bytes(b"half")
    make_trainer(tmp_path / "exp", *toys, epochs=1)
    assert not list((tmp_path / "exp").glob(".*.partial"))


FULL = """
import resource, sys
from pathlib import Path
from tests.training_toys import make_trainer
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.cli import run
from dataclasses import dataclass
@dataclass
class Config:
    pass
def main(_):
    exp, cuts, lang, epochs, limit = sys.argv[1:]
    trainer = make_trainer(Path(exp), Path(cuts), ByteBPE.load(Path(lang)), epochs=int(epochs))
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    trainer.fit()
run(main, Config, [])
"""


def test_a_full_disk_ends_the_training_in_one_line_and_costs_no_checkpoint(toys, tmp_path):
    cuts, _ = toys
    exp = tmp_path / "exp"

    def train(epochs: int, limit: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", FULL, str(exp), str(cuts), str(cuts.parent / "lang_tailo"), str(epochs),
                   str(limit)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)

    assert train(1, 0).returncode == 0
    before = {path.name: path.read_bytes() for path in exp.glob("*.pt")}
    result = train(3, len(before["epoch-1.pt"]) // 2)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and "run the same command again" in result.stderr, result.stderr
    assert {path.name: path.read_bytes() for path in exp.glob("*.pt")} == before
    assert not list(exp.glob(".*"))[1:], "nothing but the lock"
    assert train(3, 0).returncode == 0 and (exp / "epoch-3.pt").is_file()


def test_no_space_while_any_file_is_written_is_one_line_that_names_it(tmp_path):
    with pytest.raises(UserError, match="manifest.json: no space left on device; free some"):
        with atomic_path(tmp_path / "manifest.json"):
            raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
