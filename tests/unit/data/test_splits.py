from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.data.records import Row
from cpd_engine.data.splits import count_shared_prompts, cut, sample


def _row(name: str, prompt: str, response: str = "yes") -> Row:
    return Row(name, prompt, "", response, (response,))


ROWS = [_row(str(i), f"prompt {i % 80}", f"answer {i % 90}") for i in range(100)]


def test_fractions_are_met_and_every_row_lands_once() -> None:
    test, validation, train = cut(ROWS, fractions=[0.1, 0.05], seed=0)
    assert 10 <= len(test) <= 11
    assert 5 <= len(validation) <= 6
    assert sorted(row.id for row in (*test, *validation, *train)) == sorted(row.id for row in ROWS)


@given(st.permutations(ROWS))
def test_the_cut_does_not_depend_on_the_order_of_rows(shuffled: list[Row]) -> None:
    before = [{row.id for row in part} for part in cut(ROWS, fractions=[0.2, 0.1], seed=3)]
    assert [{row.id for row in part} for part in cut(shuffled, fractions=[0.2, 0.1], seed=3)] == before


def test_rows_of_one_prompt_stay_together() -> None:
    parts = cut(ROWS, fractions=[0.3, 0.3], seed=1)
    prompts = [{row.instruction for row in part} for part in parts]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]


def test_another_seed_cuts_elsewhere() -> None:
    assert cut(ROWS, fractions=[0.2], seed=0)[0] != cut(ROWS, fractions=[0.2], seed=1)[0]


def test_a_positive_share_of_few_rows_is_at_least_one_and_training_keeps_one() -> None:
    few = [_row(str(i), str(i)) for i in range(3)]
    assert [len(part) for part in cut(few, fractions=[0.05, 0.05], seed=0)] == [1, 1, 1]
    assert [len(part) for part in cut(few[:1], fractions=[0.5, 0.5], seed=0)] == [0, 0, 1]


def test_a_share_of_nothing_is_empty() -> None:
    assert cut(ROWS, fractions=[0.0], seed=0)[0] == ()


def test_a_sample_is_the_same_rows_in_whatever_order() -> None:
    kept = sample(ROWS, 10, seed=0)
    assert len(kept) == 10
    assert {row.id for row in sample(ROWS[::-1], 10, seed=0)} == {row.id for row in kept}
    assert sample(ROWS, None, seed=0) == sample(ROWS, 1000, seed=0) == tuple(ROWS)


def test_prompts_that_are_trained_on_and_tested_are_counted() -> None:
    assert count_shared_prompts([_row("a", "x"), _row("b", "y")], [_row("c", "y", "no"), _row("d", "z")]) == 1
