"""Figures over HTTP: drawn from what a job or comparison has told, by its owner alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from cpd_engine.events import Compared, to_json
from tests.backends import Backend
from tests.integration.http.api import Api, serving
from tests.integration.http.test_results import PROFILE, REPORT
from tests.unit.web import figure_values as values

EXPORTED: dict[str, Any] = {
    "name": "model", "path": "out/model", "formats": ["merged"], "parameters": 1_234_567, "size_bytes": 9,
}  # fmt: skip


def told(table: Compared) -> dict[str, Any]:
    return dict(json.loads(to_json(table)))


def test_a_job_s_figures_are_drawn_as_its_results_come(api: Api) -> None:
    hold = api.claim(api.submit())
    address = f"/v1/jobs/{hold.job_id}/figures"
    early = [api.reader.get(f"{address}/{name}") for name in ("profile", "quality")]
    api.say(hold, ("profile_ready", PROFILE))
    profile = api.reader.get(f"{address}/profile").json()
    between = api.reader.get(f"{address}/changes")
    api.say(hold, ("reported", json.loads(to_json(values.report()))), at=2)
    changes = api.reader.get(f"{address}/changes").json()
    cuts = next(trace for trace in profile["data"] if trace["name"] == "cut k of an epoch")

    assert [(one.status_code, one.json()["error"]["code"]) for one in early] == [(409, "artifact_not_ready")] * 2
    assert (cuts["x"], cuts["y"]) == (PROFILE["subset_sizes"], [1.5, 2.0])
    assert between.status_code == 409
    assert changes["data"][0]["x"] == [25, 25, 25]
    for name in ("histogram", "schedule", "quality"):
        assert api.reader.get(f"{address}/{name}").json()["data"], name


def test_a_figure_that_there_is_not_and_a_job_of_another_are_refused(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, ("profile_ready", PROFILE))
    unknown = api.reader.get(f"/v1/jobs/{hold.job_id}/figures/moustache")
    foreign = api.other.get(f"/v1/jobs/{hold.job_id}/figures/profile")

    assert (unknown.status_code, unknown.json()["error"]["param"]) == (422, "name")
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "not_found")


def compared(api: Api) -> str:
    """A comparison of kld and cpd with its table, whose students have told their size."""
    comparison_id = api.compare()
    for job_id in api.members(comparison_id):
        hold = api.claim(job_id)
        api.say(hold, ("exported", EXPORTED), ("reported", REPORT))
        api.succeed(hold)
    hold = api.claim(api.comparison(comparison_id)["table_job"])
    table = values.table()
    api.say(hold, ("compared", told(replace(table, members=table.members[:2]))))
    api.succeed(hold)
    return comparison_id


def points(figure: Any) -> dict[tuple[str, str], float]:
    return {(one["name"], one["xaxis"]): one["x"][0] for one in figure["data"]}


def test_a_comparison_s_figures_hold_its_table_against_size_and_time(api: Api) -> None:
    waiting = api.compare()
    early = api.reader.get(f"/v1/comparisons/{waiting}/figures/methods")
    api.owner.post(f"/v1/comparisons/{waiting}/cancel")
    comparison_id = compared(api)
    address = f"/v1/comparisons/{comparison_id}/figures"
    methods = api.reader.get(f"{address}/methods").json()
    tradeoff = api.reader.get(f"{address}/tradeoff").json()

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert {trace["name"] for trace in methods["data"]} == {"kld", "cpd *"}
    assert points(tradeoff) == {
        ("kld", "x"): 1_234_567,
        ("cpd", "x"): 1_234_567,
        ("kld", "x2"): 0.5,
        ("cpd", "x2"): 0.5,
    }
    assert api.other.get(f"{address}/tradeoff").status_code == 404


def test_where_an_hour_has_a_price_a_comparison_tells_money_and_so_does_a_plan(backend: Backend) -> None:
    with serving(backend.with_settings(gpu_hour_price=3.0, currency="EUR")) as api:
        tradeoff = api.reader.get(f"/v1/comparisons/{compared(api)}/figures/tradeoff").json()
        spec = {
            "teacher": {"tiny": "gpt2"},
            "student": {"from": "teacher", "drop_layers": 1},
            "dataset": {"synthetic": {"rows": 1200}},
            "resources": {"gpus": 2, "nodes": 2},
        }
        plan = api.reader.post("/v1/jobs/estimate", json=spec).json()

    assert (points(tradeoff)["cpd", "x2"], tradeoff["layout"]["xaxis2"]["title"]["text"]) == (1.5, "cost of a run, EUR")
    assert plan["price"] == {"per_gpu_hour": 3.0, "currency": "EUR", "gpus": 4}
    assert plan["cost"]["money"] == plan["cost"]["duration_s"] / 3600 * 4 * 3.0


def test_without_a_price_a_plan_tells_none(api: Api) -> None:
    spec = {
        "teacher": {"tiny": "gpt2"},
        "student": {"from": "teacher", "drop_layers": 1},
        "dataset": {"synthetic": {"rows": 1200}},
    }
    plan = api.reader.post("/v1/jobs/estimate", json=spec).json()

    assert (plan["price"], plan["cost"]["money"]) == (None, None)
