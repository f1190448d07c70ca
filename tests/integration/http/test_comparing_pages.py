"""Runs laid over each other, and the form that makes a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from api.events.queries import Point
from tests.integration.http.api import SPEC, Api
from tests.integration.http.browsing import browser

BASE = """
teacher: {tiny: gpt2}
student: {tiny: gpt2}
dataset: {synthetic: {rows: 240}}
epochs: 2
"""
FILLED = {"base": BASE, "seeds": "0, 7", "baseline": "sft", "name": "which one", "method-sft": "1", "method-kld": "1"}


def trained(api: Api, name: str) -> str:
    """A job that has taken two steps."""
    hold = api.claim(api.submit(name=name))
    points = [Point(name="student/ce", step=step, value=3.0 - step) for step in (1, 2)]
    api.say(hold, ("progressed", {"phase": "train", "done": 2, "total": 9}), points=points)
    return hold.job_id


def test_jobs_that_are_set_side_by_side_share_a_figure(api: Api) -> None:
    first, second, idle = trained(api, "mine"), trained(api, "mine"), api.submit()
    address = f"/compare/losses?job={first}&job={second}&job={idle}"
    with browser(api, "reader") as visitor:
        shown = visitor.http.get(f"/compare?job={first}&job={second}").text
        figure = visitor.http.get(address).json()
        table = visitor.http.get(f"{address}&as=table").text
        early = visitor.http.get(f"/compare/losses?job={idle}")
    with browser(api, "other") as stranger:
        foreign = stranger.http.get(f"/compare/losses?job={first}")

    assert f"/compare/losses?job={first}&amp;job={second}" in shown
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    assert [trace["name"] for trace in lines] == [f"mine {first[-6:]}", f"mine {second[-6:]}"]
    assert lines[0]["y"] == [2.0, 1.0]
    assert "mine" in table
    assert (early.status_code, foreign.status_code) == (204, 204)


def test_a_comparison_s_runs_are_drawn_under_their_members(api: Api) -> None:
    comparison_id = api.compare()
    before = api.reader.get(f"/v1/comparisons/{comparison_id}/figures/losses")
    with browser(api, "reader") as visitor:
        early = [visitor.http.get(f"/comparisons/{comparison_id}/figures/{name}") for name in ("losses", "methods")]
    for job_id in api.members(comparison_id):
        point = Point(name="student/ce", step=1, value=2.0)
        api.say(api.claim(job_id), ("progressed", {"phase": "train", "done": 1, "total": 9}), points=[point])
    figure = api.reader.get(f"/v1/comparisons/{comparison_id}/figures/losses").json()

    labels = [member["label"] for member in api.comparison(comparison_id)["members"]]
    assert before.json()["error"]["code"] == "artifact_not_ready"
    assert [answer.status_code for answer in early] == [204, 204], "a page may ask early"
    shown = {trace["name"] for trace in figure["data"] if trace.get("showlegend")}
    assert shown == set(labels)


def test_the_form_makes_one_comparison_however_often_its_button_is_pressed(api: Api) -> None:
    with browser(api, "owner") as visitor:
        sent = [visitor.submit("/comparisons/new", FILLED | {"once": "a"}) for _ in range(2)]
    made = api.owner.get("/v1/comparisons").json()["data"]

    assert [answer.status_code for answer in sent] == [303, 303]
    assert [one["id"] for one in made] == [sent[0].headers["location"].removeprefix("/comparisons/")]
    found = api.comparison(made[0]["id"])
    assert (found["name"], found["baseline"], found["seeds"]) == ("which one", "sft", [0, 7])
    members = {member["label"]: member["set"] for member in found["members"]}
    assert members == {"sft": {"preset": "sft"}, "kld": {"preset": "kld"}}


@pytest.mark.parametrize(
    ("changed", "at", "words"),
    [
        ({"method-sft": "", "method-kld": ""}, "members", "tick two"),
        ({"seeds": "0, x"}, "seeds", "seeds"),
        ({"baseline": "cpd"}, "baseline", "none of the members"),
        ({"base": "epochs: [1"}, "base", "More fields"),
        ({"base": "epochs: 2"}, "base", "teacher"),
        ({"base": BASE + "unknown: 1"}, "base", "unknown"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_lost(
    api: Api, changed: dict[str, str], at: str, words: str
) -> None:
    with browser(api, "owner") as visitor:
        answer = visitor.submit("/comparisons/new", FILLED | changed)

    assert answer.status_code == 422
    assert f'id="{at}-problem"' in answer.text
    assert words in answer.text.split(f'id="{at}-problem"')[1].split("</p>")[0]
    assert "which one" in answer.text
    assert api.owner.get("/v1/comparisons").json()["data"] == []


def test_a_job_lends_its_data_and_models_but_not_its_method(api: Api) -> None:
    spec: dict[str, Any] = SPEC | {"preset": "srkl", "epochs": 3}
    job_id = api.owner.post("/v1/jobs", json=spec).json()["id"]
    with browser(api, "owner") as visitor:
        shown = visitor.http.get(f"/comparisons/new?job={job_id}").text
        link = visitor.http.get(f"/jobs/{job_id}").text

    base = shown.split("<textarea")[1].split("</textarea>")[0]
    assert "epochs: 3" in base
    assert "preset" not in base
    assert "metadata" not in base
    assert 'name="method-srkl" value="1" checked' in shown
    assert f"/comparisons/new?job={job_id}" in link
