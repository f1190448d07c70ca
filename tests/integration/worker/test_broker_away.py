"""A Redis of the test's own that is stopped, and so emptied, or that hangs, under a worker and the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.jobs.states import JobState
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.http.api import Api, serving
from tests.integration.worker.fleet import SPEC, Fleet, assert_as_unbroken
from tests.servers import Guarded, RedisServer, redis_server

pytestmark = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


@pytest.fixture
def broker(backend: Backend) -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def api(backend: Backend, broker: RedisServer) -> Iterator[Api]:
    bells = {"bell_s": 0.1, "ring_first_s": 0.2, "ring_last_s": 0.5, "broker_socket_s": 0.5, "broker_connect_s": 0.5}
    with serving(backend.with_settings(broker_url=broker.url, **bells)) as made:
        yield made


def away(server: Guarded, how: str) -> None:
    server.stop() if how == "stopped" else server.freeze()


def back(server: Guarded, how: str) -> None:
    server.start() if how == "stopped" else server.thaw()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_a_broker_jobs_are_taken_run_on_and_start_when_it_is_back(
    api: Api, fleet: Fleet, broker: RedisServer, how: str
) -> None:
    server = broker.guarded
    assert server is not None
    gate = fleet.folder / "gate"
    # This worker hears nothing but the bell.
    fleet.start(broker_url=broker.url, idle_claim_s="3600", broker_socket_s="1", broker_connect_s="1")
    eventually(lambda: "ready" in fleet.logs(), within_s=60, what="the worker's start")
    running = submitted(api, steps="20", gate_step="10", gate=str(gate))
    fleet.wait_step(running, 9)
    away(server, how)
    try:
        gate.touch()
        fleet.wait_state(running, JobState.SUCCEEDED)
        waiting = submitted(api, steps="20")
        failed = api.resources.bell.failures
        eventually(lambda: api.resources.bell.failures > failed, within_s=60, what="a ring in vain")
        ready = api.anonymous.get("/readyz")
        assert (ready.status_code, ready.json()["broker"]) == (200, "unavailable")
        assert fleet.job(waiting).state == JobState.QUEUED
    finally:
        back(server, how)
    fleet.wait_state(waiting, JobState.SUCCEEDED, within_s=120)
    for job_id in (running, waiting):
        assert fleet.job(job_id).attempt == 1
        assert_as_unbroken(fleet, job_id, 20)


def submitted(api: Api, **metadata: str) -> str:
    answer = api.owner.post("/v1/jobs", json={**SPEC, "metadata": metadata})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])
