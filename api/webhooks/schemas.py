"""Webhook endpoints as OpenAI's published API has them, and deliveries, which are ours. Times are seconds since 1970."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EventType = Literal["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]
DeliveryState = Literal["pending", "delivered", "failed"]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,120}$")]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=3)]


class Sent(BaseModel):
    """Base of the bodies."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class CreateEndpoint(Sent):
    """Where to tell of which ends."""

    name: Name
    url: Url
    event_types: EventTypes


class UpdateEndpoint(Sent):
    """What is to be otherwise; the rest stays."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class RotateSecret(Sent):
    """Whether the secret of now signs too for another day."""

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(Sent):
    """Of which event to send a sample."""

    event_type: EventType


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class EndpointView(Frozen):
    """An endpoint. The hint is the end of its secret."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class EndpointWithSecret(EndpointView):
    """The only two answers that show a secret are those that make one."""

    signing_secret: str


class EndpointPage(Frozen):
    """A page of endpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[EndpointView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedEndpoint(Frozen):
    """What is gone, with its deliveries."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class TestedEndpoint(Frozen):
    """How the receiver answered a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(Frozen):
    """What can be heard of."""

    object: Literal["list"] = "list"
    data: list[str]


class DeliveryView(Frozen):
    """One event for one endpoint. `id` is the receiver's `webhook-id`; `next_at`: when it is tried again, while it is pending."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_endpoint_id: str
    event_type: str
    job: str
    state: DeliveryState
    attempts: int
    status_code: int | None
    error: str | None
    created_at: int
    next_at: int | None
    delivered_at: int | None


class DeliveryPage(Frozen):
    """A page of deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryView]
    first_id: str | None
    last_id: str | None
    has_more: bool
