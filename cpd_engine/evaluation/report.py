"""The final table: every subject's scores on the same test rows, the gap closed, and paired comparisons with the student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, get_args

import numpy as np

from cpd_engine.evaluation.significance import Paired, bootstrap_interval, paired
from cpd_engine.events import Comparison, Reported, Subject

METRICS = ("exact_match", "rouge_l", "ce")
LOWER_IS_BETTER = frozenset({"ce"})
SUBJECTS: tuple[Subject, ...] = get_args(Subject)


class Answered(Protocol):
    """What a model said: text, generated ids, and "stop" or "length"."""

    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def finish_reason(self) -> str: ...


class RowScored(Protocol):
    """One subject on one test row: exact_match and rouge_l in 0..1, `ce_sum` in nats over `supervised` tokens of the reference."""

    @property
    def row(self) -> str: ...
    @property
    def answer(self) -> Answered: ...
    @property
    def exact_match(self) -> float: ...
    @property
    def rouge_l(self) -> float: ...
    @property
    def ce_sum(self) -> float: ...
    @property
    def supervised(self) -> int: ...


class Asked(Protocol):
    """A test row: its id, what was asked and the accepted answers, the first of them the one that `ce` is measured on."""

    @property
    def id(self) -> str: ...
    @property
    def instruction(self) -> str: ...
    @property
    def input(self) -> str: ...
    @property
    def references(self) -> Sequence[str]: ...


Scores = Mapping[Subject, Sequence[RowScored]]


def metrics_of(rows: Sequence[RowScored]) -> dict[str, float]:
    """Over the rows: mean exact_match and rouge_l in percent, ce in nats per supervised token. ValueError without rows."""
    if not rows:
        raise ValueError("no scored rows to average")
    return {
        "exact_match": 100.0 * sum(row.exact_match for row in rows) / len(rows),
        "rouge_l": 100.0 * sum(row.rouge_l for row in rows) / len(rows),
        "ce": sum(row.ce_sum for row in rows) / sum(row.supervised for row in rows),
    }


def gap_closed(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By metric, (student − untouched) / (teacher − untouched): 0 learned nothing, 1 is the teacher's level.

    The quotient is the same whether higher or lower is better. A metric in which the teacher is not the better one has no gap and
    is absent.
    """
    closed = {}
    for metric in METRICS:
        teacher, untouched, student = (scores[subject][metric] for subject in ("teacher", "untouched", "student"))
        gap = teacher - untouched
        if (-gap if metric in LOWER_IS_BETTER else gap) > 0:
            closed[metric] = (student - untouched) / gap
    return closed


def build_report(rows: Scores, *, steps: Mapping[str, int], seed: int) -> Reported:
    """The table over the given subjects; student, teacher and untouched must be among them. `steps`: optimizer steps by subject.

    Comparisons are student minus other, row by row: points of exact_match and rouge_l, nats of the row's mean ce, where a negative
    difference favours the student. Raises ValueError where subjects were not scored on the same rows in the same order.
    """
    require_same_rows(rows)
    subjects = [subject for subject in SUBJECTS if subject in rows]
    scores: dict[str, dict[str, float]] = {subject: metrics_of(rows[subject]) for subject in subjects}
    others = [subject for subject in subjects if subject != "student"]
    return Reported(
        rows=len(rows["student"]),
        scores=scores,
        steps=dict(steps),
        gap_closed=gap_closed(scores),
        comparisons=tuple(_compare(rows, other, metric, seed=seed) for other in others for metric in METRICS),
        intervals={
            subject: {metric: _interval(rows[subject], metric, seed=seed) for metric in METRICS} for subject in subjects
        },
    )


def samples(asked: Sequence[Asked], rows: Scores) -> Iterator[dict[str, Any]]:
    """One JSON-ready object a test row: what was asked and every subject's answer with its scores, side by side. Raises ValueError."""
    require_same_rows(rows)
    if [row.id for row in asked] != [row.row for row in rows["student"]]:
        raise ValueError("the test rows are not the rows that were scored")
    for position, row in enumerate(asked):
        yield {
            "row": row.id,
            "prompt": f"{row.instruction}\n{row.input}".strip(),
            # The parts apart, for whoever renders them by a template as the run did.
            "instruction": row.instruction,
            "input": row.input,
            "reference": row.references[0],
            "references": list(row.references),
            "answers": {subject: _answer(rows[subject][position]) for subject in SUBJECTS if subject in rows},
        }


def require_same_rows(rows: Scores) -> None:
    """Raise ValueError unless every subject was scored on the student's rows in the student's order."""
    wanted = [row.row for row in rows["student"]]
    for subject, scored in rows.items():
        if [row.row for row in scored] != wanted:
            raise ValueError(f"{subject} was scored on other test rows than the student; score both on the same ones")


def _answer(scored: RowScored) -> dict[str, Any]:
    return {
        "text": scored.answer.text,
        "exact_match": scored.exact_match,
        "rouge_l": scored.rouge_l,
        "ce": scored.ce_sum / scored.supervised,
        "supervised": scored.supervised,
        "finish_reason": scored.answer.finish_reason,
        "tokens": len(scored.answer.tokens),
    }


def _compare(rows: Scores, other: Subject, metric: str, *, seed: int) -> Comparison:
    return told(paired(_column(rows["student"], metric), _column(rows[other], metric), seed=seed), other, metric)


def _interval(rows: Sequence[RowScored], metric: str, *, seed: int) -> tuple[float, float]:
    """Of `metrics_of`'s mean, in which a row weighs as many tokens as its reference has where the metric is ce."""
    weights = [row.supervised if metric in LOWER_IS_BETTER else 1 for row in rows]
    return bootstrap_interval(np.asarray(_column(rows, metric)), np.asarray(weights, dtype=np.float64), seed=seed)


def told(result: Paired, other: Subject, metric: str) -> Comparison:
    """Student minus other in one metric, as a report tells it."""
    return Comparison(
        subject=other,
        metric=metric,
        difference=result.difference,
        interval=result.interval,
        p_value=result.p_value,
        non_zero=result.non_zero,
        rows=result.rows,
    )


def _column(rows: Sequence[RowScored], metric: str) -> list[float]:
    match metric:
        case "exact_match":
            return [100.0 * row.exact_match for row in rows]
        case "rouge_l":
            return [100.0 * row.rouge_l for row in rows]
        case _:
            return [row.ce_sum / row.supervised for row in rows]
