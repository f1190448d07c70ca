"""Starts the processes of a run on this machine and is one process to whoever started it: one pipe, one signal, one exit code.

torchrun does it for several machines. On one it hides what a supervisor needs: it closes the descriptor of the events, makes every
exit code 1, and its processes outlive it when it is killed (docs/decisions/0012).
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO

from cpd_engine.errors import ResourcesUnavailable

# Exit codes of `run` with which a rank leaves when all is well: finished, and stopped on request.
_WELL = (0, 10)
# With these, badly: with a Failed event, and by an exception that nobody foresaw, such as a connection that a partner closed.
_FAILED = 20
_CRASHED = 1
_MOMENT_S = 10.0
_TICK_S = 0.02
_LAST_WORDS = ("finished", "stopped", "failed")
_LOCALHOST = "127.0.0.1"


def launch(command: Sequence[str], count: int, *, events: BinaryIO) -> int:
    """Run `command --events-fd N --watchdog` as `count` ranks; return the exit code of the whole, or −signal.

    Rank 0's events go on to `events`, line by line. The first rank that fails ends the run: the others are killed, its exit code
    stands for all, and so does its Failed event where rank 0 had not spoken the last word. SIGTERM and SIGINT go to every rank.
    """
    ranks: list[Rank] = []
    asked = threading.Event()

    def forward(*_: object) -> None:
        asked.set()
        for rank in ranks:
            rank.process.terminate()

    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, forward)
    with _reserved_port() as port:
        try:
            for number in range(count):
                rank = Rank(command, number, _environment(number, count, port), events if number == 0 else None)
                ranks.append(rank)
            if asked.is_set():
                forward()
            decisive = _until_decided(ranks)
        finally:
            for rank in ranks:
                rank.process.kill()
            for rank in ranks:
                rank.close()
    if decisive is not ranks[0] and ranks[0].last_word is None and decisive.last_word is not None:
        events.write(decisive.last_word)
        events.flush()
    return int(decisive.process.returncode)


class Rank:
    """One process of the run. Its events go on to `events`; without, only the last is kept, which is a Failed or nothing.

    It dies when this process does: it watches its stdin, which nobody else holds.
    """

    def __init__(
        self, command: Sequence[str], number: int, environment: Mapping[str, str], events: BinaryIO | None
    ) -> None:
        self.number = number
        self._events = events
        self._last = b""
        source, sink = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*command, "--events-fd", str(sink), "--watchdog"],
                stdin=subprocess.PIPE,
                pass_fds=(sink,),
                env=dict(environment),
            )
        finally:
            os.close(sink)
        self._pump = threading.Thread(target=self._forward, args=(source,), name=f"rank-{number}", daemon=True)
        self._pump.start()

    @property
    def failed(self) -> bool:
        """Whether it has ended, and badly."""
        return self.process.returncode not in (None, *_WELL)

    @property
    def last_word(self) -> bytes | None:
        """The event line that ends a run, if it has spoken one."""
        return self._last if self._last and json.loads(self._last)["kind"] in _LAST_WORDS else None

    def close(self) -> None:
        """Wait for the end of a process that was killed, and for the last of its lines."""
        self.process.wait()
        self._pump.join()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _forward(self, source: int) -> None:
        # Closed by an error in writing, so that the rank meets it as well.
        with open(source, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # cut short by a kill
                self._last = line
                if self._events is not None:
                    self._events.write(line)
                    self._events.flush()


def _until_decided(ranks: Sequence[Rank]) -> Rank:
    """Wait until the leader has ended, or any rank badly; the one whose end counts.

    A rank whose partner leaves crashes as well, and may be seen first: after a crash the others get a moment to tell why.
    """
    deadline = math.inf
    while True:
        ended = [rank for rank in ranks if rank.process.poll() is not None]
        failed = [rank for rank in ended if rank.failed]
        if ranks[0] in ended and not ranks[0].failed:
            return ranks[0]
        explained = [rank for rank in failed if rank.process.returncode != _CRASHED]
        if explained or (failed and (len(ended) == len(ranks) or monotonic() > deadline)):
            return min(explained or failed, key=lambda rank: (rank.process.returncode != _FAILED, rank.number))
        if failed:
            deadline = min(deadline, monotonic() + _MOMENT_S)
            sleep(_TICK_S)
        else:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def devices(environment: Mapping[str, str], *, folder: Path = Path("/dev")) -> int:
    """How many ranks this machine has a place for: one per GPU that is visible, or one per core where there is no GPU."""
    gpus = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in folder.glob("nvidia*"))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = min(gpus, sum(bool(name.strip()) for name in visible.split(",")))
    return gpus or len(os.sched_getaffinity(0))


def is_rank(environment: Mapping[str, str]) -> bool:
    """Whether this process was started as one of several, by `launch` or by torchrun."""
    return "LOCAL_RANK" in environment


def check_world(asked: int, started: int) -> None:
    """Raise ResourcesUnavailable where torchrun has started another number of processes than the run asks for."""
    if asked != started:
        raise ResourcesUnavailable(
            f"resources: gpus × nodes is {asked}, and {started} processes were started; make the two equal"
        )


def check_place(gpus: int, nodes: int, found: int) -> None:
    """Raise ResourcesUnavailable for what this machine alone, with `found` devices, cannot carry out."""
    if nodes > 1:
        raise ResourcesUnavailable(
            f"resources.nodes: {nodes} machines are started by torchrun on each of them (docs/operations.md), and by no one of them alone"
        )
    if gpus > found:
        raise ResourcesUnavailable(
            f"resources.gpus: {gpus} asked and {found} here; ask for fewer, or run where there are as many"
        )


def end_like(returncode: int) -> int:
    """The exit code to leave with; for −signal this process ends by that signal itself."""
    if returncode < 0:
        if -returncode != signal.SIGKILL:
            signal.signal(-returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -returncode)
    return returncode


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port at which rank 0 can listen and which is given to no one else meanwhile."""
    with socket.socket() as holder:
        # Bound and not listening: with this option on both sides another socket may listen there, and none gets it by chance.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((_LOCALHOST, 0))
        yield holder.getsockname()[1]


def _environment(number: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would set, by which a rank finds its place."""
    found = {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": _LOCALHOST,
        "MASTER_PORT": str(port),
    }
    # Ranks of one machine need no network, nor a host name that resolves.
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return loopback | dict(os.environ) | found
