"""A training that is asked to stop, on one process: where it stops, what it leaves, and that it goes on bit for bit."""

from __future__ import annotations

import signal

import pytest
import torch

from icefall_ext.interruption import BY_HAND, STOPPED, Stopped, stop_at_once_when_asked
from icefall_ext.train import checkpoint as files
from tests.training_toys import make_trainer, train_bpe, write_cuts


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_cuts(folder), train_bpe(folder)


@pytest.fixture(scope="module")
def undisturbed(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "exp"
    make_trainer(folder, *toys, save_every=100).fit()
    return folder


def ask_at(trainer, batch: int, number: int, times: int = 1) -> None:
    """The signal comes while that batch is computed."""
    objective = trainer.objective

    def asking(part, number_of_batch):
        if number_of_batch == batch:
            for _ in range(times):
                signal.raise_signal(number)
        return objective(part, number_of_batch)

    asking.unit = objective.unit
    trainer.objective = asking


def assert_same_training(folder, other):
    for name in ("epoch-1.pt", "epoch-2.pt", "best-valid-loss.pt", "best-train-loss.pt"):
        ours, theirs = files.load_checkpoint(folder / name), files.load_checkpoint(other / name)
        for kind in ("model", "model_avg"):
            assert all(torch.equal(ours[kind][key], value) for key, value in theirs[kind].items()), (name, kind)
        for counter in ("batch_idx_train", "cur_epoch", "best_train_loss", "best_valid_loss", "best_valid_epoch"):
            assert ours[counter] == theirs[counter], (name, counter)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("batch", [1, 4, 5])  # in the middle of a step, at its end, and in the last one of an epoch
def test_a_training_that_was_asked_to_stop_goes_on_bit_for_bit(toys, undisturbed, tmp_path, number, batch):
    first = make_trainer(tmp_path / "exp", *toys, save_every=100)
    ask_at(first, batch, number)
    with pytest.raises(Stopped, match="the same command continues") as stopped:
        first.fit()
    assert stopped.value.exit_status == (BY_HAND if number == signal.SIGINT else STOPPED)
    (path,) = files.batch_checkpoints(tmp_path / "exp").values()
    assert f"{path} is written" in str(stopped.value)
    assert files.load_checkpoint(path)["batch_idx_train"] in (batch, batch + 1), "it is finished, no other begun"
    make_trainer(tmp_path / "exp", *toys, save_every=100).fit()
    assert_same_training(tmp_path / "exp", undisturbed)


def test_several_requests_one_after_another_change_nothing(toys, undisturbed, tmp_path):
    batches = files.load_checkpoint(undisturbed / "epoch-2.pt")["batch_idx_train"]
    for batch in range(1, batches + 1, 2):
        trainer = make_trainer(tmp_path / "exp", *toys, save_every=100, keep_last=1)
        ask_at(trainer, batch, signal.SIGUSR1)
        with pytest.raises(Stopped):
            trainer.fit()
        assert len(files.batch_checkpoints(tmp_path / "exp")) == 1
    make_trainer(tmp_path / "exp", *toys, save_every=100).fit()
    assert_same_training(tmp_path / "exp", undisturbed)


def test_a_request_during_validation_does_not_wait_for_its_end(toys, undisturbed, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, save_every=100)
    validated = []
    objective = trainer.objective

    def asking(part, number):
        if not trainer.model.training:
            validated.append(number)
            signal.raise_signal(signal.SIGTERM)
        return objective(part, number)

    asking.unit = objective.unit
    trainer.objective = asking
    with pytest.raises(Stopped):
        trainer.fit()
    assert len(validated) == 1 < len(trainer.data.valid_batches())
    assert not (tmp_path / "exp/epoch-1.pt").exists()
    make_trainer(tmp_path / "exp", *toys, save_every=100).fit()
    assert_same_training(tmp_path / "exp", undisturbed)


def test_ctrl_c_for_the_second_time_does_not_wait_for_the_step(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys, save_every=100)
    ask_at(trainer, 1, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert not files.batch_checkpoints(tmp_path / "exp")


def test_signals_have_their_old_meaning_after_a_training(toys, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    make_trainer(tmp_path / "exp", *toys, epochs=1).fit()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before


def test_a_request_that_came_too_late_reaches_what_comes_after(toys, tmp_path):
    """In the last moment of a training, say: the next iteration of a pre-training must not begin."""
    trainer = make_trainer(tmp_path / "exp", *toys, epochs=1)
    end, before = trainer._end_of_epoch, signal.getsignal(signal.SIGTERM)

    def ending():
        end()
        signal.raise_signal(signal.SIGTERM)

    trainer._end_of_epoch = ending
    try:
        stop_at_once_when_asked()
        with pytest.raises(SystemExit) as ended:
            trainer.fit()
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert ended.value.code == STOPPED
    assert (tmp_path / "exp/epoch-1.pt").is_file()
