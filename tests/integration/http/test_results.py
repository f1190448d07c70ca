"""What a run has found out, over HTTP: series, difficulty, evaluation, samples, scores."""

from __future__ import annotations

import json
from typing import Any

from api.events.queries import Point
from api.jobs.lease import Hold
from tests.integration.http.api import Api

PROFILE: dict[str, Any] = {
    "difficulty": "ce_mean",
    "samples": 3,
    "unscored": 0,
    "descending": False,
    "mean": 2.0,
    "k": [1, 2, 3],
    "cumulative": [1.0, 1.5, 2.0],
    "histogram_edges": [1.0, 2.0, 3.0],
    "histogram_counts": [1, 2],
    "targets": [1.5, 2.0],
    "subset_sizes": [2, 3],
    "mixing": [0.0, 0.5],
    "temperatures": [1.0, 2.0],
    "easiest": [{"id": "row-1", "score": 1.0, "prompt": "p", "response": "r"}],
    "hardest": [{"id": "row-3", "score": 3.0, "prompt": "p", "response": "r"}],
}
REPORT: dict[str, Any] = {
    "rows": 2,
    "scores": {"teacher": {"rouge_l": 80.0}, "student": {"rouge_l": 60.0}},
    "steps": {"student": 12},
    "intervals": {"student": {"rouge_l": [55.0, 65.0]}},
    "gap_closed": {"rouge_l": 0.5},
    "comparisons": [
        {
            "subject": "untouched",
            "metric": "rouge_l",
            "difference": 20.0,
            "interval": [10.0, 30.0],
            "p_value": None,
            "non_zero": 0,
            "rows": 2,
        }
    ],
    "suites": [
        {
            "suite": "dolly",
            "task": "dolly",
            "rows": 2,
            "seeds": [10, 20],
            "settings_sha256": "0" * 64,
            "scores": {"student": {"rouge_l": {"mean": 25.5, "item_error": 1.5, "seed_deviation": 0.3}}},
            "gap_closed": {},
            "comparisons": [],
        }
    ],
    "judged": {
        "model": "judge-1",
        "results": [
            {
                "suite": "dolly",
                "subject": "teacher",
                "pairs": 2,
                "valid": 2,
                "wins": 0,
                "ties": 2,
                "losses": 0,
                "disagreements": 1,
                "errors": {},
                "win_rate": 50.0,
                "prompt_tokens": 400,
                "completion_tokens": 40,
                "cost": None,
            }
        ],
        "unavailable": None,
    },
}


def evaluated(subject: str, epoch: int | None, rouge_l: float) -> tuple[str, dict[str, Any]]:
    split = "test" if epoch is None else "validation"
    metrics = {"rouge_l": rouge_l}
    return "evaluated", {
        "subject": subject,
        "split": split,
        "rows": 2,
        "metrics": metrics,
        "epoch": epoch,
        "step": None,
    }


def suite_scored(subject: str, seed: int | None, rouge_l: float) -> tuple[str, dict[str, Any]]:
    asked = {"suite": "dolly", "task": "dolly", "seed": seed, "rows": 2, "settings_sha256": "0" * 64}
    return "suite_scored", {"subject": subject, "metrics": {"rouge_l": rouge_l}} | asked


def running(api: Api) -> Hold:
    return api.claim(api.submit())


def test_a_series_is_thinned_and_keeps_its_spikes_and_its_ends(api: Api) -> None:
    hold = running(api)
    values = [1.0] * 1000
    values[123], values[877] = 99.0, -99.0
    api.say(hold, points=[Point(name="student/loss", step=i + 1, value=v) for i, v in enumerate(values)])
    api.say(hold, points=[Point(name="student/validation/rouge_l", step=1, value=30.0)])
    one = api.reader.get(f"/v1/jobs/{hold.job_id}/metrics", params={"name": "student/loss", "points": 20}).json()
    every = api.reader.get(f"/v1/jobs/{hold.job_id}/metrics").json()
    points = {point["step"]: point["value"] for point in one["data"][0]["points"]}

    assert (one["data"][0]["last_step"], len(points) <= 20) == (1000, True)
    assert (points[1], points[1000], points[124], points[878]) == (1.0, 1.0, 99.0, -99.0)
    assert list(points) == sorted(points)
    assert [series["name"] for series in every["data"]] == ["student/loss", "student/validation/rouge_l"]


def test_a_series_that_is_not_there_is_an_empty_list(api: Api) -> None:
    assert api.reader.get(f"/v1/jobs/{api.submit()}/metrics", params={"name": "student/none"}).json()["data"] == []


def test_the_profile_comes_when_the_samples_are_scored(api: Api) -> None:
    hold = running(api)
    address = f"/v1/jobs/{hold.job_id}/difficulty"
    early = api.reader.get(address)
    api.say(hold, ("profile_ready", PROFILE))

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert api.reader.get(address).json() == PROFILE | {"along": [], "suspicious": None, "kind": "profile_ready"}


