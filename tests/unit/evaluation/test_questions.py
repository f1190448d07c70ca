"""Rows of suites: read by their own field names, or refused by line and field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cpd_engine.config import SuiteSpec
from cpd_engine.data.records import Row
from cpd_engine.errors import ConfigInvalid, DatasetInvalid
from cpd_engine.evaluation.programs import require_code_execution
from cpd_engine.evaluation.questions import own_examples, read_examples, read_programs, read_questions
from tests.shared_data import shared_data


def _file(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _spec(task: str, **fields: Any) -> SuiteSpec:
    return SuiteSpec.model_validate({"task": task, "data": "rows.jsonl", **fields})


@pytest.mark.parametrize(
    ("task", "parts", "count"),
    [
        ("dolly", ("dolly", "test.jsonl"), 500),
        ("self_instruct", ("self_instruct", "test.jsonl"), 242),
        ("vicuna", ("vicuna", "test.jsonl"), 80),
        ("sni", ("sni", "sample.jsonl"), 40),
        ("unni", ("unni", "sample.jsonl"), 40),
        ("gsm8k", ("gsm8k", "test.jsonl"), 1319),
        ("math", ("math", "sample.jsonl"), 30),
    ],
)
def test_the_public_data_sets_are_read_whole(task: str, parts: tuple[str, ...], count: int) -> None:
    rows = read_questions([shared_data(*parts)], _spec(task))
    assert len(rows) == len({row.id for row in rows}) == count
    assert all(row.instruction and row.references for row in rows)


@pytest.mark.parametrize(
    ("task", "parts", "count"),
    [
        ("humaneval", ("humaneval", "HumanEval.jsonl.gz"), 164),
        ("humaneval_plus", ("humaneval", "HumanEvalPlus-v0.1.0.jsonl.gz"), 164),
        ("mbpp", ("mbpp", "sample_sanitized.jsonl"), 30),
        ("mbpp_plus", ("mbpp", "sample_plus.jsonl"), 30),
    ],
)
def test_the_rows_of_programs_stay_as_they_are(task: str, parts: tuple[str, ...], count: int) -> None:
    path = shared_data(*parts)
    read = gzip.open if path.suffix == ".gz" else open
    with read(path, "rb") as lines:
        given = [json.loads(line) for line in lines]
    assert read_programs([path], _spec(task)) == given
    assert len(given) == count


def test_all_accepted_answers_of_a_row_count(tmp_path: Path) -> None:
    path = _file(tmp_path, {"instruction": "Greet.", "input": "", "output": ["Hi", "Hello"]})
    assert read_questions([path], _spec("sni")) == [Row("row-1", "Greet.", "", "Hi", ("Hi", "Hello"))]


def test_the_gold_answer_of_maths_is_its_only_reference(tmp_path: Path) -> None:
    school = _file(tmp_path, {"question": "2+2?", "answer": "It is <<2+2=4>>4.\n#### 1,004"}, name="a.jsonl")
    assert read_questions([school], _spec("gsm8k"))[0].references == ("1004",)
    solved = [
        {"problem": "p", "solution": r"so \boxed{\frac{1}{2}}", "answer": r"\frac{1}{2}"},
        {"problem": "q", "solution": r"so \boxed{1}, no, \boxed{\text{Eve}}"},
        {"problem": "r", "answer": "x=5"},
    ]
    rows = read_questions([_file(tmp_path, *solved)], _spec("math"))
    assert [row.references for row in rows] == [(r"\frac{1}{2}",), (r"\text{Eve}",), ("x=5",)]


@pytest.mark.parametrize(
    ("task", "row", "told"),
    [
        ("gsm8k", {"answer": "#### 4"}, r"line 2: unknown_format.*Fields of this task: question, answer"),
        ("gsm8k", {"question": "2+2?"}, r"line 2: missing_field: the field answer is missing"),
        ("gsm8k", {"question": "2+2?", "answer": "4"}, r"line 2: missing_answer: the answer has no '#### '"),
        ("math", {"problem": "2+2?", "solution": "Four, as\neverybody knows."}, r"line 2: missing_answer.*\\boxed"),
        ("math", {"solution": r"\boxed{4}"}, r"line 2: unknown_format.*Fields of this task: problem"),
        ("dolly", {"instruction": "Add."}, r"line 2: missing_field: the field output is missing"),
        ("custom", {"instruction": "Add.", "output": []}, r"line 2: empty_response"),
        ("unni", [1], r"line 2: not_an_object"),
    ],
)
def test_a_row_that_cannot_be_graded_is_named_by_line_and_field(tmp_path: Path, task: str, row: Any, told: str) -> None:
    good = {"question": "1+1?", "answer": "#### 2"} if task == "gsm8k" else {"problem": "1+1?", "answer": "2"}
    good |= {"instruction": "a", "output": "b"} if task not in ("gsm8k", "math") else {}
    with pytest.raises(DatasetInvalid, match=told):
        read_questions([_file(tmp_path, good, row)], _spec(task))


def test_a_suite_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="no row"):
        read_questions([_file(tmp_path)], _spec("dolly"))
    path = tmp_path / "x.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(DatasetInvalid, match="line 1: invalid_json"):
        read_programs([path], _spec("mbpp"))


def test_fewer_rows_are_the_same_ones_each_time_and_in_their_order(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i}.", "output": str(i)} for i in range(50)]
    path = _file(tmp_path, *rows)
    some = read_questions([path], _spec("custom", rows=10))
    assert some == read_questions([path], _spec("custom", rows=10))
    numbers = [int(row.response) for row in some]
    assert numbers == sorted(numbers) != list(range(10))
    assert len(read_questions([path], _spec("custom", rows=99))) == 50


def test_worked_examples_come_from_the_file_that_is_named_or_are_the_project_s_own() -> None:
    named = read_examples([shared_data("math", "fewshot_gsm8k_8.json")], 8)
    assert len(named) == 8
    assert named[0][0].startswith("There are 15 trees")
    assert len(own_examples("gsm8k", 8)) == 8
    assert len(own_examples("math", 4)) == 4


def test_more_examples_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="holds 4"):
        own_examples("math", 5)
    path = _file(tmp_path, {"problem": "p", "solution": "s"})
    assert read_examples([path], 1) == [("p", "s")]
    with pytest.raises(DatasetInvalid, match=r"rows\.jsonl holds 1"):
        read_examples([path], 2)
    with pytest.raises(DatasetInvalid, match="line 1: missing_field"):
        read_examples([_file(tmp_path, {"problem": "p"})], 1)


def test_programs_are_not_run_unless_that_is_allowed() -> None:
    require_code_execution("mbpp", allowed=True)
    with pytest.raises(
        ConfigInvalid, match="humaneval runs programs that a model has written, and code execution is off"
    ):
        require_code_execution("humaneval", allowed=False)
