"""Statements over webhook endpoints and deliveries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Delete, Select, delete, func, select, update
from sqlalchemy.orm import Session

from api.core.db import now
from api.keys.tables import Tenant
from api.webhooks.tables import WebhookDelivery, WebhookEndpoint

# --- endpoints


def endpoints(tenant_id: str | None) -> Select[WebhookEndpoint]:
    """A tenant's, or the operator's own; newest first."""
    own = WebhookEndpoint.tenant_id.is_(None) if tenant_id is None else WebhookEndpoint.tenant_id == tenant_id
    return select(WebhookEndpoint).where(own).order_by(WebhookEndpoint.created_at.desc(), WebhookEndpoint.id.desc())


def count(tenant_id: str | None) -> Select[int]:
    """How many there are."""
    return select(func.count()).select_from(endpoints(tenant_id).order_by(None).subquery())


def every_endpoint() -> Select[WebhookEndpoint, str | None]:
    """All of them with their tenants' names, oldest first; for the operator."""
    return (
        select(WebhookEndpoint, Tenant.name)
        .outerjoin(Tenant, Tenant.id == WebhookEndpoint.tenant_id)
        .order_by(WebhookEndpoint.created_at, WebhookEndpoint.id)
    )


def every_delivery(state: str | None, limit: int) -> Select[WebhookDelivery]:
    """The newest deliveries of all tenants; for the operator."""
    statement = select(WebhookDelivery).order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    return (statement if state is None else statement.where(WebhookDelivery.state == state)).limit(limit)


def deliveries(endpoint_id: str) -> Select[WebhookDelivery]:
    """An endpoint's, newest first."""
    order = (WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    return select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id).order_by(*order)


def forgotten(after_s: float) -> Delete:
    """Deletes deliveries that were settled so long ago."""
    settled = WebhookDelivery.state != "pending"
    return delete(WebhookDelivery).where(settled, WebhookDelivery.created_at < now(-after_s))


# --- sending


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A delivery that is to be made now, for the `attempt`-th time."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    attempt: int


def _due() -> tuple[ColumnElement[bool], ...]:
    return WebhookDelivery.state == "pending", WebhookDelivery.next_at <= now()


def any_due() -> Select[str]:
    """A delivery that is due, if there is one."""
    return select(WebhookDelivery.id).where(*_due()).limit(1)


def first_due(limit: int) -> Select[str, int]:
    """(id, attempts so far) of the first due delivery of each endpoint: one that hangs delays no other's."""
    place = func.row_number().over(
        partition_by=WebhookDelivery.endpoint_id, order_by=(WebhookDelivery.next_at, WebhookDelivery.id)
    )
    ranked = select(WebhookDelivery.id, WebhookDelivery.attempts, WebhookDelivery.next_at, place.label("place"))
    due = ranked.where(*_due()).subquery()
    return select(due.c.id, due.c.attempts).where(due.c.place == 1).order_by(due.c.next_at).limit(limit)


def take(session: Session, delivery_id: str, attempts: int, *, again_s: float) -> Taken | None:
    """Claim a due delivery: another attempt is due in `again_s` unless this one settles it. None where another was quicker."""
    which = (WebhookDelivery.id == delivery_id, WebhookDelivery.attempts == attempts, *_due())
    later = update(WebhookDelivery).where(*which).values(attempts=attempts + 1, next_at=now(again_s))
    if not session.execute(later.returning(WebhookDelivery.id)).all():
        return None
    delivery = session.get_one(WebhookDelivery, delivery_id, populate_existing=True)
    return Taken(
        delivery=delivery, endpoint=session.get_one(WebhookEndpoint, delivery.endpoint_id), attempt=attempts + 1
    )


def settle(
    session: Session, taken: Taken, *, state: str, status_code: int | None = None, error: str | None = None
) -> None:
    """Write down how an attempt ended; `state` stays `pending` where there is another. Nothing where it was settled since."""
    which = (
        WebhookDelivery.id == taken.delivery.id,
        WebhookDelivery.state == "pending",
        WebhookDelivery.attempts == taken.attempt,
    )
    at = {"delivered_at": now()} if state == "delivered" else {}
    said = {"status_code": status_code, "error": None if error is None else error[:200]}
    session.execute(update(WebhookDelivery).where(*which).values(state=state, **said, **at))
