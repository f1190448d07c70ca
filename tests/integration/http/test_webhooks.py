"""Ends of jobs told to a real receiver, in the form that the official client verifies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from sqlalchemy import select

from api.core.db import transaction
from api.jobs import transitions
from api.jobs.moves import Failure
from api.keys.tables import Tenant
from api.webhooks import queries, service
from api.webhooks.courier import Courier
from api.webhooks.schemas import CreateEndpoint
from api.webhooks.signing import new_secret
from api.webhooks.tables import WebhookDelivery
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.http.api import SPEC, Api, serving
from tests.integration.http.test_openai import speaking
from tests.receiver import Heard, Receiver, receiving

SOON: dict[str, Any] = {
    "webhooks": "any",
    "webhook_first_s": 0.05,
    "webhook_last_s": 0.05,
    "webhook_timeout_s": 5.0,
    "webhook_attempts": 3,
    "bell_s": 0.05,
}
Event = Literal["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]
ALL: list[Event] = ["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]


@pytest.fixture
def quick(short: Backend) -> Iterator[Api]:
    """The API with a courier that loses no time."""
    with serving(short.with_settings(**SOON)) as api:
        yield api


def endpoint(client: OpenAI, receiver: Receiver, events: list[Event] = ALL) -> Any:
    return client.webhooks.create(name="mine", url=receiver.url, event_types=events)  # type: ignore[arg-type]  # a list of their longer Literal


def told(api: Api, made: Any, **query: str) -> list[dict[str, Any]]:
    """The endpoint's deliveries, newest first."""
    return list(api.owner.get(f"/v1/webhook_endpoints/{made.id}/deliveries", params=query).json()["data"])


def settled(api: Api, made: Any, state: str) -> dict[str, Any]:
    """Its one delivery, once it stands so."""
    return eventually(lambda: told(api, made, state=state), within_s=20, what=f"a delivery that is {state}")[0]


def unwrapped(client: OpenAI, heard: Heard, secret: str) -> tuple[str, str, str]:
    event: Any = client.webhooks.unwrap(heard.body, heard.headers, secret=secret)
    return event.id, event.type, event.data.id


def test_every_end_of_a_job_is_told_once_and_verified_by_the_official_client(quick: Api) -> None:
    with receiving() as receiver, speaking(quick, "owner") as client:
        made = endpoint(client, receiver)
        succeeded, failed, cancelled = quick.submit(), quick.submit(), quick.submit()
        probe = quick.owner.post("/v1/jobs/probe", json=SPEC).json()["id"]
        quick.succeed(quick.claim(succeeded))
        with transaction(quick.backend.make) as session:
            transitions.fail(session, quick.claim(failed), Failure(code="diverged", message="no number"))
        for job in (cancelled, probe):
            assert quick.owner.post(f"/v1/jobs/{job}/cancel").is_success
        heard = receiver.wait_for(3)
        eventually(lambda: len(told(quick, made, state="delivered")) == 3, within_s=20, what="the record of all three")

        events = {unwrapped(client, one, made.signing_secret) for one in heard}
        assert {(kind, job) for _, kind, job in events} == {
            ("fine_tuning.job.succeeded", succeeded),
            ("fine_tuning.job.failed", failed),
            ("fine_tuning.job.cancelled", cancelled),
        }
        assert (
            {event for event, _, _ in events} == {one.id for one in heard} == {one["id"] for one in told(quick, made)}
        )
        assert {one.path for one in heard} == {"/hook?from=cpd"}
        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrapped(client, heard[0], new_secret())
        assert len(receiver.heard) == 3


def test_a_delivery_that_fails_is_made_again_under_the_same_id(quick: Api) -> None:
    with receiving(lambda n: (500, 429, 204)[n]) as receiver, speaking(quick, "owner") as client:
        made = endpoint(client, receiver, ["fine_tuning.job.cancelled"])
        job = quick.submit()
        quick.owner.post(f"/v1/jobs/{job}/cancel")

        heard = receiver.wait_for(3)
        delivery = settled(quick, made, "delivered")
        assert {unwrapped(client, one, made.signing_secret)[2] for one in heard} == {job}
        assert {(one.id, one.body) for one in heard} == {(delivery["id"], heard[0].body)}
        assert (delivery["attempts"], delivery["status_code"], delivery["next_at"]) == (3, 204, None)


