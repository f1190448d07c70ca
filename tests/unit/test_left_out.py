"""What a plan says of the scoring that no forecast counts: how often judge and graders are asked."""

from __future__ import annotations

import json
from typing import Any

from cpd_engine.config import EvaluationSpec
from cpd_engine.remarks import left_out

DATA = "ds_12345678"
SUITES: list[dict[str, Any]] = [
    {"task": "dolly", "data": DATA},
    {"task": "vicuna", "data": DATA},
    {"task": "gsm8k", "data": DATA},
    {"task": "humaneval", "hub": "openai/openai_humaneval"},
]
ROWS = {"dolly": 500, "vicuna": 80, "gsm8k": 1319, "humaneval": None}


def told(rows: dict[str, int | None] = ROWS, **changes: Any) -> dict[str, list[str]]:
    spec = EvaluationSpec.model_validate_json(json.dumps({"suites": SUITES} | changes))
    found: dict[str, list[str]] = {}
    for warned in left_out(spec, rows):
        found.setdefault(warned.code, []).append(warned.message)
    return found


def test_the_judge_is_told_with_its_calls_and_what_happens_without_it() -> None:
    judged: dict[str, Any] = {"judge": {"against": ["teacher", "sft"], "suites": ["vicuna"]}, "baselines": ["sft"]}
    [message] = told(**judged)["judge_not_in_forecast"]
    assert "asked 320 times" in message
    assert "not asked later" in message
    [message] = told(judge={"against": ["teacher"]})["judge_not_in_forecast"]
    assert "asked 1,160 times" in message
    [message] = told(ROWS | {"dolly": None}, judge={"against": ["teacher"]})["judge_not_in_forecast"]
    assert "every row of dolly, vicuna" in message


def test_graders_are_told_with_the_answers_of_every_model() -> None:
    maths, code = told(baselines=["sft"])["grading_not_in_forecast"]
    assert "5,276 final answers" in maths
    assert "programs are run in the sandbox for every row of humaneval" in code


def test_texts_without_a_judge_leave_nothing_out() -> None:
    assert told(suites=SUITES[:2]) == {}
    assert told(suites=[]) == {}
