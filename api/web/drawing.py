"""Figures by name, drawn from what the service keeps: the same for the API, the pages and whatever is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import plotly.graph_objects as go
from sqlalchemy.orm import Session

from api.comparisons import service as comparisons
from api.comparisons.schemas import ComparisonView
from api.core.errors import ArtifactNotReady
from api.core.settings import Settings
from api.events import service as events
from api.events.schemas import PointView
from api.jobs import service as jobs
from api.jobs.costs import price_of
from api.jobs.schemas import HOUR_S, Price
from api.web import comparison_figures, difficulty_figures, live_figures, overlaid_figures, quality_figures
from api.web.comparison_figures import Spent
from api.web.figures import FigureView, view
from api.web.live_figures import Across, Run
from cpd_engine.config import ResourceSpec
from cpd_engine.events import Compared, Evaluated, ProfileReady, Reported


class JobFigure(StrEnum):
    """What there is to see of a job."""

    LOSS = "loss"
    COURSE = "course"
    SPEED = "speed"
    PROFILE = "profile"
    HISTOGRAM = "histogram"
    SCHEDULE = "schedule"
    QUALITY = "quality"
    CHANGES = "changes"


class ComparisonFigure(StrEnum):
    """What there is to see of a comparison."""

    METHODS = "methods"
    TRADEOFF = "tradeoff"
    LOSSES = "losses"


_OF_PROFILE: dict[JobFigure, Callable[[ProfileReady], go.Figure]] = {
    JobFigure.PROFILE: difficulty_figures.profile,
    JobFigure.HISTOGRAM: difficulty_figures.histogram,
    JobFigure.SCHEDULE: difficulty_figures.schedule,
}
_OF_REPORT: dict[JobFigure, Callable[[Reported], go.Figure]] = {
    JobFigure.QUALITY: quality_figures.quality,
    JobFigure.CHANGES: quality_figures.changes,
}


_OF_RUN: dict[JobFigure, Callable[[Run], go.Figure]] = {
    JobFigure.LOSS: live_figures.loss,
    JobFigure.COURSE: live_figures.course,
    JobFigure.SPEED: live_figures.speed,
}
_SERIES: dict[JobFigure, tuple[str, ...]] = {
    JobFigure.LOSS: (*live_figures.LOSSES, live_figures.VALIDATION),
    JobFigure.COURSE: live_figures.COURSE,
    JobFigure.SPEED: live_figures.SPEED,
}
# More than a wide screen has pixels for a line; extremes stay.
_POINTS = 1500
# Of each of several lines, and how many of them anybody can tell apart.
_POINTS_EACH = 300
_RUNS = 36


def of_job(session: Session, tenant_id: str, job_id: str, name: JobFigure, across: Across = Across.STEP) -> FigureView:
    """Raises NotFound, and ArtifactNotReady before there is anything to draw. `across` is of the figures of a run alone."""
    if name in _OF_RUN:
        return view(_OF_RUN[name](_run(session, tenant_id, job_id, name, across)))
    if name in _OF_PROFILE:
        return view(_OF_PROFILE[name](events.difficulty(session, tenant_id, job_id)))
    report = events.evaluation(session, tenant_id, job_id).report
    if report is None:
        raise ArtifactNotReady("The job has not evaluated yet; its scores come with the report.")
    return view(_OF_REPORT[name](report))


def _run(session: Session, tenant_id: str, job_id: str, name: JobFigure, across: Across) -> Run:
    series = {one: _points(session, tenant_id, job_id, one) for one in _SERIES[name]}
    if not any(series.values()):
        raise ArtifactNotReady("The student has not taken a step yet.")
    scores = events.evaluation(session, tenant_id, job_id).scores if name is JobFigure.LOSS else []
    return Run(
        across=across,
        series=series,
        epochs=events.epochs(session, tenant_id, job_id) if name is JobFigure.COURSE else (),
        tokens=_tokens(session, tenant_id, job_id, across),
        ends=_ends(scores),
    )


def _tokens(session: Session, tenant_id: str, job_id: str, across: Across) -> Sequence[PointView]:
    if across is not Across.TOKENS:
        return ()
    return live_figures.cumulative(_points(session, tenant_id, job_id, live_figures.TOKENS, None))


def _ends(scores: Iterable[Evaluated]) -> dict[int, int]:
    """After which step an epoch of the student was validated."""
    return {
        one.epoch: one.step
        for one in scores
        if (one.subject, one.split) == ("student", "validation") and one.epoch is not None and one.step is not None
    }


def of_jobs(session: Session, tenant_id: str, labels: Mapping[str, str], across: Across = Across.STEP) -> FigureView:
    """The cross-entropies of jobs, by id, under their labels. Raises NotFound, and ArtifactNotReady before any has taken a step."""
    runs = []
    for job_id, label in [*labels.items()][:_RUNS]:
        names = (overlaid_figures.CROSS_ENTROPY, live_figures.VALIDATION)
        series = {name: _points(session, tenant_id, job_id, name, _POINTS_EACH) for name in names}
        if any(series.values()):
            ends = _ends(events.evaluation(session, tenant_id, job_id).scores)
            tokens = _tokens(session, tenant_id, job_id, across)
            runs.append((label, Run(across=across, series=series, tokens=tokens, ends=ends)))
    if not runs:
        raise ArtifactNotReady("None of the students has taken a step yet.")
    return view(overlaid_figures.losses(runs, across))


def _points(session: Session, tenant_id: str, job_id: str, name: str, limit: int | None = _POINTS) -> list[PointView]:
    found = events.series(session, tenant_id, job_id, name=name, points=limit)
    return found.data[0].points if found.data else []


def of_comparison(
    session: Session, tenant_id: str, comparison_id: str, name: ComparisonFigure, settings: Settings
) -> FigureView:
    """Raises NotFound, and ArtifactNotReady before the comparison has its table, or any step for `losses`."""
    found = comparisons.get(session, tenant_id, comparison_id)
    if name is ComparisonFigure.LOSSES:
        return of_jobs(session, tenant_id, {run.job: one.label for one in found.members for run in one.runs})
    if found.table is None:
        raise ArtifactNotReady("The comparison has no table yet; it is made when its last job has ended.")
    if name is ComparisonFigure.METHODS:
        return view(comparison_figures.methods(found.table))
    return view(_tradeoff(session, tenant_id, found, found.table, settings))


def _tradeoff(
    session: Session, tenant_id: str, found: ComparisonView, table: Compared, settings: Settings
) -> go.Figure:
    by_job = {run.job: member.label for member in found.members for run in member.runs}
    sizes = events.parameters(session, tenant_id, list(by_job))
    shown = jobs.several(session, tenant_id, list(by_job))
    prices = {
        by_job[job_id]: price_of(ResourceSpec.model_validate(job.resolved.get("resources") or {}), settings)
        for job_id, job in shown.items()
    }
    return comparison_figures.tradeoff(
        table,
        parameters={by_job[job_id]: size for job_id, size in sizes.items()},
        spent=_spent(table, {label: price for label, price in prices.items() if price is not None}),
    )


def _spent(table: Compared, prices: Mapping[str, Price]) -> Spent:
    """Money where the operator has named a price, else hours."""
    seconds = {member.label: member.costs.worker_s for member in table.members if member.costs.worker_s is not None}
    if not prices:
        hours = {label: taken_s / HOUR_S for label, taken_s in seconds.items()}
        return Spent(by_label=hours, axis="hours of a run on a worker", unit="h")
    unit = next(iter(prices.values())).currency
    money = {label: prices[label].of(taken_s) for label, taken_s in seconds.items() if label in prices}
    return Spent(by_label=money, axis=f"cost of a run, {unit}", unit=unit)
