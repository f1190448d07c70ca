"""What asking the teacher once saves: the arithmetic against figures worked out by hand."""

from __future__ import annotations

import pytest

from cpd_engine.events import EpochPlan
from cpd_engine.savings import Weights, operations_ratio, record_bytes, visits


def epoch(size: int, *, alpha: float = 0.3, dead: bool = False) -> EpochPlan:
    return EpochPlan(
        epoch=1,
        subset_size=size,
        target=None,
        iterations=1,
        visits=2 * size,
        temperature=1.0,
        mixing=0.0,
        alpha=alpha,
        dead=dead,
    )


def test_visits_count_subsets_with_their_repeats_where_the_teacher_is_needed() -> None:
    epochs = [epoch(50), epoch(100), epoch(100, dead=True), epoch(100, alpha=1.0)]
    assert visits(epochs, samples=100, distils=True) == 3.0
    assert visits(epochs, samples=100, distils=False) == 0.0


@pytest.mark.parametrize(
    ("teacher", "student", "ratio"),
    [
        # Layers and heads of the pairs: GPT-2 1.5B → 0.1B, Qwen2.5 1.5B → 0.5B and 7B → 3B.
        (Weights(body=1475_000_000, head=80_411_200), Weights(body=85_000_000, head=38_597_376), 4.1),
        (Weights(body=1310_000_000, head=233_000_000), Weights(body=358_000_000, head=136_000_000), 1.8),
        (Weights(body=6530_000_000, head=545_000_000), Weights(body=2770_000_000, head=311_000_000), 1.6),
    ],
)
def test_a_job_of_sixteen_visits_saves_what_the_arithmetic_of_its_pair_says(
    teacher: Weights, student: Weights, ratio: float
) -> None:
    found = operations_ratio(
        supervised_fraction=0.5,
        teacher=teacher,
        student=student,
        passes_without=16.0,
        passes_with=1.0,
        trained_visits=16.0,
    )
    assert found == pytest.approx(ratio, abs=0.06)


def test_without_a_pass_spared_nothing_is_saved() -> None:
    same = Weights(body=10, head=1)
    assert (
        operations_ratio(
            supervised_fraction=1.0, teacher=same, student=same, passes_without=3, passes_with=3, trained_visits=3
        )
        == 1.0
    )


def test_a_million_tokens_of_a_7b_teacher_take_7_gigabytes_and_its_64_largest_logits_half_of_one() -> None:
    assert record_bytes(hidden=3584, dtype_bytes=2) * 10**6 == 7_168_000_000
    assert record_bytes(hidden=3584, dtype_bytes=2, top_k=64, temperatures=20) * 10**6 == 596_000_000
