"""Statements over questions to models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Delete, Select, case, delete, func, select, update
from sqlalchemy.orm import Session

from api.completions.tables import Completion
from api.core.db import now
from api.jobs.tables import Worker

_OPEN = ("queued", "running")


# --- written and read by the api


def waiting(tenant_id: str | None = None) -> Select[int]:
    """How many questions are open, of a tenant or in all, that somebody may still wait for."""
    which: list[ColumnElement[bool]] = [Completion.state.in_(_OPEN), Completion.expires_at > now()]
    if tenant_id is not None:
        which.append(Completion.tenant_id == tenant_id)
    return select(func.count()).select_from(Completion).where(*which)


def servers(within_s: float) -> Select[int]:
    """How many workers that answer questions were seen so lately."""
    return select(func.count()).select_from(Worker).where(Worker.serves, Worker.seen_at >= now(-within_s))


def standing(completion_id: str) -> Select[Completion, bool, bool]:
    """The question; whether its worker has let go of it, and whether its time is over."""
    lost = case((Completion.state == "running", Completion.lease_until <= now()), else_=False)
    return select(Completion, lost, Completion.expires_at <= now()).where(Completion.id == completion_id)


def gone(completion_id: str) -> Delete:
    """Deletes a question whose answer was read, or for which nobody waits; a worker at it finds out when it writes."""
    return delete(Completion).where(Completion.id == completion_id)


def forgotten(after_s: float) -> Delete:
    """Deletes what an api that was killed has left."""
    return delete(Completion).where(Completion.expires_at <= now(-after_s))


# --- written by workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question in a worker's hands."""

    id: str
    worker_id: str
    tenant_id: str
    source: dict[str, Any]
    ask: dict[str, Any]


def any_queued() -> Select[str]:
    """A question that waits, if one does."""
    return select(Completion.id).where(Completion.state == "queued", Completion.expires_at > now()).limit(1)


def claim(session: Session, worker_id: str, *, lease_s: float) -> Question | None:
    """Take the question that has waited longest; None where none waits."""
    first = select(Completion.id).where(Completion.state == "queued", Completion.expires_at > now())
    first = first.order_by(Completion.created_at, Completion.id).limit(1).with_for_update(skip_locked=True)
    taken = update(Completion).where(Completion.id == first.scalar_subquery(), Completion.state == "queued")
    taken = taken.values(state="running", worker_id=worker_id, lease_until=now(lease_s))
    returned = taken.returning(Completion.id, Completion.tenant_id, Completion.source, Completion.ask)
    row = next(iter(session.execute(returned, execution_options={"synchronize_session": False}).all()), None)
    if row is None:
        return None
    return Question(id=row.id, worker_id=worker_id, tenant_id=row.tenant_id, source=row.source, ask=row.ask)


def write(session: Session, question: Question, *, lease_s: float, **values: Any) -> bool:
    """Write the answer so far, or how it ended; False where nobody waits for it any more, or it is no longer this worker's."""
    held = (
        Completion.id == question.id,
        Completion.state == "running",
        Completion.worker_id == question.worker_id,
        Completion.lease_until > now(),
        Completion.expires_at > now(),
    )
    statement = update(Completion).where(*held).values(lease_until=now(lease_s), **values).returning(Completion.id)
    return bool(session.execute(statement, execution_options={"synchronize_session": False}).all())
