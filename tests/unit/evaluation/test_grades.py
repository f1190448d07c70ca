"""From graded answers to means, errors and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from cpd_engine.data.records import Row
from cpd_engine.evaluation.grades import BySeed, Graded, means, per_row, suite_report, suite_samples
from cpd_engine.evaluation.significance import paired


def _graded(*values: float, metric: str = "accuracy") -> list[Graded]:
    return [
        Graded(row=f"r{i}", text=f"said {value}", tokens=(1, 2), finish_reason="stop", scores={metric: value})
        for i, value in enumerate(values)
    ]


def _text(*values: float) -> list[Graded]:
    return [
        Graded(row=f"r{i}", text="", tokens=(), finish_reason="stop", scores={"rouge_l": value, "exact_match": 0.0})
        for i, value in enumerate(values)
    ]


def test_the_mean_is_over_seeds_and_rows_and_both_errors_are_told() -> None:
    student: BySeed = {10: _text(0.2, 0.4, 0.6), 20: _text(0.4, 0.6, 0.8)}
    report = suite_report("dolly", "dolly", {"student": student}, settings_sha256="h", seed=0)
    score = report.scores["student"]["rouge_l"]
    assert score.mean == pytest.approx(50.0)
    # Rows averaged over the seeds are 30, 50 and 70: standard deviation 20, over √3.
    assert score.item_error == pytest.approx(20.0 / math.sqrt(3))
    # The seeds' means are 40 and 60.
    assert score.seed_deviation == pytest.approx(20.0 / math.sqrt(2))
    assert (report.seeds, report.rows, report.gap_closed, report.comparisons) == ((10, 20), 3, {}, ())


def test_greedy_answers_have_no_deviation_of_seeds_and_one_row_no_error() -> None:
    report = suite_report("gsm8k", "gsm8k", {"model": {None: _graded(1.0)}}, settings_sha256="h", seed=0)
    score = report.scores["model"]["accuracy"]
    assert (score.mean, score.item_error, score.seed_deviation, report.seeds) == (100.0, None, None, ())


def test_seeds_are_averaged_before_rows_are_paired() -> None:
    student: BySeed = {1: _text(0.9, 0.1, 0.5, 0.7), 2: _text(0.1, 0.9, 0.5, 0.9)}
    teacher: BySeed = {1: _text(0.5, 0.5, 0.5, 0.2), 2: _text(0.5, 0.5, 0.5, 0.4)}
    untouched: BySeed = {1: _text(0.0, 0.0, 0.0, 0.0), 2: _text(0.0, 0.0, 0.0, 0.0)}
    subjects = {"teacher": teacher, "untouched": untouched, "student": student}
    report = suite_report("dolly", "dolly", subjects, settings_sha256="h", seed=3)
    assert [(c.subject, c.metric) for c in report.comparisons] == [
        (subject, metric) for subject in ("teacher", "untouched") for metric in ("rouge_l", "exact_match")
    ]
    against = report.comparisons[0]
    # 50 − 50 three times, and 80 − 30.
    assert against.difference == pytest.approx(12.5)
    assert (against.non_zero, against.rows) == (1, 4)
    expected = paired([50.0, 50.0, 50.0, 80.0], [50.0, 50.0, 50.0, 30.0], seed=3)
    assert against.p_value == expected.p_value
    assert against.interval == pytest.approx(expected.interval)
    assert report.gap_closed == {"rouge_l": pytest.approx(57.5 / 45.0)}


def test_means_are_percent_of_what_there_is() -> None:
    assert means(_graded(1.0, 0.0, 0.0, 1.0)) == {"accuracy": 50.0}
    assert per_row({None: _graded(1.0, 0.0)}, "accuracy") == [100.0, 0.0]
    with pytest.raises(ValueError, match="no graded rows"):
        means([])


def test_answers_to_other_rows_or_under_other_seeds_are_refused() -> None:
    one, other = _graded(1.0, 0.0), _graded(1.0, 0.0)[::-1]
    pairs: list[tuple[BySeed, BySeed]] = [
        ({None: one}, {None: other}),
        ({1: one}, {2: one}),
        ({1: one, 2: other}, {1: one, 2: other}),
    ]
    for student, teacher in pairs:
        with pytest.raises(ValueError, match="same rows under the same seeds"):
            suite_report("s", "gsm8k", {"student": student, "teacher": teacher}, settings_sha256="h", seed=0)


def test_samples_show_every_generation_of_every_model() -> None:
    rows: Sequence[Row] = [Row("r0", "Add.", "1 1", "2", ("2", "two")), Row("r1", "Write f.", "", "", ())]
    answers: dict[str, BySeed] = {"teacher": {1: _graded(1.0, 0.0), 2: _graded(0.0, 1.0)}}
    lines = list(suite_samples("sums", rows, answers))
    assert [(line["row"], line["suite"], line["prompt"], line["reference"]) for line in lines] == [
        ("r0", "sums", "Add.\n1 1", "2"),
        ("r1", "sums", "Write f.", None),
    ]
    said = lines[0]["answers"]["teacher"]
    assert (said["text"], said["accuracy"], said["tokens"]) == ("said 1.0", 1.0, 2)
    assert [(one["seed"], one["text"], one["accuracy"]) for one in said["generations"]] == [
        (1, "said 1.0", 1.0),
        (2, "said 0.0", 0.0),
    ]
