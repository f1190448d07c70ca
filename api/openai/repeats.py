"""A job sent again without an Idempotency-Key: OpenAI's clients retry POSTs, and say only how often they have tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.jobs import queries as job_queries
from api.jobs.tables import IdempotencyKey
from api.keys import queries as key_queries
from api.openai import queries

ROUTE = "POST /v1/fine_tuning/jobs"
_KEYLESS = f"{ROUTE} without a key"
# The clients wait ten minutes for an answer and try three times.
RETRIED_WITHIN_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One sending of a body: whose, how often it was sent before, and when it reached us by the database's clock."""

    tenant_id: str
    body_sha256: bytes
    retries: int
    arrived_at: datetime


def earlier(session: Session, sent: Try, *, keep_s: float) -> str | None:
    """The job that an earlier sending of the same request made. Others with this body wait until the transaction ends.

    A first sending that was overtaken by its own retry gets the retry's job; two first sendings are two requests.
    """
    session.execute(key_queries.tenant_for_update(sent.tenant_id)).one()
    session.execute(job_queries.outlived_keys(sent.tenant_id, keep_s))
    left = queries.same_body(sent.tenant_id, _KEYLESS, sent.body_sha256)
    if sent.retries:
        row = session.scalar(left.where(queries.within(RETRIED_WITHIN_S)))
    else:
        overtook = (IdempotencyKey.created_at >= sent.arrived_at, IdempotencyKey.key.startswith("retry:"))
        row = session.scalar(left.where(*overtook))
    return None if row is None else row.resource_id


def remember(session: Session, sent: Try, job_id: str) -> None:
    """Keep what this sending made."""
    session.add(
        IdempotencyKey(
            tenant_id=sent.tenant_id,
            route=_KEYLESS,
            key=f"{'retry' if sent.retries else 'first'}:{job_id}",
            body_sha256=sent.body_sha256,
            resource_id=job_id,
        )
    )
    session.flush()
