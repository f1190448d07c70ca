"""On which rows the student got worse, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.jobs.lease import Hold
from tests.integration.http.api import Api


def row(name: str, **scores: tuple[float, float, float]) -> dict[str, Any]:
    """A line of the report: by model (exact_match, rouge_l, ce)."""
    answers = {
        subject: {"text": f"{subject} says", "exact_match": exact, "rouge_l": rouge, "ce": ce, "supervised": 3}
        for subject, (exact, rouge, ce) in scores.items()
    }
    return {"row": name, "prompt": "p", "instruction": "p", "input": "", "reference": "r", "answers": answers}


ROWS = [
    row("kept", teacher=(1, 1.0, 1.0), untouched=(1, 1.0, 1.0), student=(1, 1.0, 0.5)),
    row("lost", teacher=(1, 1.0, 0.5), untouched=(1, 1.0, 2.0), student=(0, 0.4, 3.0)),
    row("gained", teacher=(1, 1.0, 0.1), untouched=(0, 0.0, 4.0), student=(1, 1.0, 0.2)),
    row("lost more", teacher=(0, 0.2, 9.0), untouched=(1, 1.0, 1.0), student=(0, 0.0, 8.0)),
    row("a little worse", teacher=(0, 0.5, 1.0), untouched=(0, 0.5, 1.0), student=(0, 0.25, 1.0)),
]


def suite_row(name: str, untouched: list[float], student: list[float]) -> dict[str, Any]:
    def said(values: list[float]) -> dict[str, Any]:
        each = [
            {"seed": seed, "text": "x", "tokens": 1, "finish_reason": "stop", "parsed": None, "rouge_l": value}
            for seed, value in enumerate(values)
        ]
        return each[0] | {"generations": each}

    answers = {"untouched": said(untouched), "student": said(student)}
    return {"row": name, "suite": "dolly", "prompt": "p", "reference": None, "answers": answers}


def reported(api: Api) -> Hold:
    hold = api.claim(api.submit())
    suite = [suite_row("up", [0.25, 0.5], [0.5, 0.5]), suite_row("down", [0.75, 0.75], [1.0, 0.25])]
    files = {
        "manifest.json": b"{}",
        "samples.jsonl": "".join(json.dumps(line) + "\n" for line in ROWS).encode(),
        "suites/dolly.jsonl": "".join(json.dumps(line) + "\n" for line in suite).encode(),
    }
    api.seal(hold, "report", files, role="phase")
    return hold


def test_rows_that_were_right_before_come_with_what_was_said(api: Api) -> None:
    hold = reported(api)
    found = api.reader.get(f"/v1/jobs/{hold.job_id}/flips").json()

    assert (found["against"], found["metric"]) == ("untouched", "exact_match")
    assert found["counts"] == {
        "rows": 5,
        "worse": 2,
        "better": 1,
        "equal": 2,
        "right_to_wrong": 2,
        "wrong_to_right": 1,
    }
    assert [(one["row"], one["before"], one["after"], one["loss"]) for one in found["data"]] == [
        ("lost", 1.0, 0.0, 1.0),
        ("lost more", 1.0, 0.0, 1.0),
    ]
    assert found["data"][0]["answers"]["student"]["text"] == "student says"
    assert (found["has_more"], found["next_cursor"]) == (False, None)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ({"metric": "rouge_l"}, ["lost more", "lost", "a little worse"]),
        ({"metric": "ce"}, ["lost more", "lost"]),
        ({"against": "teacher", "metric": "ce"}, ["lost", "gained"]),
        ({"against": "teacher"}, ["lost"]),
    ],
)
def test_the_largest_loss_comes_first_whichever_way_a_metric_counts(
    query: dict[str, str], rows: list[str], api: Api
) -> None:
    hold = reported(api)
    found = api.reader.get(f"/v1/jobs/{hold.job_id}/flips", params=query).json()

    assert [one["row"] for one in found["data"]] == rows
    assert found["counts"]["worse"] == len(rows)
    assert (found["counts"]["right_to_wrong"] is None) == (query.get("metric", "exact_match") != "exact_match")


def test_flips_are_read_page_by_page(api: Api) -> None:
    hold = reported(api)
    address = f"/v1/jobs/{hold.job_id}/flips"
    first = api.reader.get(address, params={"metric": "rouge_l", "limit": 2}).json()
    rest = api.reader.get(address, params={"metric": "rouge_l", "limit": 2, "cursor": first["next_cursor"]}).json()

    assert [one["row"] for one in first["data"] + rest["data"]] == ["lost more", "lost", "a little worse"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for cursor in ("0", "3", "-1", "x", "²", "9" * 50):
        refused = api.reader.get(address, params={"metric": "rouge_l", "cursor": cursor})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "cursor"), cursor


def test_a_suite_s_rows_are_held_against_each_other_seeds_averaged(api: Api) -> None:
    hold = reported(api)
    found = api.reader.get(f"/v1/jobs/{hold.job_id}/flips", params={"suite": "dolly"}).json()

    assert found["metric"] == "rouge_l"
    assert [(one["row"], one["before"], one["after"]) for one in found["data"]] == [("down", 0.75, 0.625)]
    assert (found["counts"]["better"], found["counts"]["right_to_wrong"]) == (1, None)


def test_what_a_job_has_not_is_named(api: Api) -> None:
    hold = reported(api)
    address = f"/v1/jobs/{hold.job_id}/flips"
    early = api.reader.get(f"/v1/jobs/{api.submit()}/flips")
    twin = api.reader.get(address, params={"against": "sft"})
    unknown = api.reader.get(address, params={"metric": "accuracy"})
    suite = api.reader.get(address, params={"suite": "gsm8k"})

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert (twin.status_code, twin.json()["error"]["param"]) == (404, "against")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (422, "metric")
    assert (suite.status_code, suite.json()["error"]["param"]) == (404, "suite")
    assert api.other.get(address).status_code == 404
