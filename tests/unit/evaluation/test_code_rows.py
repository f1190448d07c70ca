"""Training rows that carry tests, as problems."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cpd_engine.data.records import Row, read_rows
from cpd_engine.evaluation.code_rows import problem_of
from tests.unit.evaluation.test_code_problems import HUMAN_EVAL, MBPP_FULL

CHECK = "def check(candidate):\n    assert candidate(1) == 1\n"


def _row(fields: dict[str, Any]) -> Row:
    (row,) = read_rows([json.dumps(fields).encode()])
    assert isinstance(row, Row), row
    return row


def test_the_published_forms_are_problems_as_they_are() -> None:
    of_human_eval = problem_of(_row(HUMAN_EVAL))
    assert of_human_eval is not None
    assert of_human_eval.stub == HUMAN_EVAL["prompt"]
    assert of_human_eval.solution == HUMAN_EVAL["prompt"] + HUMAN_EVAL["canonical_solution"]
    assert f"check({HUMAN_EVAL['entry_point']})" in of_human_eval.examination["base"][0]
    of_mbpp = problem_of(_row(MBPP_FULL))
    assert of_mbpp is not None
    assert of_mbpp.examination["base"] == MBPP_FULL["test_list"]
    assert of_mbpp.entry_point in MBPP_FULL["code"]


@pytest.mark.parametrize("tests", [{"test_list": ["assert f(1) == 1"]}, {"test": CHECK, "entry_point": "f"}])
def test_a_response_in_a_fenced_block_is_the_solution(tests: dict[str, Any]) -> None:
    answer = "Here it is:\n```python\ndef f(x):\n    return x\n```\nIt returns x."
    problem = problem_of(_row({"prompt": "Write f.", "completion": answer} | tests))
    assert problem is not None
    assert (problem.solution, problem.entry_point, problem.stub) == ("def f(x):\n    return x\n", "f", "")


def test_tests_that_use_nothing_of_the_response_cannot_be_run() -> None:
    assert problem_of(_row({"prompt": "Write f.", "completion": "No.", "test_list": ["assert f(1) == 1"]})) is None
    assert problem_of(_row({"prompt": "Write f.", "completion": "def f(x): return x"})) is None
