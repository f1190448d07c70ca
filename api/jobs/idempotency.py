"""A POST that may be sent again: the row of its Idempotency-Key commits with the job, or not at all."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.core.errors import IdempotencyInFlight, IdempotencyKeyReused
from api.jobs import queries

# Long enough for a submit in progress to commit, short enough for a client to be told.
WAIT_MS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What makes a request the same one: whose, where to, under which key, with which body."""

    tenant_id: str
    route: str
    key: str
    body_sha256: bytes


def replayed(session: Session, request: Request, *, keep_s: float) -> str | None:
    """The id that the first such request got; None when this is the first, which then owns the key and must `answer` it.

    Raises IdempotencyKeyReused for another body, IdempotencyInFlight while the first has not committed.
    """
    session.execute(queries.outlived_keys(request.tenant_id, keep_s))
    if _take(session, request):
        return None
    row = session.scalars(queries.idempotency_key(request.tenant_id, request.route, request.key)).one()
    if row.resource_id is None:
        raise IdempotencyInFlight
    if not hmac.compare_digest(row.body_sha256, request.body_sha256):
        raise IdempotencyKeyReused
    return row.resource_id


def answer(session: Session, request: Request, resource_id: str) -> None:
    """Remember what the first request made."""
    session.execute(queries.answer_key(request.tenant_id, request.route, request.key, resource_id))


def _take(session: Session, request: Request) -> bool:
    """Insert the key's row; False where it exists. PostgreSQL waits here for whoever is inserting the same; SQLite has one writer."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    if postgresql:
        session.execute(text(f"SET LOCAL lock_timeout = '{WAIT_MS}ms'"))
    statement = queries.take_key(postgresql, request.tenant_id, request.route, request.key, request.body_sha256)
    try:
        taken = session.execute(statement).all()
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            raise IdempotencyInFlight from error
        raise
    if postgresql:
        session.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    return bool(taken)
