"""The bell rings for queued jobs until somebody comes, and a broker that is away costs no job."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import update

from api.core.db import now, utc_now
from api.core.queue import RUN_TASK, celery_app, depth, ping, ring
from api.jobs import transitions
from api.jobs.bell import Backoff, Bell, take_due
from api.jobs.moves import Failure
from api.jobs.tables import Job
from tests.backends import TENANT, Backend
from tests.integration.store.steps import claimed, do, job, submitted, together

BACKOFF = Backoff(first_s=30.0, last_s=600.0)


def bell(backend: Backend, *, tick_s: float = 3600.0) -> Bell:
    return Bell(backend.make, celery_app(backend.settings), BACKOFF, tick_s=tick_s)


def rung(backend: Backend) -> list[str]:
    """The ids that wait at the broker, taken from it."""
    app = celery_app(backend.settings)
    ids = []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues["cpd"].bind(connection.default_channel)
        queue.declare()
        while message := queue.get(no_ack=True):
            assert message.headers["task"] == RUN_TASK
            (args, kwargs, _) = message.payload
            assert kwargs == {}
            ids += args
    return ids


def ring_is_due(backend: Backend, job_id: str) -> None:
    do(backend, lambda session: session.execute(update(Job).where(Job.id == job_id).values(ring_at=now(-1.0))))


@contextmanager
def ringing(made: Bell) -> Iterator[Bell]:
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_a_queued_job_is_rung_for_once_and_then_put_off(backend: Backend) -> None:
    job_id = submitted(backend)
    made = bell(backend)

    assert [made.once(), made.once()] == [1, 0]

    assert rung(backend) == [job_id]
    row = job(backend, job_id)
    assert (row.state, row.rings, made.rung, made.answered) == ("queued", 1, 1, True)


def test_rings_grow_rarer_from_half_a_minute_to_ten(backend: Backend) -> None:
    job_id = submitted(backend)
    waits = []
    for _ in range(7):
        ring_is_due(backend, job_id)
        assert do(backend, take_due, BACKOFF) == [job_id]
        clock = do(backend, utc_now)
        ring_at = job(backend, job_id).ring_at
        assert ring_at is not None
        waits.append(round((ring_at - clock).total_seconds(), -1))
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    assert BACKOFF.after(10**6) == 600.0


def test_only_queued_jobs_that_may_run_are_rung_for(backend: Backend) -> None:
    running, paused, cancelled, held_back = (submitted(backend) for _ in range(4))
    claimed(backend, running)
    do(backend, transitions.request_pause, paused, tenant_id=TENANT)
    do(backend, transitions.request_cancel, cancelled, tenant_id=TENANT)
    hold = claimed(backend, held_back)
    do(backend, transitions.crash, hold, Failure(code="c", message="m"), budget=3, delay_s=60.0)
    ring_is_due(backend, held_back)

    assert bell(backend).once() == 0
    assert rung(backend) == []


def test_several_bells_ring_once(backend: Backend) -> None:
    jobs = [submitted(backend) for _ in range(8)]
    assert sum(answer for answer in together(*(bell(backend).once for _ in range(4))) if isinstance(answer, int)) == 8
    assert sorted(rung(backend)) == sorted(jobs)


def test_a_broker_that_is_away_costs_a_failure_and_no_job(backend: Backend) -> None:
    jobs = {submitted(backend) for _ in range(3)}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = backend.with_settings(broker_url=f"redis://127.0.0.1:{closed.getsockname()[1]}/0")
        made = bell(nowhere)

        assert [made.once(), made.once()] == [0, 0]

        assert (made.failures, made.rung, made.answered) == (2, 0, False)
    for job_id in jobs:
        row = job(backend, job_id)
        assert (row.state, row.rings) == ("queued", 0)
    # The broker is back.
    assert bell(backend).once() == 3
    assert set(rung(backend)) == jobs


# The timeout is the assertion: without bounds on its sockets this would hang.
@pytest.mark.timeout(60)
def test_a_broker_that_hangs_holds_nobody_for_long(backend: Backend) -> None:
    submitted(backend)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hung = backend.with_settings(broker_url=f"redis://127.0.0.1:{mute.getsockname()[1]}/0", broker_socket_s=0.2)
        made = bell(hung)

        assert made.once() == 0

        assert (made.failures, made.answered) == (1, False)
        with pytest.raises(OperationalError):
            ping(celery_app(hung.settings))


def test_a_woken_bell_rings_at_once_and_stops_when_told(backend: Backend) -> None:
    with ringing(bell(backend)) as made:
        job_id = submitted(backend)
        made.wake()
        until_rung = monotonic() + 30.0
        while job(backend, job_id).rings == 0 and monotonic() < until_rung:
            threading.Event().wait(0.01)
    assert rung(backend) == [job_id]
    assert all(thread.name != "bell" for thread in threading.enumerate())


def test_messages_at_the_broker_are_counted(backend: Backend) -> None:
    app = celery_app(backend.settings)
    with app.connection_for_write() as connection:
        for number in range(3):
            ring(app, f"job_{number}", connection=connection)
        assert depth(connection) == 3
    ping(app)
    assert rung(backend) == ["job_0", "job_1", "job_2"]
