"""The dispatcher: rings for queued jobs until a worker has them. The jobs table is its outbox, so no ring can be lost for good.

It runs in a thread of the api's process, never inside a request. Any number may run at once: a ring is taken by a conditional UPDATE.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import now, reading, transaction
from api.core.queue import depth, ring
from api.jobs.states import JobState
from api.jobs.tables import Job

# Each ring brings a worker that then empties the queue of jobs by itself; more messages than this tell it nothing new.
MESSAGES_MAX = 1000
PASS_MAX = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds from one ring to the next: `first_s`, doubling to `last_s`."""

    first_s: float
    last_s: float

    def after(self, rings: int) -> float:
        """How long to wait after ring number `rings` (from 0)."""
        return float(min(self.first_s * 2.0 ** min(rings, 32), self.last_s))


def take_due(session: Session, backoff: Backoff, *, limit: int = PASS_MAX) -> list[str]:
    """The jobs to ring for now, each put off to its next ring. Publish after the commit."""
    due = select(Job.id, Job.rings).where(*_due()).order_by(Job.ring_at).limit(limit).with_for_update(skip_locked=True)
    taken = []
    for row in session.execute(due).all():
        which = (Job.id == row.id, Job.rings == row.rings, *_due())
        later = update(Job).where(*which).values(rings=row.rings + 1, ring_at=now(backoff.after(row.rings)))
        if session.execute(later.returning(Job.id)).all():
            taken.append(row.id)
    return taken


def put_back(session: Session, job_ids: Sequence[str]) -> None:
    """Make jobs due again whose ring did not reach the broker."""
    # Not one that was claimed and queued anew in the meantime, whose rings count from 0 again.
    which = (Job.id.in_(job_ids), Job.state == JobState.QUEUED, Job.rings > 0)
    session.execute(update(Job).where(*which).values(ring_at=now(), rings=Job.rings - 1))


def _due() -> tuple[ColumnElement[bool], ...]:
    return Job.state == JobState.QUEUED, Job.ring_at <= now(), or_(Job.not_before.is_(None), Job.not_before <= now())


class Bell:
    """The dispatcher's thread. `wake` it after a commit that queued a job; it looks by itself every `tick_s` too."""

    def __init__(self, make: sessionmaker[Session], app: Celery, backoff: Backoff, *, tick_s: float) -> None:
        self._make = make
        self._app = app
        self._backoff = backoff
        self._tick_s = tick_s
        self._wakened = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self.rung = 0
        """Messages published since the start."""
        self.failures = 0
        """Passes that the broker or the database broke off."""
        self.answered: bool | None = None
        """Whether the broker took the last ring; None before the first."""

    def start(self) -> None:
        """Begin to ring."""
        self._thread.start()

    def wake(self) -> None:
        """Look now. Any thread may call it; it never blocks."""
        self._wakened.set()

    def stop(self, *, timeout_s: float = 15.0) -> None:
        """End after the pass at hand; queued jobs stay for the next bell."""
        self._stopping.set()
        self._wakened.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def once(self) -> int:
        """One pass; returns how many jobs were rung for. A database or broker that is away is counted; what failed is due again."""
        try:
            return self._pass()
        except SQLAlchemyError as error:
            self.failures += 1
            log.warning("bell_database_unavailable", error=type(error).__name__)
            return 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wakened.wait(self._tick_s)
            self._wakened.clear()
            try:
                # A full pass may have left more.
                while not self._stopping.is_set() and self.once() == PASS_MAX:
                    pass
            except Exception:
                # A thread that ended here would leave every later job waiting, and nobody would hear of it.
                self.failures += 1
                log.exception("bell_failed")

    def _pass(self) -> int:
        with reading(self._make) as session:
            if session.scalars(select(Job.id).where(*_due()).limit(1)).one_or_none() is None:
                return 0
        with transaction(self._make) as session:
            due = take_due(session, self._backoff)
        rung = self._publish(due)
        if rung < len(due):
            with transaction(self._make) as session:
                put_back(session, due[rung:])
        return rung

    def _publish(self, job_ids: Sequence[str]) -> int:
        rung = 0
        connection = self._app.connection_for_write()
        try:
            with connection:
                for job_id in job_ids:
                    # The first ring also makes the queue, whose depth can be asked for only then.
                    if rung and depth(connection) >= MESSAGES_MAX:
                        rung = len(job_ids)
                        break
                    ring(self._app, job_id, connection=connection)
                    rung += 1
                    self.rung += 1
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            self.failures += 1
            if self.answered is not False:
                log.warning("bell_broker_unavailable", error=type(error).__name__, waiting=len(job_ids) - rung)
            self.answered = False
        else:
            if self.answered is False:
                log.info("bell_broker_available")
            self.answered = True
        return rung
