"""A worker's housekeeping: showing that it is alive, and taking jobs from workers that are not."""

from __future__ import annotations

import contextvars
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import now, reading, transaction, upsert
from api.jobs import transitions
from api.jobs.states import TERMINAL, JobState
from api.jobs.tables import Job, Worker

log = structlog.get_logger(__name__)

_FORGOTTEN_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """This worker in the table of workers."""

    worker_id: str
    hostname: str
    pid: int
    version: str
    devices: int = 1
    serves: bool = False


class Patience:
    """Whether leases mean anything: not for `hold_s` after the database had been silent longer than `silence_s`.

    While it is away nobody can beat, so every lease runs out; those who hold them need a moment to beat again. Nor in the first
    `silence_s` of a worker's life: it cannot know how long the database was away before.
    """

    def __init__(self, *, silence_s: float, hold_s: float, clock: Callable[[], float]) -> None:
        self._silence_s, self._hold_s, self._clock = silence_s, hold_s, clock
        self._answered_at = clock()
        self._until = self._answered_at + silence_s

    def answered(self) -> bool:
        """Call when the database has just answered; True where leases may be judged."""
        at = self._clock()
        if at - self._answered_at > self._silence_s:
            self._until = at + self._hold_s
        self._answered_at = at
        return at >= self._until


class Reaper:
    """A thread that ticks every `tick_s` until closed."""

    def __init__(
        self,
        make: sessionmaker[Session],
        identity: Identity,
        *,
        tick_s: float,
        patience: Patience,
        loss_budget: int,
        scratch: Path,
        current: Callable[[], str | None],
        on_reaped: Callable[[], None],
    ) -> None:
        self._make, self._identity, self._tick_s = make, identity, tick_s
        self._patience, self._loss_budget, self._scratch = patience, loss_budget, scratch
        self._current, self._on_reaped = current, on_reaped
        self._closing = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="reaper", daemon=True)

    def __enter__(self) -> Reaper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        try:
            sweep(self._make, self._scratch)
            with transaction(self._make) as session:
                session.execute(delete(Worker).where(Worker.id == self._identity.worker_id))
        except (SQLAlchemyError, OSError) as error:
            log.warning("farewell_failed", error=type(error).__name__)

    def tick(self) -> None:
        """Once: be seen, reap, sweep. Raises SQLAlchemyError."""
        with transaction(self._make) as session:
            show(session, self._identity, self._current())
        if self._patience.answered():
            self._reap()
        sweep(self._make, self._scratch)

    def _reap(self) -> None:
        with transaction(self._make) as session:
            reaped = transitions.reap(session, budget=self._loss_budget)
            # Asked again: a database that froze under this very look shows leases that nobody could renew meanwhile.
            if not self._patience.answered():
                session.rollback()
                return
        for job in reaped:
            log.warning("job_reaped", job_id=job.hold.job_id, fence=job.hold.fence, state=job.state)
        if reaped:
            self._on_reaped()

    def _run(self) -> None:
        while True:
            try:
                self.tick()
            except (SQLAlchemyError, OSError) as error:
                log.warning("housekeeping_failed", error=type(error).__name__)
            if self._closing.wait(self._tick_s):
                return


def show(session: Session, identity: Identity, job_id: str | None) -> None:
    """Insert or refresh the worker's row, and forget workers not seen for a day."""
    row = {
        "id": identity.worker_id,
        "hostname": identity.hostname,
        "pid": identity.pid,
        "version": identity.version,
        "devices": identity.devices,
        "serves": identity.serves,
        "job_id": job_id,
        "seen_at": session.scalar(select(now())),
    }
    upsert(session, Worker, [row], key=("id",))
    session.execute(delete(Worker).where(Worker.seen_at < now(-_FORGOTTEN_S)))


def sweep(make: sessionmaker[Session], scratch: Path) -> None:
    """Remove what killed workers of this machine left in `<scratch>/<job>/<fence>/`, and the folders of jobs that have ended.

    The folders are listed before the rows are read: one that a claim makes in between is not on the list.
    """
    found = scratch.glob("job_*") if scratch.is_dir() else ()
    jobs = {path.name: path for path in found if path.is_dir()}
    if not jobs:
        return
    attempts = [path for job in jobs.values() for path in _attempts(job)]
    with reading(make) as session:
        columns: tuple[Any, ...] = (Job.id, Job.state, Job.fence)
        rows = {row.id: row for row in session.execute(select(*columns).where(Job.id.in_(jobs)))}
    running = {(row.id, row.fence) for row in rows.values() if row.state == JobState.RUNNING}
    for path in attempts:
        if (path.parent.name, int(path.name)) not in running:
            shutil.rmtree(path, ignore_errors=True)
    for name, path in jobs.items():
        if name not in rows or rows[name].state in TERMINAL:
            shutil.rmtree(path, ignore_errors=True)


def _attempts(job: Path) -> list[Path]:
    try:
        return [path for path in job.iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        # Another worker of this machine has just swept it away.
        return []


def patience(*, lease_s: float, hold_leases: float, clock: Callable[[], float] = monotonic) -> Patience:
    """Silence of less than half a lease leaves every live worker time to beat; and one that was killed a moment ago has more left."""
    return Patience(silence_s=lease_s / 2, hold_s=hold_leases * lease_s, clock=clock)
