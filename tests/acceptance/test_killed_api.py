"""An API that is killed under a POST, and under a stream: its clients try again, and get what they would have got."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil
import psycopg
from sqlalchemy import func, select

from api.core.db import reading, transaction
from api.events.queries import Line, append_events
from api.jobs import transitions
from api.jobs.tables import IdempotencyKey, Job
from tests.acceptance.conftest import Service
from tests.backends import Backend
from tests.deadline import eventually

SPEC: dict[str, Any] = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def kill(service: Service) -> None:
    service.process.kill()
    service.process.wait()


@contextmanager
def nobody_writes(backend: Backend) -> Iterator[None]:
    """Until the block ends no row of a job is written."""
    if backend.name == "sqlite":
        lock = sqlite3.connect(backend.settings.data_dir / "cpd.sqlite3", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            lock.close()
        return
    url = backend.settings.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def jobs(backend: Backend) -> list[str]:
    with reading(backend.make) as session:
        return list(session.scalars(select(Job.id)))


def keys(backend: Backend) -> int:
    with reading(backend.make) as session:
        return int(session.scalar(select(func.count()).select_from(IdempotencyKey)) or 0)


def post(service: Service, key: str) -> str | None:
    """The id that the API answers with; None where it is killed before it answers."""
    headers = {"authorization": f"Bearer {service.environment['CPD_API_KEY']}", "idempotency-key": key}
    with suppress(httpx.TransportError):
        answer = httpx.post(f"{service.url}/v1/jobs", json=SPEC, headers=headers, timeout=60)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])
    return None


def at_the_api(service: Service) -> bool:
    """Whether a client has a connection to it."""
    connections = psutil.Process(service.process.pid).net_connections("tcp4")
    return any(
        connection.status == psutil.CONN_ESTABLISHED for connection in connections if ours(service, connection.laddr)
    )


def ours(service: Service, address: Any) -> bool:
    return bool(address) and service.url.endswith(f":{address.port}")


def end(backend: Backend, job_id: str) -> None:
    """The job runs, says a line and succeeds."""
    with transaction(backend.make) as session:
        claim = transitions.claim(session, job_id, worker_id="w1", lease_s=60.0)
        assert claim is not None
        append_events(session, claim.hold, [Line(eseq=1, kind="warned", data={"code": "c", "message": "m"})])
        transitions.succeed(session, claim.hold)


def test_a_job_exists_once_whenever_the_api_is_killed_and_its_streams_have_no_gap(
    start: Callable[..., Service], backend: Backend
) -> None:
    options = ("--no-worker", "--port", free_port())
    service = start(backend, *options)
    with ThreadPoolExecutor(2) as pool:
        # Before the commit: nothing is there, and the same POST makes it.
        with nobody_writes(backend):
            first = pool.submit(post, service, "before")
            eventually(lambda: at_the_api(service), within_s=60, what="the POST")
            kill(service)
            assert first.result(60) is None
        assert (jobs(backend), keys(backend)) == ([], 0)
        service = start(backend, *options)
        job_id = post(service, "before")
        assert job_id is not None
        assert jobs(backend) == [job_id]

        # The stream that is broken next goes on at the event after the last that its client has.
        seen: list[int] = []
        followed = pool.submit(follow, service, job_id, seen)
        eventually(lambda: seen == [1], within_s=60, what="the first event")
        # After the commit, perhaps before the answer: it is there, and the same POST finds it.
        second = pool.submit(post, service, "after")
        eventually(lambda: len(jobs(backend)) == 2, within_s=60, what="the second job's commit")
        kill(service)
        end(backend, job_id)
        service = start(backend, *options)
        again = post(service, "after")
        assert again is not None
        assert second.result(60) in (None, again)
        assert sorted(jobs(backend)) == sorted([job_id, again])
        followed.result(120)
        assert seen == [1, 2, 3, 4]


def follow(service: Service, job_id: str, seen: list[int]) -> None:
    with service.client() as client:
        seen.extend(event.seq for event in client.follow(job_id))
