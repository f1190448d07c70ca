"""What a job begins with: its row, queued, and the service's own events under numbers taken from that row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from api.core.db import now
from api.events.tables import JobEvent
from api.jobs.states import JobKind, JobState
from api.jobs.tables import Job


def enqueue(
    session: Session,
    *,
    job_id: str,
    tenant_id: str,
    spec: dict[str, Any],
    resolved: dict[str, Any],
    name: str | None,
    kind: JobKind,
    created_at: datetime | None = None,
) -> None:
    """Insert a queued job and its first event. Wake the bell after the commit. `created_at`, by which it is claimed: now, or that of
    what it belongs to."""
    values: dict[str, Any] = {
        "id": job_id,
        "tenant_id": tenant_id,
        "kind": kind,
        "spec": spec,
        "resolved": resolved,
        "name": name,
    }
    if created_at is not None:
        values["created_at"] = created_at
    session.execute(insert(Job).values(**values, state=JobState.QUEUED, last_seq=1, ring_at=now()))
    data = {"from": None, "to": JobState.QUEUED, "reason": "submitted", "attempt": 0}
    record(session, job_id, seq=1, fence=0, data=data)


def record(session: Session, job_id: str, *, seq: int, fence: int, data: dict[str, Any]) -> None:
    """Write the service's own event `state_changed` under a number already taken from the job's row."""
    values = {"job_id": job_id, "seq": seq, "fence": fence, "kind": "state_changed", "data": data}
    session.execute(insert(JobEvent).values(**values))
