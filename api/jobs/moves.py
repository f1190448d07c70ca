"""The one way in which a job's state changes: a conditional UPDATE, with its event and the attempt's row in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from api.comparisons import ending
from api.core.db import now
from api.jobs.entries import record
from api.jobs.lease import HeldJob, Hold, LeaseLost, holds
from api.jobs.states import TERMINAL, JobState, Outcome, Requested
from api.jobs.tables import Job, JobAttempt
from api.webhooks import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job failed: a stable code and a message for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A change of state that happened, with the job's row after it."""

    job_id: str
    tenant_id: str
    fence: int
    attempt: int
    crashes: int
    losses: int
    kind: str
    resolved: dict[str, Any]


_RETURNED: tuple[Any, ...] = (
    Job.id,
    Job.tenant_id,
    Job.fence,
    Job.attempt,
    Job.crashes,
    Job.losses,
    Job.kind,
    Job.resolved,
    Job.last_seq,
)
# Nobody holds a job that is not running, and what was asked of the attempt has been answered.
_UNHELD = {"worker_id": None, "lease_until": None, "heartbeat_at": None, "requested": Requested.NONE}


def move(
    session: Session,
    *where: ColumnElement[bool],
    before: JobState,
    after: JobState,
    reason: str,
    failure: Failure | None = None,
    delay_s: float = 0.0,
    **values: Any,
) -> Moved | None:
    """Change the one job that meets `where` and is in `before`; None where there is none.

    `delay_s` holds a queued job back: neither claimed nor rung before.
    """
    statement = update(Job).where(*where, Job.state == before)
    statement = statement.values(**_settled(after, delay_s), **_failed(failure), **values)
    statement = statement.values(state=after, last_seq=Job.last_seq + 1).returning(*_RETURNED)
    # Fetched to the end: on SQLite a RETURNING that is not keeps the write lock.
    rows = session.execute(statement, execution_options={"synchronize_session": False}).all()
    if not rows:
        return None
    row = rows[0]
    data: dict[str, Any] = {"from": before, "to": after, "reason": reason, "attempt": row.attempt}
    if failure is not None:
        data["failure"] = {"code": failure.code, "message": storable(failure.message)}
    if delay_s:
        data["retry_in_s"] = delay_s
    record(session, row.id, seq=row.last_seq, fence=row.fence, data=data)
    if after in TERMINAL:
        ending.ended(session, row.id)
        outbox.ended(session, job_id=row.id, tenant_id=row.tenant_id, kind=row.kind, state=after)
    return Moved(
        job_id=row.id,
        tenant_id=row.tenant_id,
        fence=row.fence,
        attempt=row.attempt,
        crashes=row.crashes,
        losses=row.losses,
        kind=row.kind,
        resolved=row.resolved,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What becomes of the job (`after`) and of the attempt (`outcome`); `counted` are the job's columns of spent budget."""

    after: JobState
    outcome: Outcome
    reason: str
    failure: Failure | None = None
    detail: str | None = None
    delay_s: float = 0.0
    counted: Mapping[str, int] = field(default_factory=dict)


CANCELLED = End(after=JobState.CANCELLED, outcome=Outcome.CANCELLED, reason="cancel_requested")


def end(session: Session, hold: Hold, held: HeldJob, ending: End) -> JobState:
    """Carry out the end of a held attempt whose row is locked. Raises LeaseLost."""
    moved = move(
        session,
        *holds(hold),
        Job.requested == held.requested,
        before=JobState.RUNNING,
        after=ending.after,
        reason=ending.reason,
        failure=ending.failure,
        delay_s=ending.delay_s,
        **ending.counted,
    )
    if moved is None:
        raise LeaseLost(hold.job_id)
    _close(session, hold, ending.outcome, ending.failure.message if ending.failure else ending.detail)
    return ending.after


def broken_off(
    held: HeldJob, failure: Failure, outcome: Outcome, *, spent: bool, delay_s: float, **counted: int
) -> End:
    """The end of an attempt that broke off: what a person asked for comes first, then the budget, then another try."""
    told: dict[str, Any] = {"outcome": outcome, "detail": failure.message, "counted": counted}
    if held.requested is Requested.CANCEL:
        return End(after=JobState.CANCELLED, reason=CANCELLED.reason, **told)
    if spent:
        return End(after=JobState.FAILED, reason=failure.code, failure=failure, **told)
    if held.requested is Requested.PAUSE:
        return End(after=JobState.PAUSED, reason="pause_requested", **told)
    return End(after=JobState.QUEUED, reason=failure.code, delay_s=delay_s, **told)


def _close(session: Session, hold: Hold, outcome: Outcome, detail: str | None) -> None:
    """Close the attempt's own row."""
    statement = update(JobAttempt).where(JobAttempt.job_id == hold.job_id, JobAttempt.fence == hold.fence)
    detail = None if detail is None else storable(detail)
    session.execute(statement.values(ended_at=now(), outcome=outcome, detail=detail))


def storable(value: str) -> str:
    """`value` without what PostgreSQL refuses in text: NUL, and surrogates that stand alone."""
    return value.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")


def _settled(after: JobState, delay_s: float) -> dict[str, Any]:
    match after:
        case JobState.RUNNING:
            return {}
        case JobState.QUEUED:
            ready = now(delay_s)
            return {**_UNHELD, "ring_at": ready, "rings": 0, "not_before": ready if delay_s else None}
        case _:
            finished = {"finished_at": now()} if after in TERMINAL else {}
            return {**_UNHELD, **finished, "ring_at": None, "rings": 0, "not_before": None}


def _failed(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {}
    return {"failure_code": failure.code, "failure_message": storable(failure.message)}
