"""What the launchers of one training, one a machine, tell each other: that they are there, and how theirs ended.

The first machine's launcher is the hub; lines of JSON go between it and the others. Collectives cannot do this: NCCL
and gloo notice a process that has ended or a machine that has vanished late or never, and neither can say why.

    hello   {"machine", "host", "processes"}    ->  {"port", "host"} once all are there: where rank 0 will listen
    beat    {}                                   both ways, every BEAT_S
    failed  {"failed": status, "why": text}     to the hub, when one process has
    ended   {"ended": status, "why": text}      to the hub, when all have ended
    stop    {"stop": status, "why": text}       from the hub: one has failed somewhere
    verdict {"verdict": status}                 from the hub: all have ended; every launcher ends with it
"""

from __future__ import annotations

import json
import platform
import socket
import time
from dataclasses import dataclass, field

from icefall_ext.distributed.place import Machine
from icefall_ext.errors import UserError
from icefall_ext.interruption import BY_HAND, STOPPED

BEAT_S, SILENT_S = 5.0, 30.0
MEET_S = 600.0  # machines of one job may start minutes apart
ON_REQUEST = (STOPPED, BY_HAND)  # a process that was asked to stop and can go on


@dataclass(frozen=True)
class Ending:
    status: int
    why: str


@dataclass
class Peer:
    """One connection; `name` is for messages."""

    stream: socket.socket
    name: str
    heard: float = field(default_factory=time.monotonic)
    said: float = 0.0
    gone: bool = False
    ended: int | None = None
    _rest: bytes = b""

    def send(self, message: dict) -> None:
        self.said = time.monotonic()
        try:
            self.stream.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.gone = True

    def receive(self) -> list[dict]:
        """Whatever has come, without waiting."""
        self.stream.setblocking(False)
        try:
            while not self.gone:
                data = self.stream.recv(65536)
                self.gone = not data
                self._rest += data
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        finally:
            self.stream.settimeout(SILENT_S)
        *lines, self._rest = self._rest.split(b"\n")
        if lines:
            self.heard = time.monotonic()
        return [json.loads(line) for line in lines]

    def lost(self) -> str:
        """Why it has to be given up, or nothing."""
        if self.gone:
            return f"{self.name} has gone"
        silent = time.monotonic() - self.heard
        return f"{self.name} has not been heard of for {silent:.0f} s" if silent > SILENT_S else ""


class Link:
    """To the other machines. `poll` is to be called many times a second."""

    def __init__(self, machine: Machine, peers: list[Peer], address: str, port: int):
        self.machine, self.address, self.port = machine, address, port  # rank 0 will listen there
        self._peers, self._is_hub = peers, machine.number == 0
        self._stop: Ending | None = None
        self._verdict: int | None = None

    @staticmethod
    def meet(machine: Machine, processes: int) -> Link:
        """Wait for all machines; they must bring as many processes each."""
        if machine.count == 1:
            return Link(machine, [], "127.0.0.1", free_port())
        return _as_hub(machine, processes) if machine.number == 0 else _with_hub(machine, processes)

    def poll(self) -> Ending | None:
        """Why all have to stop, once there is a reason."""
        for peer in self._peers:
            for message in peer.receive():
                self._take(peer, message)
            if time.monotonic() - peer.said > BEAT_S:
                peer.send({})
            if peer.ended is None and self._verdict is None and (lost := peer.lost()):
                peer.ended = 1
                self._all_stop(Ending(1, lost))
        return self._stop

    def tell(self, ending: Ending) -> None:
        """One process here has failed."""
        self._report(ending)
        if self._is_hub:
            self._all_stop(ending)

    def verdict(self, own: Ending, patience_s: float) -> int:
        """All processes here have ended; what the launchers end with, once the others have too."""
        self._report(own, last=True)
        if own.status:
            self._all_stop(own)
        deadline = time.monotonic() + patience_s
        while self._peers and self._verdict is None and time.monotonic() < deadline:
            self.poll()
            ended = [peer.ended for peer in self._peers]
            if not self._is_hub and ended != [None]:  # the hub has gone
                break
            if self._is_hub and None not in ended:
                self._verdict = worst([own.status, *ended])
                for peer in self._peers:
                    peer.send({"verdict": self._verdict})
            time.sleep(0.02)
        return own.status if self._verdict is None else self._verdict

    def _report(self, ending: Ending, last: bool = False) -> None:
        if not self._is_hub:
            kind = "ended" if last else "failed"
            self._peers[0].send({kind: ending.status, "why": ending.why})

    def _take(self, peer: Peer, message: dict) -> None:
        if "failed" in message:
            self._all_stop(Ending(message["failed"], message["why"]))
        elif "ended" in message:
            peer.ended = message["ended"]
            if peer.ended:
                self._all_stop(Ending(message["ended"], message["why"]))
        elif "stop" in message:
            self._stop = self._stop or Ending(message["stop"], message["why"])
        elif "verdict" in message:
            self._verdict = message["verdict"]

    def _all_stop(self, ending: Ending) -> None:
        if self._stop is None:
            self._stop = ending
            for peer in self._peers if self._is_hub else ():
                peer.send({"stop": ending.status, "why": ending.why})


