"""The supervisor with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from api.supervisor import Restarts, Supervisor
from tests.deadline import eventually

# Notes its pid, then does what a worker does: waits for SIGTERM or for the end of its standard input.
CHILD = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
folder = pathlib.Path(sys.argv[1])
(folder / str(os.getpid())).touch()
sys.stdin.read()
"""
STUBBORN = CHILD.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN").replace("sys.stdin.read()", "signal.pause()")


def starts(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


@pytest.fixture
def supervisors() -> Iterator[list[Supervisor]]:
    made: list[Supervisor] = []
    yield made
    for supervisor in made:
        supervisor.kill()


def supervised(code: str, folder: Path, supervisors: list[Supervisor]) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    restarts = Restarts(first_s=0.05, longest_s=0.1)
    supervisor = Supervisor((sys.executable, "-c", code, str(folder)), os.environ, say=said.append, restarts=restarts)
    supervisors.append(supervisor)
    supervisor.start()
    eventually(lambda: starts(folder) and supervisor.pid is not None, within_s=20, what="the first start")
    return supervisor, said


def test_a_child_that_is_killed_is_started_again(tmp_path: Path, supervisors: list[Supervisor]) -> None:
    supervisor, said = supervised(CHILD, tmp_path, supervisors)
    assert supervisor.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    eventually(lambda: len(starts(tmp_path)) == 2, within_s=20, what="the second start")
    assert said == ["the worker was ended by SIGKILL; it is started again in 0 s"]
    supervisor.stop(10.0)
    assert supervisor.pid is None
    assert len(starts(tmp_path)) == 2


def test_a_child_that_does_not_drain_is_killed_after_the_grace(tmp_path: Path, supervisors: list[Supervisor]) -> None:
    supervisor, said = supervised(STUBBORN, tmp_path, supervisors)
    supervisor.stop(0.2)
    assert supervisor.pid is None
    assert "killed" in said[0]


def test_stopping_before_the_start_is_harmless() -> None:
    supervisor = Supervisor((sys.executable, "-c", ""), os.environ, say=print)
    supervisor.stop(1.0)
    supervisor.start()
    assert supervisor.pid is None


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_settled_life() -> None:
    restarts = Restarts(first_s=1.0, longest_s=5.0, settled_s=60.0)
    waits = [0.0]
    for lived_s in (1.0, 1.0, 1.0, 1.0, 100.0):
        waits.append(restarts.after(waits[-1], lived_s))
    assert waits[1:] == [1.0, 2.0, 4.0, 5.0, 1.0]


def test_the_child_goes_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    program = """
import os, sys, threading
from api.supervisor import Supervisor
Supervisor((sys.executable, "-c", *sys.argv[1:]), os.environ, say=print).start()
threading.Event().wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", program, CHILD, str(tmp_path)])
    try:
        child = psutil.Process(eventually(lambda: starts(tmp_path), within_s=30, what="the start")[0])
        parent.kill()
        parent.wait()
        eventually(lambda: not child.is_running(), within_s=10, what="the end of the child")
    finally:
        parent.kill()
        parent.wait()
