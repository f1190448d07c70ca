"""A job's events over HTTP: polled, and as a stream."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import delete

from api.core.db import transaction
from api.events.schemas import EventPage
from api.events.stream import RECENT
from api.jobs.tables import Job
from api.keys.service import revoke_key
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.http.api import Api, outage, serving
from tests.integration.http.streams import events, following

STARTED = ("phase_started", {"phase": "prepare", "index": 0, "total": 5})


def progressed(done: int) -> tuple[str, dict[str, object]]:
    """A light event."""
    return "progressed", {"phase": "prepare", "label": "rows", "done": done, "total": 9}


def collected(api: Api, job_id: str, **headers: str) -> list[int]:
    """The numbers of every event of a stream that ends."""
    with api.client(api.keys["reader"]) as client, following(client, job_id, **headers) as messages:
        return [message.id for message in events(messages) if message.id is not None]


def test_events_are_numbered_from_one_and_read_page_by_page(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, STARTED, progressed(3))
    address = f"/v1/jobs/{hold.job_id}/events"
    first = api.reader.get(address, params={"limit": 3}).json()
    rest = api.reader.get(address, params={"after": first["next_cursor"]}).json()

    assert [(e["seq"], e["kind"], e["attempt"]) for e in first["data"] + rest["data"]] == [
        (1, "state_changed", 0),
        (2, "state_changed", 1),
        (3, "phase_started", 1),
        (4, "progressed", 1),
    ]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert rest["data"][0]["data"]["done"] == 3


def test_what_is_sent_is_what_the_description_says(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, STARTED, progressed(3), ("finished", {"duration_s": 1.5}))
    api.succeed(hold)
    page = EventPage.model_validate(api.reader.get(f"/v1/jobs/{hold.job_id}/events").json())

    kinds = [entry.kind for entry in page.data]
    assert kinds == ["state_changed", "state_changed", "phase_started", "progressed", "finished", "state_changed"]


def test_a_stream_gives_the_past_then_the_present_and_ends_with_the_job(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, STARTED)
    with following(api.reader, hold.job_id) as messages:
        stream = events(messages)
        past = [next(stream) for _ in range(3)]
        api.say(hold, progressed(1), at=2)
        live = next(stream)
        api.succeed(hold)
        rest = list(stream)

    assert [message.id for message in [*past, live, *rest]] == [1, 2, 3, 4, 5]
    assert (live.event, live.data and live.data["data"]["done"]) == ("progressed", 1)
    assert rest[0].data is not None
    assert rest[0].data["data"]["to"] == "succeeded"


@pytest.mark.parametrize("resume", [{"last_event_id": "3"}, {"after": "3"}, {"last_event_id": "3", "after": "1"}])
def test_a_stream_goes_on_after_the_last_event_that_its_client_has(api: Api, resume: dict[str, str]) -> None:
    hold = api.claim(api.submit())
    api.say(hold, STARTED, progressed(1), progressed(2))
    api.succeed(hold)

    assert collected(api, hold.job_id, **resume) == [4, 5, 6]


def test_a_stream_of_a_finished_job_whose_client_has_everything_ends_at_once(api: Api) -> None:
    hold = api.claim(api.submit())
    api.succeed(hold)

    assert collected(api, hold.job_id, last_event_id="3") == []
    assert collected(api, hold.job_id, last_event_id="999") == []


def test_no_stream_has_a_gap_or_a_double_while_events_pour_in(api: Api) -> None:
    hold = api.claim(api.submit())
    total = RECENT + 700
    with ThreadPoolExecutor(4) as pool:
        streams: list[Future[list[int]]] = [
            pool.submit(collected, api, hold.job_id, after=str(after)) for after in (0, 0, 1)
        ]
        for at in range(1, total, 100):
            api.say(hold, *(progressed(i) for i in range(100)), at=at)
        late = pool.submit(collected, api, hold.job_id)
        api.succeed(hold)
        seen = [stream.result(60) for stream in [*streams, late]]

    every = list(range(1, total + 4))
    assert seen == [every, every, every[1:], every]


def test_a_silent_stream_says_that_it_lives(api: Api) -> None:
    with following(api.reader, api.submit()) as messages:
        comments = [message for message, _ in zip(messages, range(4), strict=False) if message.event is None]

    assert len(comments) == 3


def test_many_clients_of_one_job_share_its_feed(api: Api) -> None:
    hold = api.claim(api.submit())
    feeds = api.resources.feeds.feeds
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(collected, api, hold.job_id) for _ in range(8)]
        eventually(
            lambda: hold.job_id in feeds and feeds[hold.job_id].followers == 8, within_s=20, what="eight followers"
        )
        api.succeed(hold)
        assert {tuple(stream.result(20)) for stream in streams} == {(1, 2, 3)}

    eventually(lambda: not feeds, within_s=20, what="the end of the feed")


def test_a_feed_ends_with_its_last_follower(api: Api) -> None:
    job_id = api.submit()
    with api.client(api.keys["reader"]) as client, following(client, job_id) as messages:
        next(events(messages))
        assert job_id in api.resources.feeds.feeds
    eventually(lambda: job_id not in api.resources.feeds.feeds, within_s=20, what="the end of the feed")


def test_a_stream_holds_no_connection_of_the_pool(short: Backend) -> None:
    with serving(short.with_settings(pool_size=1, stream_poll_s=60.0)) as api, ThreadPoolExecutor(5) as pool:
        job_id = api.submit()
        streams = [pool.submit(collected, api, job_id) for _ in range(5)]
        feeds = api.resources.feeds.feeds
        eventually(lambda: job_id in feeds and feeds[job_id].followers == 5, within_s=20, what="five followers")
        assert api.owner.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
        api.server.should_exit = True
        for stream in streams:
            stream.result(20)


def test_a_stream_ends_when_its_key_is_revoked(api: Api) -> None:
    job_id, key = api.submit(), api.new_key("read")
    with api.client(key) as client, following(client, job_id) as messages:
        next(events(messages))
        with transaction(api.backend.make) as session:
            assert revoke_key(session, key.split("_")[1])
        assert list(events(messages)) == []


def test_a_stream_ends_when_its_job_is_deleted(api: Api) -> None:
    job_id = api.submit()
    with following(api.reader, job_id) as messages:
        next(events(messages))
        with transaction(api.backend.make) as session:
            session.execute(delete(Job).where(Job.id == job_id))
        assert list(events(messages)) == []


def test_a_server_that_stops_ends_its_streams_at_once_and_the_next_one_goes_on(short: Backend) -> None:
    calm = short.with_settings(stream_ping_s=3600.0)
    with serving(calm) as api:
        hold = api.claim(api.submit())
        with following(api.reader, hold.job_id) as messages:
            stream = events(messages)
            seen = [next(stream).id, next(stream).id]
            started = time.monotonic()
            api.server.should_exit = True
            seen += [message.id for message in stream]
            assert time.monotonic() - started < 5
    with serving(calm) as api:
        api.say(hold, STARTED)
        api.succeed(hold)
        rest = collected(api, hold.job_id, last_event_id=str(seen[-1]))

    assert [*seen, *rest] == [1, 2, 3, 4]


def test_an_outage_of_the_database_breaks_no_stream(api: Api) -> None:
    hold = api.claim(api.submit())
    with following(api.reader, hold.job_id) as messages:
        stream = events(messages)
        seen = [next(stream).id, next(stream).id]
        with outage(api) as refusals:
            api.say(hold, STARTED)
            eventually(lambda: refusals() >= 3, within_s=20, what="three polls in vain")
        api.succeed(hold)
        seen += [message.id for message in stream]

    assert seen == [1, 2, 3, 4]
