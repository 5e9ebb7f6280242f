"""Processes on one machine and on several: two launchers on this machine stand for two machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from icefall_ext.distributed import link
from icefall_ext.distributed.link import Ending, Link, free_port, worst
from icefall_ext.distributed.place import Machine, Place, first_host
from icefall_ext.errors import UserError

ROOT = Path(__file__).parents[2]


class Launchers:
    """One a machine, `processes` each."""

    def __init__(self, *words: object, machines: int = 2, processes: int = 1):
        port = str(free_port())
        self.running = []
        for number in range(machines):
            environment = {k: v for k, v in os.environ.items() if k != "CALLED_AS"} | {
                "NNODES": str(machines), "NODE_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port
            }
            command = [sys.executable, "-m", "icefall_ext.bin.launch", str(processes), "tests.rank_toy"]
            self.running.append(subprocess.Popen(
                [*command, *map(str, words)], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE
            ))

    def ends(self) -> list[tuple[int, str, str]]:
        """Of each: status, standard output, standard error."""
        found = []
        for process in self.running:
            out, err = process.communicate(timeout=300)
            found.append((process.returncode, out, err))
        return found


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 300
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, paths
        time.sleep(0.05)


def test_two_machines_of_two_processes_make_one_world_of_four():
    ended = Launchers("sum", processes=2).ends()
    assert [status for status, *_ in ended] == [0, 0], ended
    assert [out for _, out, _ in ended] == ["4 processes, sum of ranks 6\n", ""], "only the first process speaks"


def test_a_process_that_fails_ends_those_on_other_machines_with_its_message_though_they_hang(tmp_path):
    ended = Launchers("fail", 1, tmp_path).ends()
    assert time.time() - (tmp_path / "hangs-0").stat().st_mtime < 60
    assert [status for status, *_ in ended] == [1, 1], ended
    assert "the disk of this machine is on fire; all processes stop" in ended[0][2]
    assert "launch: rank 1 on" in ended[0][2] and ended[1][2].count("on fire") == 1


def test_a_process_that_is_killed_ends_all_processes(tmp_path):
    ended = Launchers("killed", 0, tmp_path).ends()
    assert [status for status, *_ in ended] == [137, 137], ended
    assert "rank 0 on" in ended[1][2] and "ended with status 137" in ended[1][2]


def test_a_machine_that_goes_ends_the_others(tmp_path):
    launchers = Launchers("hang", 0, tmp_path)
    wait_for(tmp_path / "hangs-0", tmp_path / "hangs-1")
    launchers.running[1].kill()
    (status, _, said), (killed, _, _) = launchers.ends()  # which wait until the processes have closed their outputs
    assert killed == -signal.SIGKILL, "and its process with it"
    assert status == 1 and "machine 1 (" in said and "has gone; all processes stop" in said


def test_processes_that_stop_on_request_are_not_cut_short(tmp_path):
    launchers = Launchers("stop", 0, tmp_path)
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    for process in launchers.running:
        process.send_signal(signal.SIGUSR1)
    ended = launchers.ends()
    assert [status for status, *_ in ended] == [85, 85], ended
    assert ended[0][1].endswith("saved\n"), "rank 1 had stopped a second before rank 0 had saved"


def test_a_signal_that_comes_while_machines_wait_for_each_other_is_a_stop_on_request():
    port = free_port()
    machines = [Machine(number, 2, "127.0.0.1", port) for number in (0, 1)]
    statuses = meet_in_threads(machines, lambda link, machine: link.verdict(
        Ending(85, "asked to stop") if machine.number else Ending(0, ""), 5.0))
    assert statuses == [85, 85]


def meet_in_threads(machines: list[Machine], then, processes=(1, 1)) -> list:
    results: list = [None] * len(machines)

    def one(machine: Machine) -> None:
        try:
            results[machine.number] = then(Link.meet(machine, processes[machine.number]), machine)
        except UserError as error:
            results[machine.number] = str(error)

    threads = [threading.Thread(target=one, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_a_machine_that_falls_silent_ends_the_others(monkeypatch):
    """As one does that has lost power or its network: no connection is closed."""
    monkeypatch.setattr(link, "SILENT_S", 0.3)
    monkeypatch.setattr(link, "BEAT_S", 0.05)
    port, over = free_port(), threading.Event()

    def then(met: Link, machine: Machine):
        if machine.number == 1:
            over.wait(10)  # says nothing
            return None
        while (ending := met.poll()) is None:
            time.sleep(0.01)
        over.set()
        return ending

    ending, _ = meet_in_threads([Machine(n, 2, "127.0.0.1", port) for n in (0, 1)], then)
    assert ending.status == 1 and "machine 1 (" in ending.why and "has not been heard of for" in ending.why


def test_machines_that_speak_are_never_lost(monkeypatch):
    monkeypatch.setattr(link, "SILENT_S", 2.0)
    monkeypatch.setattr(link, "BEAT_S", 0.1)
    port = free_port()

    def then(met: Link, machine: Machine):
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            assert met.poll() is None
            time.sleep(0.01)
        return met.verdict(Ending(0, ""), 5.0)

    assert meet_in_threads([Machine(n, 3, "127.0.0.1", port) for n in (0, 1, 2)], then, (1, 1, 1)) == [0, 0, 0]


def test_machines_with_unequal_numbers_of_processes_are_refused():
    port = free_port()
    said = meet_in_threads([Machine(n, 2, "127.0.0.1", port) for n in (0, 1)], lambda *_: None, (1, 2))
    assert all("starts 2 processes and the first 1; give all the same number" in line for line in said)


def test_two_machines_of_one_number_are_refused(monkeypatch):
    port = free_port()
    machines = [Machine(0, 3, "127.0.0.1", port), Machine(1, 3, "127.0.0.1", port), Machine(1, 3, "127.0.0.1", port)]
    said = meet_in_threads(machines, lambda *_: None, (1, 1, 1))
    assert "has a number that is another's" in said[0]


def test_a_failure_goes_before_a_stop_on_request():
    assert (worst([0, 85, 1]), worst([85, 0]), worst([0, 0]), worst([130, 0])) == (1, 85, 0, 130)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("gpu07", "gpu07"), ("gpu[07-09,12],cpu1", "gpu07"), ("a,b[1-2]", "a"), ("rack[0-1]n[00-03]", "rack0n00"),
     ("node[3]-ib", "node3-ib")],
)
def test_the_first_host_of_a_list_as_slurm_writes_it(nodes, host):
    assert first_host(nodes) == host


def test_processes_that_srun_started_know_their_place_and_where_to_meet():
    environment = {"SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9",
                   "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]"}
    assert Place.of_this_process(environment) == Place(9, 16, 1)
    assert environment["MASTER_ADDR"] == "gpu07" and environment["MASTER_PORT"] == "22342"
    assert (environment["RANK"], environment["WORLD_SIZE"]) == ("9", "16"), "torch reads these"


def test_processes_on_one_machine_meet_there_whatever_its_name():
    environment = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
                   "SLURM_STEP_NODELIST": "nowhere"}
    assert Machine.this(environment).address == "127.0.0.1"


def test_the_shell_of_a_batch_job_is_one_process_whatever_its_tasks():
    assert Place.of_this_process({"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}) == Place()
    assert Machine.this({"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}) == Machine()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"NNODES": "2"}, "NNODES 2 without NODE_RANK"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "NNODES 2 with NODE_RANK 2"),
        ({"NNODES": "x"}, "NNODES 'x': must be a whole number"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, "without SLURM_STEP_NODELIST"),
    ],
)
def test_a_machine_that_is_told_nonsense_says_so(environment, message):
    with pytest.raises(UserError, match=message):
        Machine.this(environment)


def test_a_rank_beyond_the_world_is_an_error():
    with pytest.raises(UserError, match="RANK 2, WORLD_SIZE 2"):
        Place.of_this_process({"RANK": "2", "WORLD_SIZE": "2"})
