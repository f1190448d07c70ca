"""Every change of a job's state, each one conditional UPDATE with its event and its attempt in the caller's transaction.

Functions take a Session that can write (`api.core.db.transaction`) and commit nothing; whoever commits first wins.
An attempt's functions raise LeaseLost where its fence is stale, people's raise the service's errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, select, update
from sqlalchemy.orm import Session

from api.core.db import now
from api.core.errors import JobAlreadyFinished, JobBeingCancelled, NotFound
from api.jobs.eligibility import UNLIMITED, Limits, due, fits, may_start
from api.jobs.entries import enqueue
from api.jobs.lease import Hold, LeaseLost, holds, lock
from api.jobs.moves import CANCELLED, End, Failure, broken_off, end, move
from api.jobs.states import TERMINAL, JobKind, JobState, Outcome, Requested
from api.jobs.tables import Job, JobAttempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job as the worker that has just claimed it gets it. `resolved` is the JSON of a cpd_engine RunConfig."""

    hold: Hold
    tenant_id: str
    attempt: int
    crashes: int
    losses: int
    kind: JobKind
    resolved: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A job whose lease had run out, and what became of it."""

    hold: Hold
    state: JobState


# Asked for by people.


def submit(
    session: Session,
    *,
    job_id: str,
    tenant_id: str,
    spec: dict[str, Any],
    resolved: dict[str, Any],
    name: str | None = None,
    kind: JobKind = JobKind.DISTILLATION,
) -> None:
    """Insert a queued job and its first event. Wake the bell after the commit."""
    enqueue(session, job_id=job_id, tenant_id=tenant_id, spec=spec, resolved=resolved, name=name, kind=kind)


def request_cancel(session: Session, job_id: str, *, tenant_id: str) -> None:
    """Cancel a job: at once where nothing runs, else its worker is asked to. Asking twice is asking once.

    Raises NotFound, and JobAlreadyFinished for a job that succeeded or failed.
    """
    state, _ = _locked(session, job_id, tenant_id)
    match state:
        case JobState.RUNNING:
            _request(session, job_id, Requested.CANCEL)
        case JobState.QUEUED | JobState.PAUSED:
            move(session, Job.id == job_id, before=state, after=JobState.CANCELLED, reason="cancel_requested")
        case JobState.SUCCEEDED | JobState.FAILED:
            raise JobAlreadyFinished
        case JobState.CANCELLED:
            pass


def request_pause(session: Session, job_id: str, *, tenant_id: str) -> None:
    """Pause a job: at once where it is queued, else its worker seals a checkpoint first. Idempotent.

    Raises NotFound, JobAlreadyFinished, and JobBeingCancelled.
    """
    state = _locked_unless_ending(session, job_id, tenant_id)
    if state is JobState.RUNNING:
        _request(session, job_id, Requested.PAUSE)
    elif state is JobState.QUEUED:
        move(session, Job.id == job_id, before=state, after=JobState.PAUSED, reason="pause_requested")


def resume(session: Session, job_id: str, *, tenant_id: str) -> None:
    """Queue a paused job again, or take back a pause that its worker has not carried out yet. Idempotent.

    Raises NotFound, JobAlreadyFinished, and JobBeingCancelled.
    """
    state = _locked_unless_ending(session, job_id, tenant_id)
    if state is JobState.RUNNING:
        _request(session, job_id, Requested.NONE)
    elif state is JobState.PAUSED:
        move(session, Job.id == job_id, before=state, after=JobState.QUEUED, reason="resume_requested")


# Done by workers.


def claim(
    session: Session,
    job_id: str,
    *,
    worker_id: str,
    lease_s: float,
    devices: int | None = None,
    limits: Limits = UNLIMITED,
) -> Claim | None:
    """Take a queued job for `worker_id`; None where it is not queued, held back, too large, or its tenant at a limit."""
    which = and_(Job.id == job_id, fits(devices), may_start(session, limits))
    return _claim(session, which, worker_id, lease_s)


def claim_next(
    session: Session, *, worker_id: str, lease_s: float, devices: int | None = None, limits: Limits = UNLIMITED
) -> Claim | None:
    """Take the job that was submitted first of those that `claim` would take; None where there is none."""
    # SKIP LOCKED: two idle workers take two jobs and neither waits for the other. SQLite has one writer and no such clause.
    waiting = select(Job.id).where(Job.state == JobState.QUEUED, due(), fits(devices), may_start(session, limits))
    first = waiting.order_by(Job.created_at, Job.id).limit(1)
    return _claim(session, Job.id == first.with_for_update(skip_locked=True).scalar_subquery(), worker_id, lease_s)


def heartbeat(session: Session, hold: Hold, *, lease_s: float) -> Requested:
    """Extend the lease and learn what a person has asked for."""
    statement = update(Job).where(*holds(hold)).values(lease_until=now(lease_s), heartbeat_at=now())
    rows = session.execute(statement.returning(Job.requested)).all()
    if not rows:
        raise LeaseLost(hold.job_id)
    return Requested(rows[0].requested)


def succeed(session: Session, hold: Hold) -> JobState:
    """The run finished: the job succeeded, unless a cancellation was asked for first."""
    held = lock(session, hold)
    if held.requested is Requested.CANCEL:
        return end(session, hold, held, CANCELLED)
    return end(session, hold, held, End(after=JobState.SUCCEEDED, outcome=Outcome.SUCCEEDED, reason="finished"))


def fail(session: Session, hold: Hold, failure: Failure) -> JobState:
    """The run failed for a reason that no retry cures: the job failed, unless a cancellation was asked for first."""
    held = lock(session, hold)
    if held.requested is Requested.CANCEL:
        return end(session, hold, held, CANCELLED)
    ending = End(after=JobState.FAILED, outcome=Outcome.FAILED, reason=failure.code, failure=failure)
    return end(session, hold, held, ending)


def stop(session: Session, hold: Hold) -> JobState:
    """The engine was stopped: the job is cancelled or paused as asked, or queued again, without penalty, when a worker drains."""
    held = lock(session, hold)
    match held.requested:
        case Requested.CANCEL:
            ending = CANCELLED
        case Requested.PAUSE:
            ending = End(after=JobState.PAUSED, outcome=Outcome.PAUSED, reason="pause_requested")
        case Requested.NONE:
            ending = End(after=JobState.QUEUED, outcome=Outcome.DRAINED, reason="drained")
    return end(session, hold, held, ending)


def crash(session: Session, hold: Hold, failure: Failure, *, budget: int, delay_s: float) -> JobState:
    """The engine died: queued again after `delay_s`, or failed with `failure` at the crash that spends `budget`.

    A new checkpoint gives the whole budget back (`api.artifacts.queries.add`).
    """
    held = lock(session, hold)
    crashes = held.crashes + 1
    ending = broken_off(held, failure, Outcome.CRASHED, spent=crashes >= budget, delay_s=delay_s, crashes=crashes)
    return end(session, hold, held, ending)


def reap(session: Session, *, budget: int, limit: int = 50) -> list[Reaped]:
    """Take the jobs whose lease has run out from their workers: queued again, or failed `worker_lost` when `budget` is spent."""
    expired = select(Job.id, Job.fence).where(Job.state == JobState.RUNNING, Job.lease_until < now())
    rows = session.execute(expired.order_by(Job.lease_until).limit(limit).with_for_update(skip_locked=True)).all()
    return [_reap(session, Hold(job_id=row.id, fence=row.fence), budget) for row in rows]


def _reap(session: Session, hold: Hold, budget: int) -> Reaped:
    held = lock(session, hold)
    losses = held.losses + 1
    failure = Failure(
        code="worker_lost",
        message=f"{losses} workers in a row vanished while they worked on this job, without a new checkpoint between them.",
    )
    ending = broken_off(held, failure, Outcome.LOST, spent=losses >= budget, delay_s=0.0, losses=losses)
    return Reaped(hold=hold, state=end(session, hold, held, ending))


def _claim(session: Session, which: ColumnElement[bool], worker_id: str, lease_s: float) -> Claim | None:
    moved = move(
        session,
        which,
        due(),
        before=JobState.QUEUED,
        after=JobState.RUNNING,
        reason="claimed",
        fence=Job.fence + 1,
        attempt=Job.attempt + 1,
        worker_id=worker_id,
        lease_until=now(lease_s),
        heartbeat_at=now(),
        started_at=func.coalesce(Job.started_at, now()),
        requested=Requested.NONE,
        ring_at=None,
        not_before=None,
    )
    if moved is None:
        return None
    session.execute(insert(JobAttempt).values(job_id=moved.job_id, fence=moved.fence, worker_id=worker_id))
    return Claim(
        hold=Hold(job_id=moved.job_id, fence=moved.fence),
        tenant_id=moved.tenant_id,
        attempt=moved.attempt,
        crashes=moved.crashes,
        losses=moved.losses,
        kind=JobKind(moved.kind),
        resolved=moved.resolved,
    )


def _locked(session: Session, job_id: str, tenant_id: str) -> tuple[JobState, Requested]:
    which = (Job.id == job_id, Job.tenant_id == tenant_id)
    row = session.execute(select(Job.state, Job.requested).where(*which).with_for_update()).one_or_none()
    if row is None:
        raise NotFound
    return JobState(row.state), Requested(row.requested)


def _locked_unless_ending(session: Session, job_id: str, tenant_id: str) -> JobState:
    state, requested = _locked(session, job_id, tenant_id)
    if state in TERMINAL:
        raise JobAlreadyFinished
    if requested is Requested.CANCEL:
        raise JobBeingCancelled
    return state


def _request(session: Session, job_id: str, requested: Requested) -> None:
    session.execute(update(Job).where(Job.id == job_id, Job.state == JobState.RUNNING).values(requested=requested))
