"""Where a final answer stands, and whether it equals the gold one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cpd_engine.evaluation.examples import COMPETITION, GRADE_SCHOOL
from cpd_engine.evaluation.maths import boxed, final_answer, gold_of_gsm8k
from cpd_engine.evaluation.verifier import Verifier
from tests.shared_data import shared_data


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as made:
        yield made


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is $\boxed{5}$.", "5"),
        (r"\boxed{\frac{1}{2}} then \boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\boxed{\{1, \frac{2}{3}\}}", r"\{1, \frac{2}{3}\}"),
        (r"\boxed{x^{2^{3}}}", "x^{2^{3}}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{9}", "9"),
        (r"\boxed{$8$}", "8"),
        # Cut off inside the second box: the first one stands.
        (r"\boxed{3} and \boxed{4 \frac{1", "3"),
        # An echo of the prompt is no answer.
        (r"I put it within \boxed{}. The answer is 6.", "6"),
        (r"Within \boxed{ }: 12", "12"),
        ("The answer is 18 dollars.", "18"),
        ("The answer is $1,200.50.", "1,200.50"),
        ("The final answer is: **7**", "7"),
        ("The answer is 3.5. Check: 4 - 0.5.", "3.5"),
        ("the answer is 1. No, the answer is 2.\nDone 99", "2"),
        ("The answer is 25%.", r"25\%"),
        ("The answer is $63\\pi$.", r"63\pi"),
        ("The answer is 3 pi", "3 pi"),
        ("The answer is 5 or 6", "5 or 6"),
        ("The answer is 10 to 12 metres", "10 to 12 metres"),
        ("The answer is: 18!", "18"),
        ("The answer is (C).", "(C)"),
        ("They have 3 dogs and 1,024 cats", "1,024"),
        ("from 8 down to -7", "-7"),
        ("half, that is 1/2", "1/2"),
        ("0.5 kg or .5 kg", ".5"),
        ("It was 3 before. The answer is", "3"),
        ("The answer is \\(12\\).", "12"),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", ["", "  \n", "I do not know.", r"\boxed{}", "}}}{{{", "\\boxed{", "v1.2.3"])
def test_a_text_without_an_answer_has_none(text: str) -> None:
    assert final_answer(text) is None


def test_boxes_come_in_the_order_of_their_ends() -> None:
    assert list(boxed(r"\boxed{a \boxed{b} c} \boxed{d}")) == ["b", r"a \boxed{b} c", "d"]
    assert list(boxed("} \\boxed{e}")) == ["e"]


def test_the_gold_of_gsm8k_is_what_follows_the_mark() -> None:
    assert gold_of_gsm8k("<<1+1=2>> it is 2.\n#### 1,234") == "1234"
    assert gold_of_gsm8k("#### 1\n#### -2 ") == "-2"
    assert gold_of_gsm8k("no mark: 5") is None
    assert gold_of_gsm8k("#### ") is None


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "18.0"), ("18", r"\$18"), ("18", r"18\text{ dollars}"), ("2125", "2,125"), ("25", r"25\%"), (r"\frac12", "0.5"),
        (r"\frac{3}{56}", "3/56"), (r"3\sqrt{13}", r"\sqrt{117}"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        ("p - q", "-q+p"), ("6 - 5i", "-5i + 6"), ("[1,2)", "[1, 2)"), ("1,-2", "-2, 1"), ("x=5", "5"), ("90^\\circ", "90"),
        (r"\text{Evelyn}", "Evelyn"), (r"\text{(C)}", "C"),
    ],
)  # fmt: skip
def test_equal_answers_are_equal_however_they_are_written(verifier: Verifier, gold: str, answer: str) -> None:
    assert verifier.equal(gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "19"), ("18", "-18"), ("[1,2)", "[1,2]"), ("(1,2)", "(2,1)"), (r"\frac{1}{2}", r"\frac{2}{1}"), ("540", "5,40"),
        (r"\text{Tuesday}", "Monday"), ("5", ""), ("5", "{{{"), ("5", r"\frac{5}"), ("5", "\x00"), ("3", "3 4"), ("6+9i", "6-9i"),
    ],
)  # fmt: skip
def test_other_answers_are_wrong(verifier: Verifier, gold: str, answer: str) -> None:
    assert not verifier.equal(gold, answer)


def test_an_answer_that_outlasts_the_process_is_wrong_and_the_next_is_judged() -> None:
    with Verifier(patience_s=2.0) as made:
        assert made.equal("5", "5")
        assert not made.equal("5", "9^{9^{9^{9}}}")
        assert made.equal("5", "5")


def _rows(*parts: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shared_data(*parts).read_text("utf-8").splitlines()]


def test_every_gold_of_gsm8k_is_right_and_its_neighbour_wrong(verifier: Verifier) -> None:
    rows = _rows("gsm8k", "test.jsonl")
    golds = [gold_of_gsm8k(row["answer"]) or "" for row in rows]
    said = [
        final_answer(f"So that is it.\nThe answer is \\boxed{{{row['answer'].rpartition('#### ')[2]}}}.")
        for row in rows
    ]
    assert len(rows) == 1319
    assert all(verifier.equal(gold, answer or "") for gold, answer in zip(golds, said, strict=True))
    assert not any(verifier.equal(gold, str(int(gold) + 1)) for gold in golds[::10])


def test_every_gold_of_the_maths_sample_is_right_and_another_row_s_wrong(verifier: Verifier) -> None:
    rows = _rows("math", "sample.jsonl")
    answers = [final_answer(row["solution"]) or "" for row in rows]
    golds = [row["answer"] for row in rows]
    assert all(verifier.equal(gold, answer) for gold, answer in zip(golds, answers, strict=True))
    # One row's gold is 5 and the next one's x=5, which are the same.
    other = [
        (gold, answer) for gold, answer in zip(golds, answers[1:], strict=False) if gold != answer.removeprefix("x=")
    ]
    assert len(other) > 25
    assert not any(verifier.equal(gold, answer) for gold, answer in other)


@pytest.mark.parametrize("example", [*GRADE_SCHOOL, *COMPETITION])
def test_the_examples_of_the_project_end_in_a_boxed_answer(example: tuple[str, str]) -> None:
    (answer,) = boxed(example[1])
    assert final_answer(example[1]) == answer
    assert example[1].rstrip(".$").endswith(f"\\boxed{{{answer}}}")
