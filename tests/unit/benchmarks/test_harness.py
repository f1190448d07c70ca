"""Two scorers held against each other: what counts as the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness.__main__ import HIGHEST, ROWS_OF_TEST, write_rows
from benchmarks.harness.comparison import Row, compared, table
from cpd_engine.config import SuiteSpec
from cpd_engine.evaluation.questions import read_questions

OURS = {"a": Row("The answer is 4.", True), "b": Row("5", False), "c": Row("", False)}


def test_scorers_that_hear_and_judge_alike_agree_but_for_white_space_around() -> None:
    theirs = OURS | {"a": Row(" The answer is 4.\n", True)}
    found = compared(OURS, theirs)
    assert found.agrees
    assert (found.rows, found.same_text, found.same_grade, found.ours_right, found.theirs_right) == (3, 3, 3, 1, 1)
    assert "same text    3 of 3" in table(found)


def test_a_row_that_differs_in_text_or_grade_is_shown() -> None:
    theirs = OURS | {"b": Row("5.", False), "c": Row("", True)}
    found = compared(OURS, theirs)
    assert not found.agrees
    assert (found.same_text, found.same_grade) == (2, 2)
    assert [row for row, _, _ in found.differing] == ["b", "c"]
    assert "b: cpd" in table(found)


@pytest.mark.parametrize("theirs", [{}, {"a": OURS["a"]}, {**OURS, "d": Row("", False)}])
def test_other_rows_are_no_comparison(theirs: dict[str, Row]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        compared(OURS, theirs)


def test_nothing_that_is_asked_was_trained_on(tmp_path: Path) -> None:
    test = write_rows(tmp_path)
    trained = {json.loads(line)["instruction"] for line in (tmp_path / "train.jsonl").read_text().splitlines()}
    asked = [json.loads(line) for line in test.read_text().splitlines()]
    assert (len(trained), len(asked)) == (10 * HIGHEST - ROWS_OF_TEST, ROWS_OF_TEST)
    assert not trained & {row["asked"] for row in asked}
    rows = read_questions([test], SuiteSpec(task="gsm8k", data="test.jsonl"))
    assert [row.references for row in rows] == [(row["gold"],) for row in asked]
