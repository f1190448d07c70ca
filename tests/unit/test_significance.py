from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cpd_engine.evaluation.significance import bootstrap_interval, holm, paired, t_interval


def test_the_difference_is_the_mean_of_the_pairs() -> None:
    result = paired([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5], seed=0)

    assert result.difference == pytest.approx(0.375)
    assert (result.non_zero, result.rows) == (2, 4)


def test_the_p_value_of_one_sided_pairs_is_the_exact_one() -> None:
    # All n differences are positive and distinct: two of the 2^n sign patterns are as extreme.
    student = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    result = paired(student, [0.0] * 6, seed=0)

    assert result.p_value == pytest.approx(2 / 2**6)


def test_the_p_value_is_scipys() -> None:
    random = np.random.default_rng(3)
    student, other = random.normal(0.2, 1, 80), random.normal(0, 1, 80)

    result = paired(student.tolist(), other.tolist(), seed=0)

    assert result.p_value == pytest.approx(stats.wilcoxon(student, other).pvalue, rel=1e-12)


def test_ties_everywhere_have_no_p_value_and_an_empty_interval() -> None:
    result = paired([0.5, 1.0, 0.0], [0.5, 1.0, 0.0], seed=0)

    assert result.p_value is None
    assert result.interval == (0.0, 0.0)
    assert result.non_zero == 0


def test_the_interval_is_near_the_normal_one_for_many_rows() -> None:
    differences = np.random.default_rng(1).normal(1.0, 2.0, 2000)
    half = 1.959964 * differences.std() / math.sqrt(2000)

    low, high = paired(differences.tolist(), [0.0] * 2000, seed=5).interval

    assert low == pytest.approx(differences.mean() - half, abs=0.01)
    assert high == pytest.approx(differences.mean() + half, abs=0.01)


def test_equal_seeds_give_equal_intervals_and_others_differ() -> None:
    student, other = [0.1, 0.9, 0.4, 0.7], [0.2, 0.3, 0.1, 0.9]

    assert paired(student, other, seed=1) == paired(student, other, seed=1)
    assert paired(student * 20, other * 20, seed=1).interval != paired(student * 20, other * 20, seed=2).interval


@pytest.mark.parametrize(
    ("student", "other"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([math.nan], [0.0])]
)
def test_unpaired_or_undefined_scores_are_refused(student: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match="paired scores"):
        paired(student, other, seed=0)


def test_holm_s_adjusted_values_are_those_of_the_step_down_rule() -> None:
    # Four hypotheses, worked by hand: .005·4, .01·3, .03·2 and .04·1, none under one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # What R's p.adjust(p, "holm") documents: 1 at most.
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_rejects_what_testing_one_after_the_other_rejects() -> None:
    random = np.random.default_rng(0)
    for size in (1, 2, 5, 12):
        p_values = (random.random(size) ** 3).round(3).tolist()
        for level in (0.01, 0.05, 0.2):
            rejected: set[int] = set()
            for rank, index in enumerate(sorted(range(size), key=lambda at: p_values[at])):
                if p_values[index] > level / (size - rank):
                    break
                rejected.add(index)
            assert {at for at, p in enumerate(holm(p_values)) if p is not None and p <= level} == rejected


def test_holm_lies_between_each_value_and_bonferroni_s() -> None:
    p_values = [0.001, 0.2, 0.04, 0.04, 0.9]
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert adjusted is not None
        assert raw <= adjusted <= min(1.0, len(p_values) * raw) or adjusted == 1.0
    assert holm(p_values) == pytest.approx([0.005, 0.4, 0.16, 0.16, 0.9])


@pytest.mark.parametrize("p_value", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(p_value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p_value])


def test_what_could_not_be_tested_does_not_count_for_holm() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]


def test_the_t_interval_is_scipys_and_needs_two_values() -> None:
    values = [30.0, 31.5, 29.0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))

    assert t_interval(values) == pytest.approx((low, high))
    assert t_interval([30.0]) is None


def test_a_weighted_bootstrap_is_of_the_weighted_mean() -> None:
    values, weights = np.array([0.0, 1.0]), np.array([1.0, 3.0])
    low, high = bootstrap_interval(values, weights, seed=0)
    assert (low, high) == (0.0, 1.0)
    many = np.tile(values, 5000), np.tile(weights, 5000)
    low, high = bootstrap_interval(*many, seed=0)
    assert low < 0.75 < high
    assert high - low < 0.04