def test_an_evaluation_that_was_repeated_counts_once(api: Api) -> None:
    hold = running(api)
    address = f"/v1/jobs/{hold.job_id}/evaluation"
    api.say(hold, evaluated("student", 1, 30.0), evaluated("student", 2, 35.0), evaluated("student", 2, 36.0))
    before = api.reader.get(address).json()
    api.say(hold, evaluated("student", None, 60.0), ("reported", REPORT), at=4)
    after = api.reader.get(address).json()
    scores = [(entry["epoch"], entry["metrics"]["rouge_l"]) for entry in after["scores"]]

    assert before["report"] is None
    assert scores == [(1, 30.0), (2, 36.0), (None, 60.0)]
    assert after["report"] == REPORT | {"kind": "reported"}


def test_a_job_shows_its_scores_where_it_is_listed_and_where_it_is_read(api: Api) -> None:
    hold = running(api)
    assert api.reader.get(f"/v1/jobs/{hold.job_id}").json()["scores"] is None
    api.say(hold, ("reported", REPORT))

    assert api.reader.get(f"/v1/jobs/{hold.job_id}").json()["scores"] == REPORT["scores"]
    assert api.reader.get("/v1/jobs").json()["data"][0]["scores"] == REPORT["scores"]


def sample(number: int) -> dict[str, Any]:
    text = "“ü”\u2028" * number
    scores = {"exact_match": 0.0, "rouge_l": 1.5, "ce": 2.0, "supervised": 3}
    answer = {"text": text, **scores, "finish_reason": "eos", "tokens": number, "generations": None}
    asked = {"suite": None, "prompt": "p\nq", "instruction": "p", "input": "q", "reference": "r"}
    return {"row": f"row-{number}"} | asked | {"answers": {"student": answer}}


def test_samples_are_read_page_by_page_from_the_report(api: Api) -> None:
    hold = running(api)
    address = f"/v1/jobs/{hold.job_id}/samples"
    early = api.reader.get(address)
    samples = [sample(number) for number in range(1, 8)]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in samples).encode()
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": lines}, role="phase")
    seen: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.reader.get(address, params={"limit": "3"} | cursor).json()
        seen += page["data"]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert seen == samples
    assert page["next_cursor"] is None


def test_a_made_up_place_in_the_samples_is_refused(api: Api) -> None:
    hold = running(api)
    lines = json.dumps(sample(1)).encode() + b"\n"
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": lines}, role="phase")
    for cursor in ("1", "5", "-1", "999999", "9" * 100, "x", "²"):
        answer = api.reader.get(f"/v1/jobs/{hold.job_id}/samples", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "cursor"), cursor


def test_a_suite_s_scores_come_seed_by_seed_and_one_that_was_repeated_counts_once(api: Api) -> None:
    hold = running(api)
    api.say(
        hold, suite_scored("teacher", 10, 30.0), suite_scored("student", 10, 20.0), suite_scored("student", 20, 21.0)
    )
    api.say(hold, suite_scored("student", 20, 22.0), suite_scored("student", None, 23.0), at=4)
    found = api.reader.get(f"/v1/jobs/{hold.job_id}/evaluation").json()

    scores = [(entry["subject"], entry["seed"], entry["metrics"]["rouge_l"]) for entry in found["suites"]]
    assert scores == [("teacher", 10, 30.0), ("student", 10, 20.0), ("student", 20, 22.0), ("student", None, 23.0)]
    assert found["scores"] == []


def test_the_answers_to_a_suite_are_read_under_its_name(api: Api) -> None:
    hold = running(api)
    said = {"seed": 10, "text": "Hi", "tokens": 1, "finish_reason": "stop", "parsed": None, "rouge_l": 0.5}
    answer = said | {"generations": [said, said | {"seed": 20, "text": "Ho"}]}
    line: dict[str, Any] = {
        "row": "row-1",
        "suite": "dolly",
        "prompt": "p",
        "instruction": "p",
        "input": "",
        "reference": "r",
    }
    line |= {"references": ["r"], "answers": {"student": answer}}
    files = {
        "manifest.json": b"{}",
        "samples.jsonl": json.dumps(sample(1)).encode() + b"\n",
        "suites/dolly.jsonl": json.dumps(line).encode() + b"\n",
    }
    api.seal(hold, "report", files, role="phase")
    address = f"/v1/jobs/{hold.job_id}/samples"
    own = api.reader.get(address).json()["data"]
    (of_suite,) = api.reader.get(address, params={"suite": "dolly"}).json()["data"]
    missing = api.reader.get(address, params={"suite": "gsm8k"})
    foreign = api.other.get(address, params={"suite": "dolly"})
    climbing = api.reader.get(address, params={"suite": "../samples"})

    assert own == [sample(1)]
    assert (of_suite["suite"], of_suite["answers"]["student"]["text"]) == ("dolly", "Hi")
    assert [(one["seed"], one["text"]) for one in of_suite["answers"]["student"]["generations"]] == [
        (10, "Hi"),
        (20, "Ho"),
    ]
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "suite")
    assert foreign.status_code == 404
    assert (climbing.status_code, climbing.json()["error"]["param"]) == (422, "suite")
