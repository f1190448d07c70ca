"""A comparison as a picture: a panel a metric, a line a member, its mean with an interval and a dot for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpd_engine.evaluation.report import METRICS
from cpd_engine.events import Compared, ComparedMember, SuiteMember

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MEMBER, _BASELINE, _SEED, _BOUND = "#333333", "#1f5fa8", "#d9730d", "#9db8d9", "#777777"
_TITLES = {
    "exact_match": "exact match, %",
    "rouge_l": "ROUGE-L",
    "ce": "held-out CE, nats per token (less is better)",
    "accuracy": "accuracy, %",
    "pass_at_1": "pass@1, %",
    "pass_at_1_plus": "pass@1 of the plus tests, %",
}
_COLUMNS = 3
_DPI = 120
# A side of the picture at most: what every viewer takes.
_MOST_PIXELS = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A member in a panel. `interval` is of the mean, over rows with the seeds averaged: of two seeds Student's t says next to nothing."""

    label: str
    mean: float
    interval: tuple[float, float]
    by_seed: tuple[float, ...]
    baseline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One metric, of the test rows or of a suite: the members, and the baseline's teacher and untouched student as the two ends."""

    metric: str
    title: str
    marks: tuple[Mark, ...]
    teacher: float | None
    untouched: float | None
    suite: str | None = None


def panels(table: Compared) -> list[Panel]:
    """What the picture shows, as numbers. Members without a finished run are left out."""
    shown = [member for member in table.members if member.scores]
    made = [_panel(table.baseline, shown, metric, None) for metric in METRICS]
    for suite in table.suites:
        made += [_panel(table.baseline, suite.members, metric, suite.suite) for metric in suite.metrics]
    return made


def draw(table: Compared, shown: Sequence[Panel], path: Path) -> None:
    """The picture as PNG, panels in rows of three. Equal values give equal bytes."""
    # Costs a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, lines = -(-len(shown) // _COLUMNS), max(len(panel.marks) for panel in shown)
    size = (4.2 * _COLUMNS, 0.6 + rows * (1.0 + 0.42 * lines))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, panel in zip(places, shown, strict=False):
        _draw_panel(axes, panel)
    for place, axes in enumerate(places):
        if place >= len(shown):
            axes.set_axis_off()
        elif place % _COLUMNS:
            axes.set_yticklabels([])
    told = "mean with 95 % bootstrap interval over rows; small dots: single seeds"
    figure.suptitle(f"{table.rows:,} test rows; {table.budget}\n{told}", color=_INK, fontsize=10)
    # No version and no date in the file.
    figure.savefig(path, dpi=min(_DPI, _MOST_PIXELS / max(size)), metadata={"Software": None})


def _panel(baseline: str, members: Sequence[ComparedMember | SuiteMember], metric: str, suite: str | None) -> Panel:
    ends = next((member for member in members if member.label == baseline), members[0])
    name = _TITLES.get(metric, metric)
    return Panel(
        metric=metric,
        title=name if suite is None else f"{suite}: {name}",
        marks=tuple(_mark(member, metric, baseline) for member in members),
        teacher=ends.teacher.get(metric),
        untouched=ends.untouched.get(metric),
        suite=suite,
    )


def _mark(member: ComparedMember | SuiteMember, metric: str, baseline: str) -> Mark:
    score = member.scores[metric]
    return Mark(
        label=member.label,
        mean=score.mean,
        interval=score.row_interval,
        by_seed=score.by_seed,
        baseline=member.label == baseline,
    )


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=_INK, left=False)
    for value, name in ((panel.teacher, "teacher"), (panel.untouched, "untouched student")):
        if value is not None:
            axes.axvline(value, color=_BOUND, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(name, (value, 1.0), (2, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                          color=_BOUND, fontsize=7, rotation=30)  # fmt: skip
    for place, mark in enumerate(panel.marks):
        colour = _BASELINE if mark.baseline else _MEMBER
        axes.scatter(mark.by_seed, [place] * len(mark.by_seed), color=_SEED, s=14, zorder=2)
        axes.hlines(place, *mark.interval, color=colour, linewidth=1.6, zorder=3)
        axes.scatter([mark.mean], [place], color=colour, s=34, zorder=4)
    axes.set_yticks(range(len(panel.marks)), [mark.label for mark in panel.marks])
    axes.set_ylim(len(panel.marks) - 0.5, -0.5)
    axes.set_xlabel(panel.title, color=_INK)
