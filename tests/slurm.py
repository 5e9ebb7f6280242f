"""A Slurm of one node on this machine: munged, slurmctld and slurmd, without systemd.

    with Slurm(folder) as slurm:
        slurm.run("sbatch", "--wait", "job.sh")

Everything is below `folder`, on ports of its own, and nothing of a Slurm that may be installed is touched.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = "slurmctld slurmd slurm-client munge"
# cred_expire: else a job that is queued again waits two minutes. preempt_send_user_signal: else there is only TERM.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=bf_interval=1,sched_interval=1,default_queue_depth=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=300
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 CoresPerSocket=8 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF OverSubscribe=EXCLUSIVE
"""


def missing() -> list[str]:
    return [name for name in PROGRAMS if not program(name)]


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Slurm:
    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> Slurm:
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge/key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        conf = CONF.format(host=socket.gethostname().split(".")[0], ports=free_ports(2), user=getpass.getuser(),
                           folder=self.folder)
        (self.folder / "slurm.conf").write_text(conf)
        try:
            files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
            self._start("munged", "--foreground", "--force",
                        *(f"--{option}={self.folder}/munge/{name}" for option, name in files.items()))
            self._until(lambda: (self.folder / "munge/socket").exists(), "munged")
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D")
            self._until(self._is_idle, "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._daemons) == 3 and self.queue():  # a job would outlive them
            self.run("scancel", "--user", getpass.getuser(), check=False)
            self.run("scancel", "--signal=KILL", "--full", "--user", getpass.getuser(), check=False)
            deadline = time.monotonic() + 30
            while self.queue() and time.monotonic() < deadline:
                time.sleep(0.3)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for step in self._steps_left():  # one may wait for a slurmctld that is gone
            os.kill(step, signal.SIGKILL)

    def _steps_left(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in (entry / "environ").read_bytes().split(b"\0")
                if ours and (entry / "comm").read_text() == "slurmstepd\n":
                    found.append(int(entry.name))
            except OSError:  # it has just ended, or is another's
                continue
        return found

    def run(self, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600, **options)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    def queue(self) -> dict[str, str]:
        """State by job."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").stdout.splitlines()
        return dict(line.split() for line in lines)

    def wait_until_empty(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.queue():
            assert time.monotonic() < deadline, self.run("squeue", "--array").stdout
            time.sleep(0.3)

    def _is_idle(self) -> bool:
        return "idle" in self.run("sinfo", "--noheader", "--format=%T", check=False).stdout.split()

    def _start(self, name: str, *options: str) -> None:
        with open(self.folder / f"{name}-{len(self._daemons)}.out", "w") as out:
            self._daemons.append(subprocess.Popen(
                [program(name), *options], env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                start_new_session=True, cwd=self.folder,
            ))

    def _until(self, ready, what: str) -> None:
        deadline = time.monotonic() + 30
        while not ready():
            ended = [daemon for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = "".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.out"))
                raise RuntimeError(f"{what} does not start: {said}")
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
