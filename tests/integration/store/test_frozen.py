"""A process frozen in the middle of a transaction keeps its locks: until PostgreSQL ends it, and on SQLite until it wakes or dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE

import psutil
import pytest
from sqlalchemy import text

from api.core.db import reading
from api.jobs import transitions
from api.jobs.lease import Hold
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.store.steps import LEASE_S, do, running

HOLDER = """
import sys
from sqlalchemy import select, text
from api.core.db import connect, sessions, transaction
from api.jobs.tables import Job
url, job_id, first = sys.argv[1:]
with transaction(sessions(connect(url))) as session:
    session.execute(text(first))
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    print("held", flush=True)
    sys.stdin.read()
    session.execute(text("select 1"))
"""


@contextmanager
def frozen(backend: Backend, job_id: str, first: str = "select 1") -> Iterator[subprocess.Popen[str]]:
    """A process asleep in a transaction that holds the job's row, and on SQLite the database."""
    command = [sys.executable, "-c", HOLDER, backend.settings.database_url, job_id, first]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            holder.send_signal(signal.SIGSTOP)
            process = psutil.Process(holder.pid)
            eventually(lambda: process.status() == psutil.STATUS_STOPPED, within_s=10, what="the stop")
            yield holder
        finally:
            holder.kill()


def beating(backend: Backend, hold: Hold) -> threading.Thread:
    """A heartbeat under way."""
    thread = threading.Thread(target=do, args=(backend, transitions.heartbeat, hold), kwargs={"lease_s": LEASE_S})
    thread.start()
    return thread


def test_others_wait_for_one_that_is_frozen_and_go_on_when_it_is_killed(backend: Backend) -> None:
    hold = running(backend)
    with frozen(backend, hold.job_id) as holder:
        beat = beating(backend, hold)
        beat.join(0.5)
        assert beat.is_alive()
        holder.kill()
        beat.join(10)
        assert not beat.is_alive()


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_postgresql_ends_the_transaction_of_one_that_stays_frozen(backend: Backend) -> None:
    setting = "idle_in_transaction_session_timeout"
    with reading(backend.make) as session:
        assert session.scalar(text(f"show {setting}")) == "1min"
    hold = running(backend)
    with frozen(backend, hold.job_id, first=f"set {setting} = '500ms'") as holder:
        beat = beating(backend, hold)
        beat.join(10)
        assert not beat.is_alive()
        holder.send_signal(signal.SIGCONT)
        holder.communicate(timeout=20)
        assert holder.returncode == 1
