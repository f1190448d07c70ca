"""A run while it goes on: its losses, what its epochs are given, and how fast it is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import accumulate

import plotly.graph_objects as go

from api.events.schemas import PointView
from api.web.figures import BLUE, GREEN, GREY, OCHRE, PURPLE, VERMILION, axis, figure
from cpd_engine.events import EpochStarted

# The series that the figures of a run are drawn of, as the worker names them.
LOSSES = ("student/loss", "student/ce", "student/kd")
VALIDATION = "student/validation/ce"
COURSE = ("student/mixing", "student/temperature", "student/alpha")
SPEED = ("student/tokens_per_s", "student/learning_rate", "student/memory_bytes")
TOKENS = "student/tokens"
_MINUTE_S = 60.0
_GIBIBYTE = 2**30


class Across(StrEnum):
    """What the figures of a run go by."""

    STEP = "step"
    TOKENS = "tokens"
    TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a run so far: its series and the epochs that have begun.

    `tokens`: all supervised ones up to a step, where `across` asks for them; `ends`: after which step an epoch was validated.
    """

    across: Across
    series: Mapping[str, Sequence[PointView]]
    epochs: Sequence[EpochStarted] = ()
    tokens: Sequence[PointView] = ()
    ends: Mapping[int, int] = field(default_factory=dict)


def loss(run: Run) -> go.Figure:
    """The training loss with its two parts, and the cross-entropy on the validation rows."""
    told = "nats per token"
    lines = [
        _line(run, "student/ce", "cross-entropy part", GREEN, told, width=1.0),
        _line(run, "student/kd", "divergence from the target", PURPLE, told, width=1.0),
        _line(run, "student/loss", "training loss", BLUE, told, width=2.0),
    ]
    return figure(
        [*lines, _validation(run)],
        title="Loss",
        description="The training loss of each optimizer step with its two parts, and the cross-entropy on the validation rows.",
        height=340,
        hovermode="x unified",
        uirevision=run.across.value,
        xaxis=axis(TITLES[run.across]),
        yaxis=axis("loss, nats/token"),
    )


def course(run: Run) -> go.Figure:
    """The temperature τ, the weights t and α, and the share k/N of the samples, as they were at each step."""
    # The line goes on to the last step that was taken.
    begins = [*accumulate((one.iterations for one in run.epochs[:-1]), initial=0), _last_step(run)]
    stages = [*run.epochs, *run.epochs[-1:]]
    sizes = go.Scatter(
        x=[place(run, step, None) for _, step in zip(stages, begins, strict=False)],
        y=[one.subset_size / one.samples for one in stages],
        name="share k/N",
        mode="lines",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        customdata=[[one.epoch, one.subset_size, one.samples] for one in stages],
        hovertemplate="epoch %{customdata[0]}: %{customdata[1]:,} of %{customdata[2]:,} samples<extra></extra>",
        yaxis="y",
    )
    return figure(
        [
            sizes,
            _line(run, "student/mixing", "mixing t", GREEN, "t", yaxis="y2", shape="hv"),
            _line(run, "student/alpha", "weight α", OCHRE, "α", yaxis="y2", shape="hv"),
            _line(run, "student/temperature", "temperature τ", VERMILION, "τ", yaxis="y3", shape="hv"),
        ],
        title="Course",
        description="Share k/N of the samples, mixing t, weight α of the cross-entropy and temperature τ at each optimizer step.",
        height=400,
        uirevision=run.across.value,
        xaxis=axis(TITLES[run.across], anchor="y3"),
        yaxis=axis("k/N", domain=[0.72, 1.0], range=[0, 1.08], tickformat=".0%"),
        yaxis2=axis("t, α", domain=[0.36, 0.64], range=[-0.05, 1.05]),
        yaxis3=axis("τ", domain=[0.0, 0.28], rangemode="tozero"),
    )


def speed(run: Run) -> go.Figure:
    """Tokens per second, learning rate and memory at each step."""
    return figure(
        [
            _line(run, "student/tokens_per_s", "tokens per second", BLUE, "tokens/s"),
            _line(run, "student/learning_rate", "learning rate", OCHRE, "", yaxis="y2"),
            _line(run, "student/memory_bytes", "memory", GREY, "GiB", yaxis="y3", per=_GIBIBYTE),
        ],
        title="Speed",
        description="Tokens per second, learning rate and peak memory at each optimizer step.",
        height=400,
        showlegend=False,
        uirevision=run.across.value,
        xaxis=axis(TITLES[run.across], anchor="y3"),
        yaxis=axis("tokens/s", domain=[0.72, 1.0], rangemode="tozero", tickformat="~s"),
        yaxis2=axis("rate", domain=[0.36, 0.64], rangemode="tozero", exponentformat="power"),
        yaxis3=axis("GiB", domain=[0.0, 0.28], rangemode="tozero"),
    )


TITLES = {
    Across.STEP: "optimizer step",
    Across.TOKENS: "supervised tokens",
    Across.TIME: "minutes since the first step",
}


def cumulative(tokens: Sequence[PointView]) -> list[PointView]:
    """Supervised tokens up to each step, from those of each step."""
    sums = accumulate(one.value for one in tokens)
    return [PointView(step=one.step, value=total, at=one.at) for one, total in zip(tokens, sums, strict=True)]


def _line(
    run: Run,
    name: str,
    shown: str,
    colour: str,
    unit: str,
    *,
    yaxis: str = "y",
    width: float = 2.0,
    shape: str = "linear",
    per: float = 1.0,
) -> go.Scatter:
    readings = run.series.get(name, ())
    return go.Scatter(
        x=[place(run, one.step, one.at) for one in readings],
        y=[one.value / per for one in readings],
        name=shown,
        mode="lines",
        line={"color": colour, "width": width, "shape": shape},
        hovertemplate=f"{shown} %{{y:.4g}} {unit}<extra></extra>",
        yaxis=yaxis,
    )


def _validation(run: Run) -> go.Scatter:
    """Its series counts epochs; the mark stands where its epoch ended."""
    marks = [(run.ends[one.step], one) for one in run.series.get(VALIDATION, ()) if one.step in run.ends]
    return go.Scatter(
        x=[place(run, step, one.at) for step, one in marks],
        y=[one.value for _, one in marks],
        customdata=[one.step for _, one in marks],
        name="validation",
        mode="lines+markers",
        line={"color": VERMILION, "width": 1, "dash": "dot"},
        marker={"color": VERMILION, "size": 8, "symbol": "diamond"},
        hovertemplate="validation after epoch %{customdata}: %{y:.4g}<extra></extra>",
    )


def place(run: Run, step: int, at: datetime | None) -> float | None:
    """Where a step lies on the axis; None where nothing tells."""
    match run.across:
        case Across.STEP:
            return step
        case Across.TOKENS:
            known = bisect_right(run.tokens, step, key=lambda one: one.step)
            return run.tokens[known - 1].value if known else 0
        case Across.TIME:
            first = _first(run)
            moment = at if at is not None else _moment(run, step)
            return None if first is None or moment is None else (moment - first).total_seconds() / _MINUTE_S


def _first(run: Run) -> datetime | None:
    return min((readings[0].at for readings in run.series.values() if readings), default=None)


def _last_step(run: Run) -> int:
    return max((readings[-1].step for readings in run.series.values() if readings), default=0)


def _moment(run: Run, step: int) -> datetime | None:
    """When the step after `step` was done, or the last one."""
    readings = next((found for found in run.series.values() if found), ())
    return next((one.at for one in readings if one.step > step), readings[-1].at if readings else None)
