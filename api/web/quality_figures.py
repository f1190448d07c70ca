"""What a job's models are worth, as figures: scores with intervals, and which answers the distillation changed."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from api.remarks import SUBJECTS
from api.web.figures import BLUE, GREEN, GREY, OCHRE, PALETTE, PURPLE, SYMBOLS, VERMILION, axis, figure, shaded
from api.web.panels import PANELS, Mark, Panel, stacked
from cpd_engine.events import Reported, SuiteScore

ORDER = ("teacher", "student", "untouched", "sft", "kld")
METRICS = {"exact_match": "exact match, %", "rouge_l": "ROUGE-L, %", "ce": "held-out CE, nats/token (less is better)"}
_STYLE = {"teacher": GREEN, "student": BLUE, "untouched": GREY, "sft": OCHRE, "kld": PURPLE}
# Of normally spread means, 95 % lie so many standard errors around the true one.
_Z = 1.96


def quality(report: Reported) -> go.Figure:
    """Teacher, untouched student, twins and distilled student: each metric of the test rows and of the suites, with intervals."""
    panels = [*_own(report), *_of_suites(report)]
    left_out = len(panels) - PANELS
    more = f" {left_out} more metrics of suites are in the table." if left_out > 0 else ""
    return stacked(
        panels[:PANELS],
        title="Quality",
        description=f"Scores on {report.rows:,} test rows and on suites, with 95 % intervals over the rows.{more}",
    )


def _own(report: Reported) -> list[Panel]:
    subjects = [subject for subject in ORDER if subject in report.scores]
    metrics = [metric for metric in METRICS if any(metric in report.scores[subject] for subject in subjects)]
    return [
        Panel(
            title=f"{METRICS[metric]}, n = {report.rows:,}",
            marks=[
                _mark(subject, value, report.intervals.get(subject, {}).get(metric), report.rows)
                for subject in subjects
                if (value := report.scores[subject].get(metric)) is not None
            ],
            lines={},
        )
        for metric in metrics
    ]


def _of_suites(report: Reported) -> list[Panel]:
    made = []
    for suite in report.suites:
        subjects = [subject for subject in ORDER if subject in suite.scores]
        for metric in dict.fromkeys(metric for subject in subjects for metric in suite.scores[subject]):
            marks = [
                _mark(subject, score.mean, _around(score), suite.rows)
                for subject in subjects
                if (score := suite.scores[subject].get(metric)) is not None
            ]
            made.append(Panel(title=f"{suite.suite}: {metric}, %, n = {suite.rows:,}", marks=marks, lines={}))
    return made


def _around(score: SuiteScore) -> tuple[float, float] | None:
    if score.item_error is None:
        return None
    return score.mean - _Z * score.item_error, score.mean + _Z * score.item_error


def _mark(subject: str, value: float, interval: tuple[float, float] | None, rows: int) -> Mark:
    within = "" if interval is None else f"<br>95 % interval {interval[0]:.4g} to {interval[1]:.4g}"
    return Mark(
        label=SUBJECTS[subject],
        value=value,
        interval=interval,
        told=f"{SUBJECTS[subject]}: {value:.4g}{within}<br>n = {rows:,}",
        colour=_STYLE[subject],
        symbol=SYMBOLS[PALETTE.index(_STYLE[subject])],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """How many test rows the distilled student answers right and another model wrong (`gained`), the reverse (`lost`), and like it."""

    subject: str
    gained: int
    lost: int
    both_right: int
    both_wrong: int


def flips(report: Reported) -> list[Flips]:
    """The distilled student against each other model, by exact match.

    A row's exact match is 0 or 1: of the rows on which two models differ, those gained and lost add up to their number, and their
    difference is the sum of the differences.
    """
    made = []
    for found in report.comparisons:
        if found.metric != "exact_match":
            continue
        net = round(found.difference * found.rows / 100.0)
        gained, lost = (found.non_zero + net) // 2, (found.non_zero - net) // 2
        right = round(report.scores["student"]["exact_match"] * found.rows / 100.0)
        both_right = right - gained
        made.append(
            Flips(
                subject=found.subject,
                gained=gained,
                lost=lost,
                both_right=both_right,
                both_wrong=found.rows - both_right - gained - lost,
            )
        )
    return made


def changes(report: Reported) -> go.Figure:
    """How many answers went from wrong to right and from right to wrong, against each other model."""
    found = flips(report)
    labels = [f"against {SUBJECTS[one.subject]}" for one in found]
    bars = [
        _bar(labels, [one.gained for one in found], "wrong → right", BLUE, ""),
        _bar(labels, [one.lost for one in found], "right → wrong", VERMILION, "/"),
        _bar(labels, [one.both_right for one in found], "both right", shaded(GREEN, 0.4), ""),
        _bar(labels, [one.both_wrong for one in found], "both wrong", shaded(GREY, 0.4), ""),
    ]
    return figure(
        bars,
        title="Changed answers",
        description=f"Of {report.rows:,} test rows, those that the distilled student alone answers right, and the reverse.",
        height=140 + 44 * max(1, len(found)),
        margin={"l": 190, "r": 16, "t": 56, "b": 48},
        barmode="stack",
        xaxis=axis("test rows"),
        yaxis={"automargin": True, "autorange": "reversed"},
    )


def _bar(labels: list[str], counts: list[int], name: str, colour: str, pattern: str) -> go.Bar:
    return go.Bar(
        y=labels,
        x=counts,
        orientation="h",
        name=name,
        marker={"color": colour, "pattern": {"shape": pattern}},
        hovertemplate=f"%{{y}}<br>{name}: %{{x:,}} rows<extra></extra>",
    )
