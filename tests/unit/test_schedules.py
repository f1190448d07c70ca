"""Schedules against the paper's formulas, worked by hand."""

from __future__ import annotations

import pytest

from cpd_engine import schedules
from cpd_engine.config import MixingSpec, OptimizerSpec


def test_the_temperature_rises_linearly_from_the_first_to_the_last_epoch() -> None:
    assert schedules.temperatures(5, 1.0, 2.0) == [1.0, 1.25, 1.5, 1.75, 2.0]
    assert schedules.temperatures(1, 1.0, 2.0) == [1.0]


def test_the_mixing_schedules_are_those_of_the_method() -> None:
    assert schedules.mixing("linear", 4) == [0.25, 0.5, 0.75, 1.0]
    assert schedules.mixing("open", 4) == [0.0, 0.25, 0.5, 0.75]
    assert schedules.mixing("linear", 4, end=0.4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert schedules.mixing("cosine", 4) == pytest.approx([(1 - 2**-0.5) / 2, 0.5, (1 + 2**-0.5) / 2, 1.0])
    assert schedules.mixing("fixed", 3, value=0.2) == [0.2, 0.2, 0.2]
    with pytest.raises(ValueError, match="no mixing schedule"):
        schedules.mixing("zigzag", 3)


def test_step_mixing_moves_with_every_step_and_never_reaches_its_end() -> None:
    spec = MixingSpec(kind="step", end=0.8)
    values = [schedules.mixing_at(spec, 0.0, step, 10) for step in range(10)]
    assert values[0] == 0.0
    assert values[5] == pytest.approx(0.4)
    assert max(values) < 0.8


def test_other_mixing_is_constant_within_an_epoch() -> None:
    spec = MixingSpec(kind="open")
    assert schedules.mixing_at(spec, 0.5, 0, 100) == schedules.mixing_at(spec, 0.5, 99, 100) == 0.5


def test_alpha_is_a_constant_or_stages_of_equal_length() -> None:
    assert schedules.alphas(0.3, 3) == [0.3, 0.3, 0.3]
    assert schedules.alphas((0.3, 0.2, 0.1, 0.0), 8) == [0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0]


def test_the_learning_rate_warms_up_and_comes_down_over_the_planned_iterations() -> None:
    cosine = OptimizerSpec(learning_rate=1.0, warmup_fraction=0.1, schedule="cosine")
    rates = [schedules.learning_rate(cosine, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0.0 < rates[-1] < 1e-3
    linear = OptimizerSpec(learning_rate=1.0, warmup_fraction=0.0, schedule="linear", final_fraction=0.2)
    assert schedules.learning_rate(linear, 50, 100) == pytest.approx(0.6)
    constant = OptimizerSpec(learning_rate=0.5, warmup_fraction=0.0, schedule="constant")
    assert {schedules.learning_rate(constant, step, 7) for step in range(7)} == {0.5}
