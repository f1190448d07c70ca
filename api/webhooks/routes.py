"""The routes of webhook endpoints: OpenAI's, which its client speaks, and the list of deliveries, which is ours."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.auth import Reader, Writer, requires
from api.bodies import Sent, json_body
from api.deps import Known, Limit
from api.webhooks import service
from api.webhooks.outbox import EVENTS
from api.webhooks.schemas import (
    CreateEndpoint,
    DeletedEndpoint,
    DeliveryPage,
    DeliveryState,
    EndpointPage,
    EndpointView,
    EndpointWithSecret,
    EventTypeList,
    RotateSecret,
    TestedEndpoint,
    TestEndpoint,
    UpdateEndpoint,
)

# Left out of our description as the rest of the OpenAI-compatible door is: its client is the test.
router = APIRouter(prefix="/v1", tags=["openai"], include_in_schema=False)

After = Annotated[str | None, Query(max_length=64)]


@router.get("/webhook_event_types", dependencies=[Depends(requires("read"))])
def list_event_types() -> EventTypeList:
    """What an endpoint can hear of."""
    return EventTypeList(data=list(EVENTS.values()))


@router.post("/webhook_endpoints")
def create_endpoint(
    who: Writer, known: Known, body: Annotated[Sent[CreateEndpoint], Depends(json_body(CreateEndpoint))]
) -> EndpointWithSecret:
    """Hear of the ends of jobs. The secret is shown this once."""
    with known.writing() as session:
        return service.create(session, who.tenant_id, body.value, known.settings)


@router.get("/webhook_endpoints")
def list_endpoints(who: Reader, known: Known, limit: Limit, after: After = None) -> EndpointPage:
    """Endpoints, newest first."""
    with known.reading() as session:
        return service.page(session, who.tenant_id, after=after, limit=limit)


@router.get("/webhook_endpoints/{endpoint_id}")
def get_endpoint(who: Reader, known: Known, endpoint_id: str) -> EndpointView:
    """One endpoint."""
    with known.reading() as session:
        return service.get(session, who.tenant_id, endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}")
def update_endpoint(
    who: Writer,
    known: Known,
    endpoint_id: str,
    body: Annotated[Sent[UpdateEndpoint], Depends(json_body(UpdateEndpoint))],
) -> EndpointView:
    """Change name, address or events."""
    with known.writing() as session:
        return service.change(session, who.tenant_id, endpoint_id, body.value, known.settings)


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_endpoint(who: Writer, known: Known, endpoint_id: str) -> DeletedEndpoint:
    """Forget an endpoint; what was not delivered yet never is."""
    with known.writing() as session:
        service.remove(session, who.tenant_id, endpoint_id)
    return DeletedEndpoint(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
def rotate_secret(
    who: Writer, known: Known, endpoint_id: str, body: Annotated[Sent[RotateSecret], Depends(json_body(RotateSecret))]
) -> EndpointWithSecret:
    """A new secret."""
    with known.writing() as session:
        keep_old = body.value.keep_old_secret_active_for_24_hours
        return service.rotate(session, who.tenant_id, endpoint_id, keep_old=keep_old)


@router.post("/webhook_endpoints/{endpoint_id}/test")
def test_endpoint(
    who: Writer, known: Known, endpoint_id: str, body: Annotated[Sent[TestEndpoint], Depends(json_body(TestEndpoint))]
) -> TestedEndpoint:
    """Send a made-up event now, and tell how the receiver answers."""
    event_type = body.value.event_type
    status = service.sample(known.make, who.tenant_id, endpoint_id, event_type, known.settings)
    return TestedEndpoint(webhook_endpoint_id=endpoint_id, event_type=event_type, status_code=status)


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
def list_deliveries(
    who: Reader,
    known: Known,
    endpoint_id: str,
    limit: Limit,
    state: DeliveryState | None = None,
    after: After = None,
) -> DeliveryPage:
    """What was told, what waits to be told again and what was given up, newest first."""
    with known.reading() as session:
        return service.deliveries(session, who.tenant_id, endpoint_id, state=state, after=after, limit=limit)
