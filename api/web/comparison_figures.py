"""A comparison as figures: methods by metric with their significance, and quality against size and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from api.web.figures import BLUE, PALETTE, SYMBOLS, VERMILION, axis, figure, head
from api.web.panels import PANELS, Mark, Panel, stacked
from api.web.quality_figures import METRICS
from cpd_engine.events import Compared, ComparedMember, SuiteMember

SIGNIFICANT = 0.05


Line = ComparedMember | SuiteMember


def methods(table: Compared) -> go.Figure:
    """Every member by metric: its mean with the interval over the rows, a ring for each seed, and whether it differs from the baseline."""
    panels = _panels(table.members, table.baseline, METRICS)
    for suite in table.suites:
        titles = {metric: f"{suite.suite}: {metric}, %, n = {suite.rows:,}" for metric in suite.metrics}
        panels += _panels(suite.members, table.baseline, titles)
    return stacked(
        panels[:PANELS],
        title="Methods",
        description=f"Means over seeds on {table.rows:,} test rows with 95 % intervals over the rows; each seed is a ring. {table.budget}. "
        f"A star marks a difference from {table.baseline} with p ≤ {SIGNIFICANT} after Holm's correction.",
    )


def _panels(members: Sequence[Line], baseline: str, titles: Mapping[str, str]) -> list[Panel]:
    made = []
    for metric, title in titles.items():
        shown = [member for member in members if metric in member.scores]
        if not shown:
            continue
        ends = next((member for member in shown if member.label == baseline), shown[0])
        marks = [_mark(member, metric, baseline) for member in shown]
        made.append(Panel(title=title, marks=marks, lines=_bounds(ends, metric)))
    return made


def _bounds(member: Line, metric: str) -> dict[str, float]:
    found = {"teacher": member.teacher.get(metric), "untouched": member.untouched.get(metric)}
    return {name: value for name, value in found.items() if value is not None}


def _mark(member: Line, metric: str, baseline: str) -> Mark:
    score = member.scores[metric]
    is_baseline = member.label == baseline
    return Mark(
        label=f"{head(member.label, 40)}{' *' if is_significant(member, metric) else ''}",
        value=score.mean,
        interval=score.row_interval,
        told=f"{head(member.label, 40)}: {score.mean:.4g}<br>95 % interval {score.row_interval[0]:.4g} to {score.row_interval[1]:.4g}"
        f"<br>{len(score.by_seed)} seeds<br>{'the baseline' if is_baseline else _against(member, metric)}",
        colour=VERMILION if is_baseline else BLUE,
        symbol="square" if is_baseline else "circle",
        dots=score.by_seed,
    )


def is_significant(member: Line, metric: str) -> bool:
    """Whether a member differs from the baseline by the test's word, all members taken together."""
    held = member.against.get(metric)
    return held is not None and held.p_holm is not None and held.p_holm <= SIGNIFICANT


def _against(member: Line, metric: str) -> str:
    held = member.against.get(metric)
    if held is None:
        return "not held against the baseline"
    p = "every row ties" if held.p_holm is None else f"p = {held.p_holm:.3g} after Holm"
    return f"{held.difference:+.3g} against the baseline ({held.interval[0]:+.3g} to {held.interval[1]:+.3g}), {p}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run of each member takes on average, by label, in a unit with its name."""

    by_label: Mapping[str, float]
    axis: str
    unit: str


def tradeoff(table: Compared, *, parameters: Mapping[str, int], spent: Spent) -> go.Figure:
    """Quality against the student's size, by member's label, and against what a run takes. A member that lacks one is left out there."""
    shown = [member for member in table.members if member.scores]
    metric = next((name for name in METRICS if any(name in member.scores for member in shown)), "rouge_l")
    traces = [
        *_points(shown, metric, parameters, "", "%{x:.4s} parameters"),
        *_points(shown, metric, spent.by_label, "2", f"%{{x:.4g}} {spent.unit}"),
    ]
    return figure(
        traces,
        title="Quality against size and cost",
        description=f"{METRICS[metric]} of each member with its 95 % interval, against its student's parameters and against the "
        f"{spent.axis}.",
        height=600,
        xaxis=axis("student's parameters", anchor="y", tickformat="~s", rangemode="tozero"),
        yaxis=axis(METRICS[metric], domain=[0.6, 1.0]),
        xaxis2=axis(spent.axis, anchor="y2", rangemode="tozero"),
        yaxis2=axis(METRICS[metric], domain=[0.0, 0.42]),
    )


def _points(
    members: list[ComparedMember], metric: str, places: Mapping[str, float], suffix: str, told: str
) -> list[go.Scatter]:
    made = []
    for number, member in enumerate(members):
        at, score = places.get(member.label), member.scores[metric]
        if at is None:
            continue
        low, high = score.row_interval
        made.append(
            go.Scatter(
                x=[at],
                y=[score.mean],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - score.mean],
                    "arrayminus": [score.mean - low],
                },
                name=head(member.label, 40),
                legendgroup=str(number),
                showlegend=suffix == "",
                mode="markers",
                marker={"color": PALETTE[number % len(PALETTE)], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 11},
                hovertemplate=f"%{{fullData.name}}<br>{told}<br>%{{y:.4g}}<extra></extra>",
                xaxis=f"x{suffix}",
                yaxis=f"y{suffix}",
            )
        )
    return made
