"""Short words for what the store's tests do again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.core.db import now, reading, transaction
from api.events.tables import JobEvent
from api.jobs import transitions
from api.jobs.lease import Hold
from api.jobs.tables import Job, JobAttempt
from api.jobs.transitions import Claim
from tests.backends import TENANT, Backend

Answer = TypeVar("Answer")
LEASE_S = 60.0


def do(backend: Backend, step: Callable[..., Answer], *args: Any, **named: Any) -> Answer:
    """`step(session, …)` in a transaction of its own."""
    with transaction(backend.make) as session:
        return step(session, *args, **named)


def submitted(backend: Backend, **resolved: Any) -> str:
    """A new queued job."""
    job_id = f"job_{uuid4().hex}"
    do(backend, transitions.submit, job_id=job_id, tenant_id=TENANT, spec={}, resolved=resolved)
    return job_id


def claimed(backend: Backend, job_id: str, worker_id: str = "w1") -> Hold:
    """The hold of a worker that has just claimed the queued job."""
    claim = do(backend, transitions.claim, job_id, worker_id=worker_id, lease_s=LEASE_S)
    assert isinstance(claim, Claim)
    return claim.hold


def running(backend: Backend) -> Hold:
    """A new job in a worker's hands."""
    return claimed(backend, submitted(backend))


def lapse(backend: Backend, job_id: str) -> None:
    """Let the job's lease be over, as if its worker had been silent."""
    do(backend, lambda session: session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(-1.0))))


def make_due(backend: Backend, job_id: str) -> None:
    """Let a job's time of waiting for its retry be over."""
    past = {"not_before": now(-1.0), "ring_at": now(-1.0)}
    do(backend, lambda session: session.execute(update(Job).where(Job.id == job_id).values(**past)))


def job(backend: Backend, job_id: str) -> Job:
    """The job's row."""
    with reading(backend.make) as session:
        return session.get_one(Job, job_id)


def events(backend: Backend, job_id: str) -> Sequence[JobEvent]:
    """The job's events in order."""
    with reading(backend.make) as session:
        return session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)).all()


def moves(backend: Backend, job_id: str) -> list[tuple[str | None, str, str]]:
    """(from, to, reason) of every change of state."""
    data = [event.data for event in events(backend, job_id) if event.kind == "state_changed"]
    return [(move["from"], move["to"], move["reason"]) for move in data]


def outcomes(backend: Backend, job_id: str) -> list[str | None]:
    """How the job's attempts ended, in order."""
    with reading(backend.make) as session:
        attempts = select(JobAttempt.outcome).where(JobAttempt.job_id == job_id).order_by(JobAttempt.fence)
        return list(session.scalars(attempts))


def dense(backend: Backend, job_id: str) -> bool:
    """True where the numbers of the job's events are 1, 2, … without a gap, up to the row's last."""
    numbers = [event.seq for event in events(backend, job_id)]
    return numbers == list(range(1, len(numbers) + 1)) and job(backend, job_id).last_seq == len(numbers)


def together(*works: Callable[[], Answer]) -> list[Answer | Exception]:
    """Run all at once, each in a thread; their answers, or what they raised, in order."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], Answer]) -> Answer | Exception:
        barrier.wait()
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def in_session(backend: Backend) -> Session:
    """A session that the test ends itself."""
    return backend.make()
