"""What tenants do with their webhook endpoints, and the operator with all."""

from __future__ import annotations

import uuid
from typing import Any, cast

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.db import now
from api.core.errors import NotFound, QuotaExceeded, ValidationFailed, WebhooksOff
from api.core.settings import Settings
from api.pages import Cursor, cut, encode, older
from api.webhooks import queries
from api.webhooks.addresses import Forbidden, Reach, check_url
from api.webhooks.courier import Rules, send
from api.webhooks.post import Undeliverable
from api.webhooks.queries import Taken
from api.webhooks.schemas import (
    CreateEndpoint,
    DeliveryPage,
    DeliveryState,
    DeliveryView,
    EndpointPage,
    EndpointView,
    EndpointWithSecret,
    UpdateEndpoint,
)
from api.webhooks.signing import new_secret
from api.webhooks.tables import WebhookDelivery, WebhookEndpoint

ENDPOINTS_MAX = 20
_DAY_S = 86_400.0
_KEPT_S = 30 * _DAY_S


def rules(settings: Settings) -> Rules:
    """The operator's rules. Raises WebhooksOff."""
    reach: Reach | None = None if settings.webhooks == "off" else settings.webhooks
    if reach is None:
        raise WebhooksOff
    return Rules(
        reach=reach,
        first_s=settings.webhook_first_s,
        last_s=settings.webhook_last_s,
        attempts=settings.webhook_attempts,
        timeout_s=settings.webhook_timeout_s,
    )


def create(session: Session, tenant_id: str | None, sent: CreateEndpoint, settings: Settings) -> EndpointWithSecret:
    """A new endpoint with its secret, the only time it is shown. Raises WebhooksOff, ValidationFailed and QuotaExceeded."""
    _check(sent.url, rules(settings).reach)
    if session.scalars(queries.count(tenant_id)).one() >= ENDPOINTS_MAX:
        raise QuotaExceeded(f"There may be at most {ENDPOINTS_MAX} webhook endpoints; delete one.")
    row = WebhookEndpoint(
        id=f"we_{uuid.uuid4().hex}",
        tenant_id=tenant_id,
        name=sent.name,
        url=sent.url,
        event_types=list(dict.fromkeys(sent.event_types)),
        secret=new_secret(),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return _with_secret(row)


def find(session: Session, tenant_id: str | None, endpoint_id: str) -> WebhookEndpoint:
    """One of the tenant's own. Raises NotFound."""
    known = queries.endpoints(tenant_id).where(WebhookEndpoint.id == endpoint_id)
    row = session.scalar(known) if "\0" not in endpoint_id else None
    if row is None:
        raise NotFound("There is no such webhook endpoint.")
    return row


def page(session: Session, tenant_id: str, *, after: str | None, limit: int) -> EndpointPage:
    """A page of the tenant's endpoints, newest first. Raises ValidationFailed for an `after` that is none of them."""
    statement = queries.endpoints(tenant_id)
    if after is not None:
        try:
            last = find(session, tenant_id, after)
        except NotFound:
            raise ValidationFailed("after: there is no such webhook endpoint", param="after") from None
        cursor = encode(Cursor(last.created_at, last.id))
        statement = statement.where(older(WebhookEndpoint.created_at, WebhookEndpoint.id, cursor))
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    data = [EndpointView(**_fields(row)) for row in rows]
    first, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return EndpointPage(data=data, first_id=first, last_id=last_id, has_more=more)


def get(session: Session, tenant_id: str, endpoint_id: str) -> EndpointView:
    """One endpoint. Raises NotFound."""
    return EndpointView(**_fields(find(session, tenant_id, endpoint_id)))


def change(
    session: Session, tenant_id: str, endpoint_id: str, sent: UpdateEndpoint, settings: Settings
) -> EndpointView:
    """Change what is named. Raises WebhooksOff, NotFound and ValidationFailed."""
    allowed = rules(settings)
    row = find(session, tenant_id, endpoint_id)
    if sent.url is not None:
        _check(sent.url, allowed.reach)
    named = {name: value for name, value in sent.model_dump().items() if value is not None}
    if any(getattr(row, name) != value for name, value in named.items()):
        _change(session, row, **named)
    return EndpointView(**_fields(row))


def rotate(session: Session, tenant_id: str, endpoint_id: str, *, keep_old: bool) -> EndpointWithSecret:
    """A new secret; with `keep_old` both sign for a day. Raises NotFound."""
    row = find(session, tenant_id, endpoint_id)
    old = {"old_secret": row.secret if keep_old else None, "old_secret_until": now(_DAY_S) if keep_old else None}
    _change(session, row, secret=new_secret(), **old)
    return _with_secret(row)


def remove(session: Session, tenant_id: str | None, endpoint_id: str) -> None:
    """Forget an endpoint with its deliveries. Raises NotFound."""
    find(session, tenant_id, endpoint_id)
    session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))


