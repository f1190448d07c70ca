"""Jobs over HTTP."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update

from api.core.db import transaction, utc_now
from api.events.tables import JobMetric
from api.jobs import transitions
from api.jobs.moves import Failure
from api.jobs.tables import JobAttempt
from cpd_engine.events import to_dict
from tests.backends import TENANT, Backend
from tests.integration.http.api import SPEC, Api, resolved, serving
from tests.integration.worker.stand_in import FORECAST
from worker.reaper import Identity, show


def test_a_job_is_accepted_and_can_be_read_at_the_address_it_was_given(api: Api) -> None:
    answer = api.owner.post("/v1/jobs", json=SPEC)
    job = api.owner.get(answer.headers["location"]).json()

    assert answer.status_code == 202
    assert answer.json()["warnings"] == []
    assert job == {key: value for key, value in answer.json().items() if key != "warnings"}
    assert {name: job[name] for name in ("object", "state", "requested", "name", "metadata", "attempt")} == {
        "object": "job",
        "state": "queued",
        "requested": "none",
        "name": "a first try",
        "metadata": {"team": "maths"},
        "attempt": 0,
    }
    assert job["spec"] == SPEC
    assert job["resolved"] == resolved(SPEC)
    assert job["queue_position"] == 1
    assert job["created_at"].endswith("Z")


def test_a_job_is_there_for_everybody_as_soon_as_its_answer_is(api: Api) -> None:
    for _ in range(5):
        job_id = api.submit()
        assert api.reader.get(f"/v1/jobs/{job_id}").status_code == 200
        api.owner.post(f"/v1/jobs/{job_id}/cancel")


def test_the_same_key_and_body_give_the_same_job(api: Api) -> None:
    headers = {"idempotency-key": "k-1"}
    first = api.owner.post("/v1/jobs", json=SPEC, headers=headers)
    again = api.owner.post("/v1/jobs", json=dict(reversed(SPEC.items())), headers=headers)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["location"] == first.headers["location"]
    assert len(api.owner.get("/v1/jobs").json()["data"]) == 1


def test_a_key_used_for_another_body_is_refused_and_another_tenant_has_keys_of_its_own(api: Api) -> None:
    headers = {"idempotency-key": "k-1"}
    first = api.owner.post("/v1/jobs", json=SPEC, headers=headers).json()["id"]
    reused = api.owner.post("/v1/jobs", json=SPEC | {"epochs": 5}, headers=headers)
    elsewhere = api.other.post("/v1/jobs", json=SPEC, headers=headers)

    assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert elsewhere.status_code == 202
    assert elsewhere.json()["id"] != first


def test_twenty_requests_at_once_with_one_key_make_one_job(api: Api) -> None:
    start = threading.Barrier(20)

    def send(_: int) -> httpx.Response:
        with api.client(api.keys["owner"]) as client:
            start.wait()
            return client.post("/v1/jobs", json=SPEC, headers={"idempotency-key": "k-1"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_key_whose_first_request_is_under_way_is_told_so(api: Api) -> None:
    values = {"tenant": TENANT, "body": b"0" * 32}
    statement = "INSERT INTO idempotency_keys (tenant_id, route, key, body_sha256) VALUES (:tenant, 'POST /v1/jobs', 'k-1', :body)"
    with api.backend.make() as first, first.begin() as transaction:
        first.execute(text(statement), values)
        if api.backend.name == "sqlite":
            # The one writer of SQLite would make the second request wait; an unanswered key that has committed stands for the first.
            transaction.commit()
        answer = api.owner.post("/v1/jobs", json=SPEC, headers={"idempotency-key": "k-1"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_in_flight")
    assert answer.headers["x-should-retry"] == "false"


def test_pages_meet_every_job_once_newest_first(api: Api) -> None:
    ids = [api.submit() for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.owner.get("/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break

    assert seen == ids[::-1]


def test_jobs_are_listed_by_state_with_their_place_in_the_queue(api: Api) -> None:
    first, second, third = api.submit(), api.submit(), api.submit()
    api.claim(first)
    queued = api.owner.get("/v1/jobs", params={"state": "queued"}).json()["data"]
    running = api.owner.get(f"/v1/jobs/{first}").json()

    assert [(job["id"], job["queue_position"]) for job in queued] == [(third, 2), (second, 1)]
    assert (running["state"], running["queue_position"], running["attempt"]) == ("running", None, 1)
    assert 0 <= running["heartbeat_age_s"] < 10


def test_what_a_person_asks_of_a_waiting_job_happens_at_once(api: Api) -> None:
    job_id = api.submit()
    states = [
        api.owner.post(f"/v1/jobs/{job_id}/{call}").json()["state"]
        for call in ("pause", "pause", "resume", "resume", "cancel", "cancel")
    ]

    assert states == ["paused", "paused", "queued", "queued", "cancelled", "cancelled"]


def test_what_a_person_asks_of_a_running_job_is_passed_on(api: Api) -> None:
    job_id = api.submit()
    api.claim(job_id)
    pausing = api.owner.post(f"/v1/jobs/{job_id}/pause").json()
    cancelling = api.owner.post(f"/v1/jobs/{job_id}/cancel").json()
    resuming = api.owner.post(f"/v1/jobs/{job_id}/resume")

    assert (pausing["state"], pausing["requested"]) == ("running", "pause")
    assert (cancelling["state"], cancelling["requested"]) == ("running", "cancel")
    assert resuming.status_code == 409


def test_a_finished_job_changes_no_more(api: Api) -> None:
    job_id = api.submit()
    api.succeed(api.claim(job_id))
    for call in ("cancel", "pause", "resume"):
        answer = api.owner.post(f"/v1/jobs/{job_id}/{call}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_already_finished")
    job = api.owner.get(f"/v1/jobs/{job_id}").json()

    assert (job["state"], job["heartbeat_age_s"]) == ("succeeded", None)
    # SQLite counts milliseconds, and all three may fall into one.
    assert job["finished_at"] >= job["started_at"] >= job["created_at"]


def test_a_failed_job_says_why(api: Api) -> None:
    hold = api.claim(api.submit())
    with transaction(api.backend.make) as session:
        transitions.fail(session, hold, Failure(code="diverged", message="The loss is not finite."))
    job = api.owner.get(f"/v1/jobs/{hold.job_id}").json()

    assert (job["state"], job["failure"]) == ("failed", {"code": "diverged", "message": "The loss is not finite."})


def test_a_tenant_waits_with_so_many_jobs_and_no_more(api: Api) -> None:
    ids = [api.submit() for _ in range(5)]
    refused = api.owner.post("/v1/jobs", json=SPEC)
    elsewhere = api.other.post("/v1/jobs", json=SPEC)
    api.owner.post(f"/v1/jobs/{ids[0]}/cancel")

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    assert elsewhere.status_code == 202
    assert api.owner.post("/v1/jobs", json=SPEC).status_code == 202


def test_a_tenant_that_has_spent_its_gpu_hours_is_refused_and_sees_where_it_stands(short: Backend) -> None:
    with serving(short.with_settings(gpu_hours_max=2.0, running_max=1)) as api:
        hold = api.claim(api.submit(resources={"gpus": 2}))
        before = api.owner.get("/v1/usage").json()
        crowded = api.owner.post("/v1/jobs", json=SPEC)
        with transaction(api.backend.make) as session:
            began = utc_now(session) - timedelta(hours=3)
            session.execute(update(JobAttempt).where(JobAttempt.job_id == hold.job_id).values(started_at=began))
        refused = api.owner.post("/v1/jobs", json=SPEC)
        elsewhere = api.other.post("/v1/jobs", json=SPEC)
        after = api.owner.get("/v1/usage").json()
        others = api.other.get("/v1/usage").json()

    assert (before["running_jobs"], before["running_jobs_max"], before["gpu_hours_max"]) == (1, 1, 2.0)
    assert before["gpu_hours"] == pytest.approx(0.0, abs=0.05)
    assert [one["code"] for one in crowded.json()["warnings"]] == ["running_limit_reached"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    assert "6.0 are spent" in refused.json()["error"]["message"]
    assert elsewhere.status_code == 202
    assert after["gpu_hours"] == pytest.approx(6.0, abs=0.05)
    assert (others["gpu_hours"], others["running_jobs"], others["queued_jobs"]) == (0.0, 0, 1)


def test_a_job_names_data_sets_of_its_own_tenant_alone(api: Api) -> None:
    mine = api.upload()
    accepted = api.owner.post("/v1/jobs", json=SPEC | {"dataset": {"train": mine, "test": mine}})
    foreign = api.other.post("/v1/jobs", json=SPEC | {"dataset": {"train": mine}})
    half = api.owner.post("/v1/jobs", json=SPEC | {"dataset": {"train": mine, "validation": "ds_00000000"}})

    assert accepted.status_code == 202
    assert (foreign.status_code, foreign.json()["error"]["param"]) == (422, "dataset.train")
    assert (half.status_code, half.json()["error"]["param"]) == (422, "dataset.validation")


def test_a_suite_names_data_sets_of_its_own_tenant_alone_and_keeps_them(api: Api) -> None:
    mine, examples = api.upload(), api.upload(b'{"question": "1+1?", "answer": "#### 2"}\n')
    suites = [{"task": "custom", "data": mine}, {"task": "gsm8k", "data": examples, "examples": examples, "shots": 1}]
    accepted = api.owner.post("/v1/jobs", json=SPEC | {"evaluation": {"suites": suites}})
    for address in ("/v1/jobs", "/v1/jobs/estimate"):
        foreign = api.other.post(address, json=SPEC | {"evaluation": {"suites": suites[:1]}})
        assert (foreign.status_code, foreign.json()["error"]["param"]) == (422, "evaluation.suites.0.data")

    assert accepted.status_code == 202
    assert accepted.json()["spec"]["evaluation"]["suites"] == suites
    assert api.owner.delete(f"/v1/datasets/{examples}").json()["error"]["code"] == "dataset_in_use"


def test_what_no_forecast_counts_is_told_with_the_estimate_and_the_job(api: Api) -> None:
    evaluation = {"suites": [{"task": "gsm8k", "data": api.upload(), "rows": 50}], "baselines": ["sft"]}
    for address in ("/v1/jobs", "/v1/jobs/estimate"):
        warnings = api.owner.post(address, json=SPEC | {"evaluation": evaluation}).json()["warnings"]
        [message] = [found["message"] for found in warnings if found["code"] == "grading_not_in_forecast"]
        assert "200 final answers" in message


def test_a_judge_is_had_where_the_operator_has_set_one(api: Api) -> None:
    evaluation = {"suites": [{"task": "custom", "data": api.upload()}], "judge": {"against": ["teacher"]}}
    for address in ("/v1/jobs", "/v1/jobs/estimate"):
        refused = api.owner.post(address, json=SPEC | {"evaluation": evaluation})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "evaluation.judge")
        assert refused.json()["error"]["message"] == "evaluation.judge: the operator has set no judge"


def test_a_plan_without_any_gradient_is_refused_before_it_is_queued(api: Api) -> None:
    spec = SPEC | {"alpha": 0.0, "divergence": "sft"}
    for address in ("/v1/jobs", "/v1/jobs/estimate"):
        answer = api.owner.post(address, json=spec)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "alpha")

    assert api.owner.get("/v1/jobs").json()["data"] == []


def test_an_estimate_plans_each_epoch_and_queues_nothing(api: Api) -> None:
    spec = SPEC | {"dataset": {"train": api.upload()}, "curriculum": "linear", "subset_repeat": 1, "preset": "paper"}
    estimate = api.reader.post("/v1/jobs/estimate", json=spec).json()

    assert estimate["samples"] == 180
    assert [epoch["subset_size"] for epoch in estimate["epochs"]] == [45, 90, 135, 180]
    assert [epoch["iterations"] for epoch in estimate["epochs"]] == [6, 12, 17, 23]
    assert estimate["total_iterations"] == 58
    assert estimate["iterations"] == {"least": 58, "most": 58}
    assert [epoch["dead"] for epoch in estimate["epochs"]] == [False, False, False, True]
    assert [warning["code"] for warning in estimate["warnings"]] == ["dead_epoch"]
    assert api.owner.get("/v1/jobs").json()["data"] == []


def test_an_estimate_tells_what_it_costs_and_learns_the_speed_from_a_job_that_succeeded(api: Api) -> None:
    spec = SPEC | {"dataset": {"train": api.upload()}}
    before = api.reader.post("/v1/jobs/estimate", json=spec).json()["cost"]

    job_id = api.owner.post("/v1/jobs", json=spec).json()["id"]
    hold = api.claim(job_id)
    with transaction(api.backend.make) as session:
        session.add(JobMetric(job_id=job_id, name="student/tokens_per_s", step=1, value=2000.0))
        session.flush()
        transitions.succeed(session, hold)
    after = api.reader.post("/v1/jobs/estimate", json=spec).json()["cost"]

    assert before["memory_bytes"] > 16 * before["student_parameters"]
    assert after["error_factor"] < before["error_factor"]
    # The training steps at the speed that the job reached, and the scoring before them.
    assert after["tokens_per_s"] == pytest.approx(2000.0)
    assert after["cache_bytes"] > 0
    assert 1.0 <= after["duration_s"] * 2000.0 / after["tokens"] < 1.5


def test_a_probe_is_a_job_of_its_own_kind_and_ends_with_a_forecast(api: Api) -> None:
    answer = api.owner.post("/v1/jobs/probe", json=SPEC)
    probe = api.owner.get(answer.headers["location"]).json()
    job = api.owner.post("/v1/jobs", json=SPEC).json()
    assert (answer.status_code, probe["kind"], probe["forecast"], job["kind"]) == (202, "probe", None, "distillation")

    api.succeed(api.claim(probe["id"]))
    hold = api.claim(job["id"])
    first, second = (to_dict(forecast) for forecast in (replace(FORECAST, duration_s=70.0), FORECAST))
    api.say(hold, ("forecasted", first), ("forecasted", second))
    listed = {one["id"]: one for one in api.owner.get("/v1/jobs").json()["data"]}
    assert listed[probe["id"]]["state"] == "succeeded"
    # The newest one, made when more was known.
    assert listed[job["id"]]["forecast"] == json.loads(json.dumps(second))


def test_an_estimate_learns_nothing_from_a_probe(api: Api) -> None:
    before = api.reader.post("/v1/jobs/estimate", json=SPEC).json()["cost"]
    probe = api.owner.post("/v1/jobs/probe", json=SPEC).json()["id"]
    hold = api.claim(probe)
    with transaction(api.backend.make) as session:
        session.add(JobMetric(job_id=probe, name="student/tokens_per_s", step=1, value=2000.0))
        session.flush()
        transitions.succeed(session, hold)
    assert api.reader.post("/v1/jobs/estimate", json=SPEC).json()["cost"] == before


def test_a_probe_sent_again_is_the_same_one_and_no_distillation(api: Api) -> None:
    headers = {"idempotency-key": "k-1"}
    first, again = (api.owner.post("/v1/jobs/probe", json=SPEC, headers=headers).json() for _ in range(2))
    other = api.owner.post("/v1/jobs", json=SPEC, headers=headers).json()
    assert first["id"] == again["id"] != other["id"]
    assert (again["kind"], other["kind"]) == ("probe", "distillation")


def test_a_job_s_warnings_come_with_its_answer_and_with_the_replay_of_it(api: Api) -> None:
    spec, headers = SPEC | {"preset": "paper"}, {"idempotency-key": "k-1"}
    answers = [api.owner.post("/v1/jobs", json=spec, headers=headers).json() for _ in range(2)]

    assert [[warning["code"] for warning in answer["warnings"]] for answer in answers] == [["dead_epoch"]] * 2


def test_an_estimate_of_a_hub_data_set_says_what_it_cannot_know(api: Api) -> None:
    spec = SPEC | {"dataset": {"hub": "databricks/databricks-dolly-15k"}}
    unknown = api.owner.post("/v1/jobs/estimate", json=spec).json()
    capped = api.owner.post("/v1/jobs/estimate", json=spec | {"dataset": spec["dataset"] | {"max_rows": 80}}).json()

    assert (unknown["samples"], unknown["total_iterations"], unknown["epochs"]) == (None, None, [])
    assert [warning["code"] for warning in unknown["warnings"]] == ["unknown_size"]
    assert capped["samples"] == 80
    # As many passes as fewer epochs take: what stands in for the unknown size is large enough for each epoch.
    staged = spec | {"preset": "kld_pocl", "budget": {"epochs": 20.0}}
    assert api.owner.post("/v1/jobs/estimate", json=staged).status_code == 200
    assert (unknown["cost"], capped["cost"]) == (None, None)


def test_a_job_larger_than_every_worker_waits_and_is_told_so(api: Api) -> None:
    def codes() -> list[str]:
        answer = api.owner.post("/v1/jobs", json=SPEC | {"resources": {"gpus": 4}})
        assert answer.status_code == 202, answer.text
        return [warning["code"] for warning in answer.json()["warnings"]]

    assert codes() == []  # nobody is up, which says nothing of those that will be
    for number, devices in enumerate((2, 1)):
        worker = Identity(worker_id=f"w{number}", hostname="h", pid=number, version="0", devices=devices)
        with transaction(api.backend.make) as session:
            show(session, worker, None)
    assert codes() == ["no_worker_large_enough"]
    with transaction(api.backend.make) as session:
        show(session, Identity(worker_id="w2", hostname="h", pid=2, version="0", devices=4), None)
    assert codes() == []
