"""Probes, metrics, and what the API does while something it depends on is away."""

from __future__ import annotations

import re

from sqlalchemy import insert

from api.core.db import transaction
from api.jobs.tables import Worker
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.http.api import SPEC, Api, outage, serving


def with_worker(api: Api) -> None:
    with transaction(api.backend.make) as session:
        session.execute(insert(Worker).values(id="w1", hostname="here", pid=1, version="0"))


def test_a_service_with_everything_is_ready(api: Api) -> None:
    with_worker(api)

    assert api.anonymous.get("/healthz").json() == {"status": "ok"}
    assert api.anonymous.get("/readyz").json() == {
        "status": "ok",
        "database": "ok",
        "broker": "ok",
        "store": "ok",
        "workers": 1,
    }
    assert api.anonymous.head("/healthz").status_code == api.anonymous.head("/readyz").status_code == 200


def test_a_service_without_workers_is_ready_and_says_what_is_missing(api: Api) -> None:
    answer = api.anonymous.get("/readyz")

    assert (answer.status_code, answer.json()["status"], answer.json()["workers"]) == (200, "degraded", 0)


def test_without_the_broker_jobs_are_taken_all_the_same(short: Backend) -> None:
    with serving(short.with_settings(broker_url="redis://127.0.0.1:1/0", broker_connect_s=0.5)) as api:
        with_worker(api)
        ready = api.anonymous.get("/readyz")

        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["broker"] == "unavailable"
        assert api.owner.post("/v1/jobs", json=SPEC).status_code == 202


def test_without_the_database_every_call_says_so_and_when_to_come_back(api: Api) -> None:
    job_id = api.submit()
    with outage(api):
        answers = [
            api.owner.get("/v1/jobs"),
            api.owner.get(f"/v1/jobs/{job_id}"),
            api.owner.post("/v1/jobs", json=SPEC),
            api.owner.get(f"/v1/jobs/{job_id}/events", headers={"accept": "text/event-stream"}),
            api.anonymous.get("/readyz"),
        ]
        alive, metrics = api.anonymous.get("/healthz"), api.anonymous.get("/metrics")

    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert alive.status_code == 200
    assert "cpd_database_up 0.0" in metrics.text
    assert api.owner.get("/v1/jobs").is_success


def test_metrics_count_requests_by_route_and_jobs_by_state_and_name_nobody(api: Api) -> None:
    job_id = api.submit()
    api.claim(api.submit())
    api.owner.get(f"/v1/jobs/{job_id}")
    api.anonymous.get("/nothing/here")
    answer = api.anonymous.get("/metrics")
    lines = set(answer.text.splitlines())

    assert answer.headers["content-type"].startswith("text/plain")
    assert 'cpd_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"} 1.0' in lines
    assert 'cpd_http_requests_total{method="POST",route="/v1/jobs",status="202"} 2.0' in lines
    assert 'cpd_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert {'cpd_jobs{state="queued"} 1.0', 'cpd_jobs{state="running"} 1.0', "cpd_queue_depth 1.0"} <= lines
    assert {"cpd_workers_alive 0.0", "cpd_database_up 1.0"} <= lines
    assert re.search(r"^cpd_bell_failures_total ", answer.text, re.MULTILINE)
    assert not any(secret in answer.text for secret in (job_id, *api.keys.values(), "ten_test"))


def test_a_key_that_asks_too_often_is_told_when_to_ask_again(short: Backend) -> None:
    with serving(short.with_settings(rate_per_minute=60)) as api:
        answers = [api.reader.get("/v1/jobs") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]

        assert answers[0].is_success
        assert refused[0].json()["error"]["code"] == "rate_limited"
        assert int(refused[0].headers["retry-after"]) >= 1
        assert api.owner.get("/v1/jobs").is_success


def test_a_created_job_rings_for_a_worker(api: Api) -> None:
    before = api.resources.bell.rung
    api.submit()

    eventually(lambda: api.resources.bell.rung > before, within_s=20, what="the bell")