def sample(make: sessionmaker[Session], tenant_id: str, endpoint_id: str, event_type: str, settings: Settings) -> int:
    """The status with which the receiver answers a made-up event, sent now and once.

    Raises WebhooksOff, NotFound, and ValidationFailed where it was not reached.
    """
    allowed = rules(settings)
    with db.reading(make) as session:
        endpoint = find(session, tenant_id, endpoint_id)
        at = db.utc_now(session)
    made_up = WebhookDelivery(
        id=f"evt_{uuid.uuid4().hex}", job_id="job_sample", event_type=event_type, created_at=at, attempts=1
    )
    try:
        return send(Taken(delivery=made_up, endpoint=endpoint, attempt=1), allowed, int(at.timestamp()))
    except Undeliverable as error:
        raise ValidationFailed(f"url: {error}", param="url") from error


def deliveries(
    session: Session, tenant_id: str, endpoint_id: str, *, state: DeliveryState | None, after: str | None, limit: int
) -> DeliveryPage:
    """A page of an endpoint's deliveries, newest first. Raises NotFound, and ValidationFailed for an `after` that is none of them."""
    statement = queries.deliveries(find(session, tenant_id, endpoint_id).id)
    if after is not None:
        row = session.scalar(statement.where(WebhookDelivery.id == after)) if "\0" not in after else None
        if row is None:
            raise ValidationFailed("after: there is no such delivery", param="after")
        cursor = encode(Cursor(row.created_at, row.id))
        statement = statement.where(older(WebhookDelivery.created_at, WebhookDelivery.id, cursor))
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    data = [delivery_view(row) for row in rows]
    first, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return DeliveryPage(data=data, first_id=first, last_id=last_id, has_more=more)


def forget(make: sessionmaker[Session]) -> int:
    """Delete what was settled a month ago; how many deliveries went."""
    with db.transaction(make) as session:
        gone = queries.forgotten(_KEPT_S).returning(WebhookDelivery.id)
        return len(session.execute(gone).all())


def delivery_view(row: WebhookDelivery) -> DeliveryView:
    """A delivery as it is told."""
    return DeliveryView(
        id=row.id,
        webhook_endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        job=row.job_id,
        state=cast("DeliveryState", row.state),
        attempts=row.attempts,
        status_code=row.status_code,
        error=row.error,
        created_at=int(row.created_at.timestamp()),
        next_at=int(row.next_at.timestamp()) if row.state == "pending" else None,
        delivered_at=None if row.delivered_at is None else int(row.delivered_at.timestamp()),
    )


def _check(url: str, reach: Reach) -> None:
    try:
        check_url(url, reach)
    except Forbidden as error:
        raise ValidationFailed(f"url: {error}", param="url") from error


def _change(session: Session, row: WebhookEndpoint, **values: Any) -> None:
    session.execute(update(WebhookEndpoint).where(WebhookEndpoint.id == row.id).values(**values, updated_at=now()))
    session.execute(
        select(WebhookEndpoint).where(WebhookEndpoint.id == row.id), execution_options={"populate_existing": True}
    ).one()


def _with_secret(row: WebhookEndpoint) -> EndpointWithSecret:
    return EndpointWithSecret(**_fields(row), signing_secret=row.secret)


def _fields(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": int(row.created_at.timestamp()),
        "updated_at": int(row.updated_at.timestamp()),
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "signing_secret_hint": f"whsec_…{row.secret[-4:]}",
    }
