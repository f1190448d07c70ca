"""Lines through timed work, and how answers leave a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.timing import Amount, Line, Seconds, Timed, answering, fit

STEP = Line(
    piece=Seconds(wall_s=0.5, cpu_s=1.0), unit=Seconds(wall_s=0.01, cpu_s=0.02), other=Seconds(wall_s=0.03, cpu_s=0.0)
)
STEPS = [Amount(pieces=1, units=u, others=o) for u, o in ((100, 10), (400, 90), (800, 100), (300, 200))]


def timed(line: Line, amounts: list[Amount]) -> list[Timed]:
    return [Timed(amount=amount, took=line.of(amount)) for amount in amounts]


def test_a_line_is_found_again_from_what_it_gave_by_both_clocks() -> None:
    found = fit(timed(STEP, STEPS))
    whole = Amount(pieces=1000, units=500_000, others=90_000)
    assert found.of(whole).wall_s == pytest.approx(STEP.of(whole).wall_s)
    assert found.of(whole).cpu_s == pytest.approx(STEP.of(whole).cpu_s)


@given(st.lists(st.floats(0.9, 1.1), min_size=4, max_size=4))
def test_errors_of_a_tenth_in_the_steps_make_no_more_of_a_tenth_in_a_whole_of_such_steps(errors: list[float]) -> None:
    shaken = [
        Timed(amount=a, took=Seconds(wall_s=STEP.of(a).wall_s * error, cpu_s=0.0))
        for a, error in zip(STEPS, errors, strict=True)
    ]
    whole = sum(STEPS, Amount())
    assert fit(shaken).of(whole).wall_s == pytest.approx(STEP.of(whole).wall_s, rel=0.15)


def test_no_part_of_a_line_is_negative() -> None:
    # The larger step was the quicker one, as on a busy machine.
    odd = [
        Timed(amount=Amount(pieces=1, units=100), took=Seconds(wall_s=2.0, cpu_s=1.0)),
        Timed(amount=Amount(pieces=1, units=200), took=Seconds(wall_s=1.0, cpu_s=1.0)),
    ]
    found = fit(odd)
    assert min(found.piece.wall_s, found.unit.wall_s, found.other.wall_s) >= 0.0
    assert 1.0 <= found.of(Amount(pieces=1, units=150)).wall_s <= 2.0


def test_nothing_timed_makes_no_line() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit([])


def test_a_batch_of_equal_answers_keeps_all_its_rows_to_the_end() -> None:
    assert answering([7, 5], [10, 10], 8) == Amount(pieces=10, units=20, others=14)


def test_rows_that_are_done_leave_once_they_are_a_quarter_of_the_batch() -> None:
    # Of eight rows one ends at step 1 and stays; with the second, at step 3, both go.
    assert answering([1] * 8, [1, 3, 5, 5, 5, 5, 5, 5], 8) == Amount(pieces=5, units=3 * 8 + 2 * 6, others=8)


def test_answers_are_counted_batch_by_batch_with_like_prompts_together() -> None:
    assert answering([2, 9, 3], [4, 1, 4], 2) == Amount(pieces=8, units=2 + 3 + 4, others=2 * 9 + 2)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=20), st.integers(1, 8))
def test_the_rows_in_the_steps_lie_between_the_answers_and_full_batches(
    rows: list[tuple[int, int]], batch_size: int
) -> None:
    prompts, steps = zip(*rows, strict=True)
    found = answering(prompts, steps, batch_size)
    assert sum(steps) <= found.units <= found.pieces * batch_size
    assert found.others >= np.sum(prompts)
