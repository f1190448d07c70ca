"""What pages say of a job beside its own fields."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from api.jobs.schemas import JobView
from api.jobs.states import JobKind
from api.web import job_views
from api.web.sparklines import HEIGHT, SAMPLES, WIDTH, sampled_steps, sparkline
from cpd_engine.config import RunConfig

SPEC: dict[str, Any] = {
    "teacher": {"tiny": "gpt2"},
    "student": {"tiny": "gpt2", "layers": 1},
    "dataset": {"synthetic": {"rows": 100}},
}


def job(spec: dict[str, Any] = SPEC, **changed: Any) -> JobView:
    values: dict[str, Any] = {
        "id": "job_1",
        "kind": "distillation",
        "name": None,
        "metadata": {},
        "state": "running",
        "requested": "none",
        "phase": "train",
        "progress": {"phase_index": 2, "phases": 5, "step": 5, "total_steps": 20},
        "queue_position": None,
        "attempt": 1,
        "heartbeat_age_s": 1.0,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "started_at": None,
        "finished_at": None,
        "failure": None,
        "spec": spec,
        "resolved": RunConfig.model_validate(spec).resolved().model_dump(mode="json"),
        "scores": None,
        "forecast": None,
        "member_of": None,
    }
    return JobView.model_validate(values | changed)


@pytest.mark.parametrize(
    ("age_s", "state", "found"),
    [
        (1.0, "running", "fresh"),
        (31.0, "running", "late"),
        (61.0, "running", "lost"),
        (61.0, "succeeded", None),
        (None, "running", None),
    ],
)
def test_a_worker_is_late_after_three_beats_and_lost_with_its_lease(
    age_s: float | None, state: str, found: str | None
) -> None:
    assert job_views.pulse(job(heartbeat_age_s=age_s, state=state), heartbeat_s=10.0, lease_s=60.0) == found


def test_phases_before_the_one_at_hand_are_done_and_its_share_is_known() -> None:
    shown = job_views.steps(job())

    assert [(step.name, step.passed) for step in shown] == [
        ("prepare", "done"), ("profile", "done"), ("train", "now"), ("evaluate", "ahead"), ("export", "ahead"),
    ]  # fmt: skip
    assert [step.share for step in shown] == [None, None, 0.25, None, None]


@pytest.mark.parametrize(
    ("changed", "passed"),
    [
        ({"state": "queued", "phase": None, "progress": {}}, ["ahead"] * 5),
        ({"state": "succeeded", "phase": "export"}, ["done"] * 5),
        ({"state": "failed", "phase": "prepare"}, ["stopped", *["ahead"] * 4]),
    ],
)
def test_a_job_that_does_not_run_has_no_phase_at_hand(changed: dict[str, Any], passed: list[str]) -> None:
    assert [step.passed for step in job_views.steps(job(**changed))] == passed


def test_a_table_s_job_has_no_phases_to_show() -> None:
    table = job().model_copy(
        update={"kind": JobKind.TABLE, "phase": None, "spec": {}, "resolved": {"comparison": "cmp_1"}}
    )

    assert job_views.steps(table) == []


@pytest.mark.parametrize(
    ("closed", "told"),
    [({"ce": 0.5, "rouge_l": 0.25}, ("rouge_l", 25.0)), ({"accuracy": -0.5}, ("accuracy", -50.0)), ({}, None)],
)
def test_the_gap_is_told_of_the_metric_that_people_know_best(
    closed: dict[str, float], told: tuple[str, float] | None
) -> None:
    assert job_views.told_gap(closed) == told


def test_only_settings_that_differ_are_set_side_by_side() -> None:
    rows = job_views.differing(
        [job(SPEC | {"preset": "cpd"}), job(SPEC | {"preset": "kld", "optimizer": {"batch_size": 4}})]
    )
    shown = {row.name: row.values for row in rows}

    assert shown["preset"] == ["cpd", "kld"]
    assert shown["optimizer.batch_size"][1] == "4"
    assert "teacher.tiny" not in shown


@pytest.mark.parametrize("hostile", ["it's", '"""', "'''", "a\nJSON\nrm -rf /", "\\", "$(reboot)", "`reboot`"])
def test_the_lines_that_make_a_job_again_carry_its_spec_and_nothing_else(hostile: str) -> None:
    spec = SPEC | {"name": hostile}
    curl = job_views.curl_lines("http://127.0.0.1:8000", spec)
    python = job_views.python_lines("http://127.0.0.1:8000", spec)
    first, *document, end = curl.split("\n")

    # A quoted document of the shell: nothing in it is expanded, and only a line of its own ends it.
    assert first.endswith("/v1/jobs <<'JSON'")
    assert (end, "JSON" in document) == ("JSON", False)
    assert json.loads("\n".join(document)) == spec
    assigned = next(node for node in ast.parse(python).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(assigned.value) == spec


def test_a_sparkline_stays_in_its_box_with_the_largest_on_top() -> None:
    drawn = sparkline([3.0, 1.0, 2.0])
    assert drawn is not None
    places = [tuple(map(float, pair.split(","))) for pair in drawn.points.split()]

    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert places[0][1] < places[2][1] < places[1][1]
    assert (drawn.first, drawn.last) == (3.0, 2.0)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_a_line_has_two_ends(values: list[float]) -> None:
    assert sparkline(values) is None


def test_values_that_do_not_change_are_a_line_too() -> None:
    assert sparkline([1.0, 1.0]) is not None


@pytest.mark.parametrize("last", [1, 2, 47, 48, 49, 100_000])
def test_steps_are_sampled_to_the_last_and_never_too_many(last: int) -> None:
    steps = sampled_steps(last)

    assert steps[-1] == last
    assert steps[0] >= 1
    assert len(steps) == min(last, SAMPLES)