@pytest.mark.parametrize(("answer", "error"), [(503, "answered 503"), (302, "answered 302"), (None, "no answer")])
def test_a_delivery_is_given_up_after_so_many_attempts_and_says_why(
    short: Backend, answer: int | None, error: str
) -> None:
    timeout_s = 0.5 if answer is None else 5.0
    with (
        receiving(lambda _: answer) as receiver,
        serving(short.with_settings(**SOON | {"webhook_timeout_s": timeout_s})) as api,
        speaking(api, "owner") as client,
    ):
        made = endpoint(client, receiver)
        api.owner.post(f"/v1/jobs/{api.submit()}/cancel")

        delivery = settled(api, made, "failed")
        assert (delivery["attempts"], delivery["delivered_at"]) == (3, None)
        assert delivery["error"].startswith(error)
        assert len({one.id for one in receiver.wait_for(3)}) == 1


def test_one_endpoint_that_hangs_keeps_no_other_waiting(short: Backend) -> None:
    patient = short.with_settings(**SOON | {"webhook_timeout_s": 600.0})
    with receiving(lambda _: None) as hanging, receiving() as sound, serving(patient) as api:
        with speaking(api, "owner") as client:
            slow, made = endpoint(client, hanging), endpoint(client, sound)
            for _ in range(3):
                api.owner.post(f"/v1/jobs/{api.submit()}/cancel")
            hanging.wait_for(1)
            sound.wait_for(1)
        hanging.over.set()
        eventually(lambda: len(told(api, made, state="delivered")) == 3, within_s=20, what="the sound one's news")
        assert {one["webhook_endpoint_id"] for one in told(api, slow)} == {slow.id}


def test_an_end_that_is_not_committed_is_told_to_nobody(api: Api) -> None:
    job = api.submit()
    with transaction(api.backend.make) as session:
        sent = CreateEndpoint(name="x", url="http://127.0.0.1:9/", event_types=ALL)
        service.create(session, None, sent, api.backend.with_settings(webhooks="any").settings)
    tenant = api.owner.get("/v1/fine_tuning/jobs").json()["data"][0]["organization_id"]
    with api.backend.make() as session:
        transitions.request_cancel(session, job, tenant_id=tenant)
        assert len(session.scalars(select(WebhookDelivery)).all()) == 1
        session.rollback()
    with transaction(api.backend.make) as session:
        assert session.scalars(select(WebhookDelivery)).all() == []


def test_a_courier_that_is_killed_while_it_delivers_loses_nothing(short: Backend) -> None:
    """One took the delivery and was never heard of again; the row is due for the next."""
    with serving(short.with_settings(**SOON | {"webhooks": "off"})) as api, receiving() as receiver:
        rules = service.rules(api.backend.with_settings(**SOON).settings)
        with transaction(api.backend.make) as session:
            tenant = session.scalars(select(Tenant.id).where(Tenant.name == "test")).one()
            sent = CreateEndpoint(name="x", url=receiver.url, event_types=ALL)
            service.create(session, tenant, sent, api.backend.with_settings(**SOON).settings)
        api.owner.post(f"/v1/jobs/{api.submit()}/cancel")
        with transaction(api.backend.make) as session:
            row = session.execute(queries.first_due(8)).one()
            taken = queries.take(session, row.id, row.attempts, again_s=0.01)
        assert taken is not None

        courier = Courier(api.backend.make, rules, tick_s=1.0)
        eventually(courier.once, within_s=10, what="the second attempt")
        assert [one.id for one in receiver.heard] == [taken.delivery.id]