def worst(statuses: list[int]) -> int:
    """A failure goes before a stop on request, and that before a good end."""
    failures = [status for status in statuses if status not in (0, *ON_REQUEST)]
    return failures[0] if failures else max(statuses)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _as_hub(machine: Machine, processes: int) -> Link:
    peers: list[Peer] = []
    try:
        listening = socket.create_server(("", machine.port), backlog=machine.count)
    except OSError as error:
        raise UserError(f"port {machine.port}: {error.strerror}; set MASTER_PORT to another one") from None
    with listening:
        deadline = time.monotonic() + MEET_S
        while len(peers) < machine.count - 1:
            listening.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                stream, _ = listening.accept()
                stream.settimeout(SILENT_S)
                hello = _one_line(stream)
            except OSError:
                if time.monotonic() < deadline:
                    continue  # one that went away again
                raise UserError(f"only {len(peers) + 1} of {machine.count} machines came to port {machine.port} within "
                                f"{MEET_S:.0f} s; see the logs of the others") from None
            peer = Peer(stream, f"machine {hello.get('machine')} ({hello.get('host')})")
            if why := _why_refused(machine, processes, hello, {other.name for other in peers}, peer.name):
                peer.send({"refused": why})
                raise UserError(why)
            peers.append(peer)
    port = free_port()
    for peer in peers:
        peer.send({"port": port, "host": platform.node()})
    return Link(machine, peers, machine.address, port)


def _why_refused(machine: Machine, processes: int, hello: dict, present: set[str], name: str) -> str:
    if hello.get("processes") != processes:
        return f"{name} starts {hello.get('processes')} processes and the first {processes}; give all the same number"
    number = hello.get("machine")
    if number not in range(1, machine.count) or any(other.startswith(f"machine {number} (") for other in present):
        return f"{name} has a number that is another's; number {machine.count} machines from 0 on with NODE_RANK"
    return ""


def _with_hub(machine: Machine, processes: int) -> Link:
    deadline, where = time.monotonic() + MEET_S, (machine.address, machine.port)
    while True:
        try:
            stream = socket.create_connection(where, timeout=SILENT_S)
            break
        except OSError as error:  # not yet there
            if time.monotonic() > deadline:
                raise UserError(f"{machine.address}:{machine.port}: the first machine could not be reached within "
                                f"{MEET_S:.0f} s ({error})") from None
            time.sleep(0.2)
    hub = Peer(stream, "machine 0")
    hub.send({"machine": machine.number, "host": platform.node(), "processes": processes})
    stream.settimeout(MEET_S)
    try:
        answer = _one_line(stream)
    except OSError as error:
        raise UserError(f"{machine.address}:{machine.port}: the first machine did not answer ({error})") from None
    if "refused" in answer:
        raise UserError(answer["refused"])
    hub.name, hub.heard = f"machine 0 ({answer['host']})", time.monotonic()
    return Link(machine, [hub], machine.address, answer["port"])


def _one_line(stream: socket.socket) -> dict:
    """Byte by byte, as what follows belongs to others to read."""
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            raise ConnectionError("it closed the connection")
        line += byte
        if len(line) > 4096:
            raise ConnectionError("it does not speak as a launcher does")
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ConnectionError("it does not speak as a launcher does")
    return answer
