from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cpd_engine.evaluation.report import build_report, gap_closed, metrics_of, samples
from cpd_engine.events import Subject, from_json, to_json


@dataclass(frozen=True)
class Said:
    text: str = "seven"
    tokens: tuple[int, ...] = (4, 5)
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Scored:
    row: str
    exact_match: float
    rouge_l: float
    ce_sum: float
    supervised: int
    answer: Said = field(default_factory=Said)


@dataclass(frozen=True)
class Question:
    id: str
    instruction: str = "Add."
    input: str = "3 and 4"
    references: tuple[str, ...] = ("7", "seven")


def _scored(exact: Sequence[float], ce_sum: float = 2.0, supervised: int = 2) -> list[Scored]:
    return [
        Scored(row=f"row-{i}", exact_match=value, rouge_l=value / 2, ce_sum=ce_sum, supervised=supervised)
        for i, value in enumerate(exact)
    ]


def _four() -> dict[Subject, list[Scored]]:
    return {
        "sft": _scored([1, 0, 1, 0], ce_sum=1.5),
        "student": _scored([1, 1, 1, 0], ce_sum=1.0),
        "teacher": _scored([1, 1, 1, 1], ce_sum=0.5),
        "untouched": _scored([0, 0, 0, 0], ce_sum=4.0),
    }


def test_scores_are_percent_and_ce_is_nats_per_token_not_per_row() -> None:
    rows = [
        Scored(row="a", exact_match=1.0, rouge_l=0.5, ce_sum=1.0, supervised=1),
        Scored(row="b", exact_match=0.0, rouge_l=0.25, ce_sum=9.0, supervised=9),
    ]

    assert metrics_of(rows) == {"exact_match": 50.0, "rouge_l": 37.5, "ce": 1.0}


def test_no_rows_have_no_scores() -> None:
    with pytest.raises(ValueError, match="no scored rows"):
        metrics_of([])


def test_the_gap_closed_counts_the_same_way_up_and_down() -> None:
    closed = build_report(_four(), steps={}, seed=0).gap_closed

    assert closed["exact_match"] == pytest.approx(0.75)
    assert closed["rouge_l"] == pytest.approx(0.75)
    assert closed["ce"] == pytest.approx((2.0 - 0.5) / (2.0 - 0.25))


def test_every_score_lies_within_its_interval_and_a_certain_one_has_none_around_it() -> None:
    rows = _four() | {"student": [*_scored([1, 0, 1, 0])[:3], Scored("row-3", 0.0, 0.0, ce_sum=90.0, supervised=10)]}
    report = build_report(rows, steps={}, seed=0)

    for subject, values in report.scores.items():
        for metric, value in values.items():
            low, high = report.intervals[subject][metric]
            assert low <= value <= high
    assert report.intervals["teacher"]["exact_match"] == (100.0, 100.0)
    # The long row weighs as many tokens as it has: 96 nats over 16 tokens, not the mean of 1, 1, 1 and 9.
    assert report.scores["student"]["ce"] == 6.0
    assert report.intervals["student"]["ce"] == pytest.approx((1.0, 8.2), abs=0.6)


def test_a_metric_in_which_the_teacher_is_no_better_has_no_gap() -> None:
    level = {"exact_match": 10.0, "rouge_l": 10.0, "ce": 1.0}
    scores = {"teacher": level, "untouched": {"exact_match": 10.0, "rouge_l": 20.0, "ce": 0.5}, "student": level}

    assert gap_closed(scores) == {}


def test_a_student_worse_than_the_untouched_one_closes_less_than_nothing() -> None:
    scores = {
        "teacher": {"exact_match": 50.0, "rouge_l": 50.0, "ce": 1.0},
        "untouched": {"exact_match": 10.0, "rouge_l": 10.0, "ce": 2.0},
        "student": {"exact_match": 6.0, "rouge_l": 10.0, "ce": 2.5},
    }

    assert gap_closed(scores) == {"exact_match": pytest.approx(-0.1), "rouge_l": 0.0, "ce": pytest.approx(-0.5)}


def test_the_student_is_compared_with_every_other_subject_in_every_metric() -> None:
    reported = build_report(_four(), steps={"student": 40, "sft": 40}, seed=0)

    compared = {(comparison.subject, comparison.metric) for comparison in reported.comparisons}
    assert compared == {
        (subject, metric) for subject in ("teacher", "untouched", "sft") for metric in ("exact_match", "rouge_l", "ce")
    }
    against_untouched = next(c for c in reported.comparisons if (c.subject, c.metric) == ("untouched", "exact_match"))
    assert (against_untouched.difference, against_untouched.non_zero, against_untouched.rows) == (75.0, 3, 4)
    lower_ce = next(c for c in reported.comparisons if (c.subject, c.metric) == ("sft", "ce"))
    assert lower_ce.difference == pytest.approx(-0.25)


def test_the_report_is_an_event_that_comes_back_from_the_wire() -> None:
    reported = build_report(_four(), steps={"student": 40}, seed=0)

    assert list(reported.scores) == ["teacher", "untouched", "student", "sft"]
    assert from_json(to_json(reported)) == reported


def test_a_report_needs_no_twin() -> None:
    rows = _four()
    del rows["sft"]

    assert set(build_report(rows, steps={}, seed=0).scores) == {"teacher", "untouched", "student"}


def test_subjects_scored_on_other_rows_are_refused() -> None:
    rows = _four()
    rows["teacher"] = rows["teacher"][::-1]

    with pytest.raises(ValueError, match="teacher"):
        build_report(rows, steps={}, seed=0)
    with pytest.raises(ValueError, match="teacher"):
        list(samples([Question(id=f"row-{i}") for i in range(4)], rows))


def test_samples_show_the_answers_side_by_side() -> None:
    lines = list(samples([Question(id=f"row-{i}") for i in range(4)], _four()))

    assert [line["row"] for line in lines] == ["row-0", "row-1", "row-2", "row-3"]
    assert lines[0]["prompt"] == "Add.\n3 and 4"
    assert lines[0]["prompt"] == f"{lines[0]['instruction']}\n{lines[0]['input']}".strip()
    assert (lines[0]["reference"], lines[0]["references"]) == ("7", ["7", "seven"])
    assert list(lines[3]["answers"]) == ["teacher", "untouched", "student", "sft"]
    assert lines[3]["answers"]["student"] == {
        "text": "seven",
        "exact_match": 0,
        "rouge_l": 0.0,
        "ce": 0.5,
        "supervised": 2,
        "finish_reason": "stop",
        "tokens": 2,
    }


def test_samples_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="not the rows"):
        list(samples([Question(id="elsewhere")], _four()))