def test_the_operator_hears_of_every_tenant_and_a_tenant_of_its_own(quick: Api) -> None:
    with receiving() as operator, receiving() as mine, speaking(quick, "owner") as client:
        with transaction(quick.backend.make) as session:
            sent = CreateEndpoint(name="all", url=operator.url, event_types=ALL)
            service.create(session, None, sent, quick.backend.settings)
        made = endpoint(client, mine)
        theirs = quick.other.post("/v1/jobs", json=SPEC).json()["id"]
        own = quick.submit()
        quick.other.post(f"/v1/jobs/{theirs}/cancel")
        quick.owner.post(f"/v1/jobs/{own}/cancel")

        assert len(operator.wait_for(2)) == 2
        assert {unwrapped(client, one, made.signing_secret)[2] for one in mine.wait_for(1)} == {own}
        assert [page.id for page in client.webhooks.list()] == [made.id]


def test_endpoints_are_listed_changed_tried_and_deleted_by_the_official_client(quick: Api) -> None:
    with receiving(lambda n: 200 if n else 418) as receiver, speaking(quick, "owner") as client:
        first, second = endpoint(client, receiver), endpoint(client, receiver)
        assert [one.id for one in client.webhooks.list(limit=1)] == [second.id, first.id]
        shown = client.webhooks.retrieve(first.id)
        assert shown.signing_secret_hint == f"whsec_…{first.signing_secret[-4:]}"
        assert first.signing_secret not in shown.model_dump_json()
        assert list(client.webhooks.event_types.list().data) == ALL

        changed = client.webhooks.update(first.id, name="renamed", event_types=["fine_tuning.job.failed"])
        assert (changed.name, changed.url, changed.event_types) == ("renamed", receiver.url, ["fine_tuning.job.failed"])
        trial = client.webhooks.test(first.id, event_type="fine_tuning.job.failed")
        assert (trial.status_code, trial.success) == (418, True)

        fresh = client.webhooks.rotate_secret(first.id, keep_old_secret_active_for_24_hours=True)
        client.webhooks.test(first.id, event_type="fine_tuning.job.failed")
        for secret in (first.signing_secret, fresh.signing_secret):
            assert unwrapped(client, receiver.heard[-1], secret)[1] == "fine_tuning.job.failed"
        client.webhooks.rotate_secret(first.id)
        client.webhooks.test(first.id, event_type="fine_tuning.job.failed")
        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrapped(client, receiver.heard[-1], fresh.signing_secret)

        assert client.webhooks.delete(first.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.webhooks.retrieve(first.id)
        with speaking(quick, "other") as other, pytest.raises(openai.NotFoundError):
            other.webhooks.delete(second.id)


def test_webhooks_are_off_unless_the_operator_says_otherwise(short: Backend) -> None:
    with (
        serving(short.with_settings(webhooks="off")) as api,
        receiving() as receiver,
        speaking(api, "owner") as client,
        pytest.raises(openai.PermissionDeniedError) as refused,
    ):
        endpoint(client, receiver)
    assert refused.value.code == "webhooks_off"


def test_an_address_that_is_no_webhook_s_is_refused_where_it_is_named(short: Backend) -> None:
    urls = ["http://example.com/", "https://user@example.com/", "https:///x", "ftp://example.com/", "https://x/ y", "x"]
    with serving(short.with_settings(webhooks="public")) as api:
        answers = [
            api.owner.post("/v1/webhook_endpoints", json={"name": "x", "url": url, "event_types": ALL}) for url in urls
        ]
    assert [(answer.status_code, answer.json()["error"]["param"]) for answer in answers] == [(422, "url")] * len(urls)


def test_nothing_is_sent_into_the_operator_s_own_network(short: Backend) -> None:
    hosts = ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
    with (
        serving(short.with_settings(webhooks="public")) as api,
        receiving() as receiver,
        speaking(api, "owner") as client,
    ):
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        for host in hosts:
            url = f"https://{host}:{port}/"
            made = client.webhooks.create(name="x", url=url, event_types=["fine_tuning.job.failed"])
            with pytest.raises(openai.UnprocessableEntityError, match="not public"):
                client.webhooks.test(made.id, event_type="fine_tuning.job.failed")
        assert receiver.heard == []
