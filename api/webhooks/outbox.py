"""What the end of a job means for webhooks: in its transaction, a delivery for every endpoint that asked to hear of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from sqlalchemy import insert, or_, select
from sqlalchemy.orm import Session

from api.core.db import now
from api.jobs.states import JobKind, JobState
from api.webhooks.tables import WebhookDelivery, WebhookEndpoint

EVENTS: Mapping[JobState, str] = {
    JobState.SUCCEEDED: "fine_tuning.job.succeeded",
    JobState.FAILED: "fine_tuning.job.failed",
    JobState.CANCELLED: "fine_tuning.job.cancelled",
}


def ended(session: Session, *, job_id: str, tenant_id: str, kind: str, state: JobState) -> None:
    """Called where a job has just come into a terminal state, with its row locked. Forecasts and tables are nobody's news."""
    if kind != JobKind.DISTILLATION:
        return
    theirs = or_(WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.tenant_id.is_(None))
    # Kept from being deleted until the transaction ends: a delivery to an endpoint that is gone would fail the job's end.
    asked = select(WebhookEndpoint).where(theirs).with_for_update(read=True, key_share=True)
    rows = [
        {
            "id": f"evt_{uuid.uuid4().hex}",
            "endpoint_id": endpoint.id,
            "job_id": job_id,
            "event_type": EVENTS[state],
            "state": "pending",
        }
        for endpoint in session.scalars(asked)
        if EVENTS[state] in endpoint.event_types
    ]
    for row in rows:
        session.execute(insert(WebhookDelivery).values(**row, attempts=0, next_at=now()))
