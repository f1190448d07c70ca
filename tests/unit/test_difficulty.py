from __future__ import annotations

from typing import get_args

import numpy as np

from cpd_engine.config import MEASURES, Difficulty
from cpd_engine.difficulty import suspicious


def test_suspicious_is_what_both_models_find_hard_the_teacher_s_least_likely_first() -> None:
    student, teacher = np.linspace(1.0, 2.0, 40), np.linspace(0.5, 1.0, 40)
    # Hard for the student alone, for the teacher alone, and for both.
    student[3], teacher[5] = 9.0, 9.0
    student[7], teacher[7] = 8.0, 4.0
    student[8], teacher[8] = 7.0, 5.0

    found = suspicious(student, teacher).tolist()

    assert found[:2] == [8, 7]
    assert {3, 5}.isdisjoint(found)


def test_samples_that_nobody_could_score_are_not_suspicious() -> None:
    nowhere = np.full(5, np.nan)

    assert suspicious(nowhere, nowhere).tolist() == []
    assert suspicious(np.array([1.0, np.nan, 2.0]), np.array([1.0, 9.0, 2.0])).tolist() == []


def test_every_difficulty_says_what_it_measures() -> None:
    assert set(MEASURES) == set(get_args(Difficulty))
