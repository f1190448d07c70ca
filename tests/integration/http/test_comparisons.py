"""Comparisons over HTTP: submitted whole or not at all, followed, cancelled, and shown with their table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event

from api.core.db import transaction
from api.jobs import transitions
from api.jobs.moves import Failure
from tests.integration.http.api import COMPARISON, SPEC, TABLE, Api

BASE = COMPARISON["base"]


def waiting(api: Api) -> int:
    return len(api.owner.get("/v1/jobs", params={"state": "queued"}).json()["data"])


def test_every_member_is_a_job_for_each_seed_on_the_same_data_and_budget(api: Api) -> None:
    answer = api.owner.post("/v1/comparisons", json=COMPARISON)
    made = answer.json()

    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/comparisons/{made['id']}")
    assert (made["object"], made["state"], made["baseline"], made["seeds"]) == ("comparison", "queued", "kld", [0, 1])
    # The baseline's epochs over all samples, in steps.
    assert made["budget"] == {"unit": "steps", "amount": None, "epochs": 4.0}
    assert [(member["label"], member["set"]) for member in made["members"]] == [
        ("kld", {"preset": "kld"}),
        ("cpd", {"preset": "cpd"}),
    ]
    jobs = {
        (m["label"], run["seed"]): api.owner.get(f"/v1/jobs/{run['job']}").json()
        for m in made["members"]
        for run in m["runs"]
    }
    assert len(jobs) == 4
    for (label, seed), job in jobs.items():
        resolved = job["resolved"]
        assert job["member_of"] == {"comparison": made["id"], "label": label, "seed": seed}
        assert job["name"] == f"two methods: {label}, seed {seed}"
        assert (resolved["student_seed"], resolved["seed"], resolved["epochs"]) == (seed, 0, 4)
        assert resolved["budget"] == made["budget"]
        assert (resolved["divergence"], resolved["curriculum"]) == (
            ("kld", "none") if label == "kld" else ("pmtd", "calibrated")
        )
    assert api.owner.get("/v1/jobs").json()["data"][0]["member_of"] is not None
    alone = api.submit()
    assert api.owner.get(f"/v1/jobs/{alone}").json()["member_of"] is None


def test_members_are_merged_with_the_base_and_a_preset_brings_its_whole_method(api: Api) -> None:
    base = BASE | {"preset": "cpd", "tau_n": 3.0, "alpha": 0.1, "optimizer": {"learning_rate": 0.002, "batch_size": 16}}
    members = [
        {"label": "a", "set": {"preset": "srkl", "optimizer": {"learning_rate": 0.001}}},
        {"label": "b", "set": {"tau_n": 4.0, "student": {"tiny": "gpt2", "layers": 1}}},
    ]
    comparison_id = api.compare(
        base=base, members=members, seeds=[3], baseline="b", budget={"unit": "tokens", "amount": 9000}
    )
    first, second = (api.owner.get(f"/v1/jobs/{job_id}").json()["resolved"] for job_id in api.members(comparison_id))
    assert (first["divergence"], first["tau_n"], first["alpha"], first["epochs"]) == ("srkl", 1.0, 0.3, 4)
    assert (first["optimizer"]["learning_rate"], first["optimizer"]["batch_size"]) == (0.001, 16)
    assert (second["divergence"], second["tau_n"], second["alpha"]) == ("pmtd", 4.0, 0.1)
    assert (second["student"]["tiny"], first["student"]["from"]) == ("gpt2", "teacher")
    assert api.comparison(comparison_id)["budget"] == {"unit": "tokens", "amount": 9000, "epochs": None}
    assert first["budget"] == second["budget"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"members": []}, "members"),
        ({"members": [{"label": "a", "set": {"divergence": "nonsense"}}]}, "members.0.set.divergence"),
        (
            {"members": [{"label": "a"}, {"label": "b", "set": {"optimizer": {"batch_size": 0}}}]},
            "members.1.set.optimizer.batch_size",
        ),
        ({"members": [{"label": "a", "set": {"student": {"hub": "../x"}}}]}, "members.0.set.student.hub"),
        ({"members": [{"label": "a", "set": {"epohcs": 3}}]}, "members.0.set.epohcs"),
        ({"members": [{"label": "a", "set": {"dataset": {"synthetic": {}}}}]}, "members.0.set.dataset"),
        ({"members": [{"label": "a", "set": {"evaluation": {}}}]}, "members.0.set.evaluation"),
        ({"members": [{"label": "a", "set": {"seed": 1}}]}, "members.0.set.seed"),
        ({"members": [{"label": "a", "set": {"student": {"local": "none"}}}]}, "members.0.set.student.local"),
        ({"members": [{"label": "a", "set": {"divergence": "sft", "alpha": 0.0}}]}, "members.0.set.alpha"),
        ({"members": [{"label": "a", "set": 3}]}, "members.0.set"),
        ({"members": [{"label": "<b>"}]}, "members.0.label"),
        ({"members": [{"label": "a"}, {"label": "a"}]}, "members"),
        ({"baseline": "nobody"}, "baseline"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"seeds": list(range(101))}, "seeds"),
        ({"budget": {"unit": "epochs", "amount": 3}}, "budget.unit"),
        ({"budget": {"unit": "steps"}}, "budget"),
        ({"budget": {"unit": "steps", "amount": 2}}, "budget"),
        ({"base": BASE | {"tau_1": 0}}, "base.tau_1"),
        ({"base": BASE | {"dataset": {"train": "ds_00000000"}}}, "base.dataset.train"),
        ({"base": {name: value for name, value in BASE.items() if name != "teacher"}}, "base.teacher"),
        ({"bases": {}}, "bases"),
    ],
)
def test_a_bad_spec_is_refused_with_its_path_and_leaves_no_job(
    api: Api, changes: dict[str, Any], param: str | None
) -> None:
    answer = api.owner.post("/v1/comparisons", json=COMPARISON | changes)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error["param"]) == (422, "validation_error", param), error
    assert waiting(api) == 0
    assert api.owner.get("/v1/comparisons").json()["data"] == []


def test_more_jobs_than_may_wait_are_refused_whole(api: Api) -> None:
    api.submit()
    answer = api.owner.post("/v1/comparisons", json=COMPARISON | {"seeds": [0, 1, 2]})
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (429, "quota_exceeded")
    assert "1 do, and these would be 6 more" in error["message"]
    assert waiting(api) == 1


def test_the_same_key_and_body_give_the_same_comparison(api: Api) -> None:
    key = {"idempotency-key": "once"}
    first, again = (api.owner.post("/v1/comparisons", json=COMPARISON, headers=key) for _ in range(2))
    other = api.owner.post("/v1/comparisons", json=COMPARISON | {"seeds": [5]}, headers=key)

    assert first.json()["id"] == again.json()["id"]
    assert waiting(api) == 4
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    # The key is of its route: a job under it is another thing.
    assert api.owner.post("/v1/jobs", json=SPEC, headers=key).status_code == 202


def test_a_comparison_shows_its_members_as_they_go_and_the_table_when_it_is_made(api: Api) -> None:
    comparison_id = api.compare(seeds=[0])
    first, second = api.members(comparison_id)
    hold = api.claim(first)
    assert api.comparison(comparison_id)["state"] == "running"
    scores = {"student": {"exact_match": 50.0}, "teacher": {"exact_match": 60.0}}
    api.say(hold, ("reported", {"rows": 4, "scores": scores, "steps": {}, "gap_closed": {}, "comparisons": []}))
    api.succeed(hold)
    shown = api.comparison(comparison_id)
    assert shown["members"][0]["scores"] == shown["members"][0]["runs"][0]["scores"] == {"exact_match": 50.0}
    assert shown["members"][1]["scores"] is None
    assert (shown["table_job"], shown["table"]) == (None, None)
    early = api.owner.get(f"/v1/comparisons/{comparison_id}/figure.png")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")

    with transaction(api.backend.make) as session:
        transitions.fail(session, api.claim(second), Failure(code="diverged", message="The loss is not finite."))
    shown = api.comparison(comparison_id)
    assert (shown["state"], shown["table"]) == ("running", None)
    assert shown["members"][1]["runs"][0]["failure"]["code"] == "diverged"
    api.make_table(comparison_id)
    shown = api.comparison(comparison_id)
    assert (shown["state"], shown["table"]) == ("succeeded", TABLE)
    picture = api.owner.get(f"/v1/comparisons/{comparison_id}/figure.png")
    assert (picture.headers["content-type"], picture.content) == ("image/png", b"picture")
    assert api.owner.get(f"/v1/comparisons/{comparison_id}/figure.json").json() == {}
    table = api.owner.get(f"/v1/jobs/{shown['table_job']}").json()
    assert (table["kind"], table["state"], table["name"]) == ("table", "succeeded", "table of two methods")


def test_there_is_no_picture_of_a_table_before_there_is_the_table(api: Api) -> None:
    comparison_id = api.compare(seeds=[0])
    api.end_members(comparison_id)
    hold = api.claim(api.comparison(comparison_id)["table_job"])
    api.seal(hold, "table", {"manifest.json": b"{}", "figure.png": b"picture", "figure.json": b"{}"})

    assert api.comparison(comparison_id)["table"] is None
    for name in ("figure.png", "figure.json", "figures/methods"):
        early = api.owner.get(f"/v1/comparisons/{comparison_id}/{name}")
        assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready"), name


def test_a_comparison_of_failures_says_that_there_is_nothing_to_compare(api: Api) -> None:
    comparison_id = api.compare(seeds=[0])
    for job_id in api.members(comparison_id):
        with transaction(api.backend.make) as session:
            transitions.fail(session, api.claim(job_id), Failure(code="diverged", message="The loss is not finite."))
    shown = api.comparison(comparison_id)
    assert (shown["state"], shown["failure"]["code"], shown["table_job"]) == ("failed", "no_member_finished", None)
    refused = api.owner.post(f"/v1/comparisons/{comparison_id}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "comparison_already_finished")


def test_cancelling_ends_what_waits_asks_what_runs_and_leaves_no_table(api: Api) -> None:
    comparison_id = api.compare()
    done, running, *_ = api.members(comparison_id)
    api.succeed(api.claim(done))
    hold = api.claim(running)
    shown = api.owner.post(f"/v1/comparisons/{comparison_id}/cancel").json()
    states = [run["state"] for member in shown["members"] for run in member["runs"]]
    assert (shown["state"], shown["requested"]) == ("running", "cancel")
    assert states == ["succeeded", "running", "cancelled", "cancelled"]
    assert api.owner.get(f"/v1/jobs/{running}").json()["requested"] == "cancel"
    with transaction(api.backend.make) as session:
        transitions.stop(session, hold)
    shown = api.comparison(comparison_id)
    assert (shown["state"], shown["requested"], shown["table_job"]) == ("cancelled", "none", None)
    assert api.owner.post(f"/v1/comparisons/{comparison_id}/cancel").json() == shown


def test_a_table_that_waits_is_cancelled_as_well_and_one_that_is_made_is_not(api: Api) -> None:
    comparison_id = api.compare(seeds=[0])
    api.end_members(comparison_id)
    assert api.owner.post(f"/v1/comparisons/{comparison_id}/cancel").json()["state"] == "cancelled"
    comparison_id = api.compare(seeds=[0])
    api.end_members(comparison_id)
    api.make_table(comparison_id)
    assert api.owner.post(f"/v1/comparisons/{comparison_id}/cancel").status_code == 409


def test_a_table_that_failed_is_made_again_and_shown(api: Api) -> None:
    comparison_id = api.compare(seeds=[0])
    path = f"/v1/comparisons/{comparison_id}/table"
    early = api.owner.post(path)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "table_not_due")
    api.end_members(comparison_id)
    first = api.comparison(comparison_id)["table_job"]
    with transaction(api.backend.make) as session:
        transitions.fail(session, api.claim(first), Failure(code="insufficient_storage", message="The disk is full."))
    shown = api.comparison(comparison_id)
    assert (shown["state"], shown["failure"]["code"]) == ("failed", "insufficient_storage")
    asked = api.owner.post(path)
    assert (asked.status_code, asked.headers["location"]) == (202, f"/v1/comparisons/{comparison_id}")
    assert (asked.json()["state"], asked.json()["failure"]) == ("running", None)
    assert api.owner.post(path).json()["table_job"] == asked.json()["table_job"] != first
    api.make_table(comparison_id)
    assert api.owner.post(path).json()["table"] == TABLE
    assert api.comparison(comparison_id)["state"] == "succeeded"
    assert api.owner.get(f"/v1/jobs/{first}").json()["state"] == "failed"


def test_graders_are_told_of_once_for_all_jobs(api: Api) -> None:
    evaluation = {"suites": [{"task": "gsm8k", "data": api.upload(), "rows": 50}]}
    answer = api.owner.post("/v1/comparisons", json=COMPARISON | {"base": BASE | {"evaluation": evaluation}})
    told = [found["message"] for found in answer.json()["warnings"] if found["code"] == "grading_not_in_forecast"]
    assert len(told) == 1
    assert told[0].startswith("each of the 4 jobs: 150 final answers")


def test_comparisons_are_listed_by_page_newest_first(api: Api) -> None:
    made = [api.compare(seeds=[0]) for _ in range(2)]
    api.succeed(api.claim(api.members(made[0])[0]))
    first = api.owner.get("/v1/comparisons", params={"limit": 1}).json()
    second = api.owner.get("/v1/comparisons", params={"limit": 1, "cursor": first["next_cursor"]}).json()

    assert [page["data"][0]["id"] for page in (first, second)] == made[::-1]
    assert second["data"][0]["jobs"] == {"succeeded": 1, "queued": 1}
    assert (second["data"][0]["state"], second["data"][0]["members"]) == ("running", ["kld", "cpd"])
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert api.other.get("/v1/comparisons").json()["data"] == []


def test_a_comparison_that_is_finished_has_its_table_whenever_that_comes(api: Api) -> None:
    states = []
    for statement in range(2, 12):
        comparison_id = api.compare(seeds=[0])
        api.end_members(comparison_id)
        with before_statement(api, statement, partial(api.make_table, comparison_id)):
            found = api.owner.get(f"/v1/comparisons/{comparison_id}").json()
        states.append(found["state"])
        assert (found["state"] == "succeeded") <= (found["table"] is not None), statement
    assert len(set(states)) == 2, "the table came before what is looked at, and after"


@contextmanager
def before_statement(api: Api, number: int, do: Callable[[], None]) -> Iterator[None]:
    """Something is done, by others, right before the API's statement of that number."""
    engine, counted = api.resources.engine, count(1)

    def look(*_: object) -> None:
        if next(counted) == number:
            do()

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", look)
