"""Reports as they are asked for: of a job or a comparison, as a page or as a text. Every function takes the tenant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import plotly.graph_objects as go
from fastapi import Query
from sqlalchemy.orm import Session

from api.core.errors import ArtifactNotReady, NotFound
from api.core.settings import Settings
from api.core.storage import Store
from api.downloads import Content
from api.jobs.costs import price_of
from api.jobs.schemas import Price
from api.jobs.states import TERMINAL, JobKind
from api.reports import html, markdown
from api.reports.blocks import Picture, Report
from api.reports.comparison_facts import ComparisonFacts
from api.reports.comparison_facts import gather as gather_comparison
from api.reports.comparison_report import comparison_report
from api.reports.job_facts import Reading, gather
from api.reports.job_report import job_report
from api.web import difficulty_figures, quality_figures
from api.web.comparison_figures import methods
from api.web.figures import view


class ReportFormat(StrEnum):
    """One page that wants nothing from anywhere, or a text."""

    HTML = "html"
    MARKDOWN = "markdown"


Form = Annotated[
    ReportFormat, Query(alias="format", description="A page that wants nothing from anywhere, or Markdown.")
]
_RENDERERS: dict[ReportFormat, tuple[Callable[[Report], str], str, str]] = {
    ReportFormat.HTML: (html.render, "text/html; charset=utf-8", "html"),
    ReportFormat.MARKDOWN: (markdown.render, "text/markdown; charset=utf-8", "md"),
}


def of_job(
    reading: Reading, store: Store, tenant_id: str, job_id: str, form: ReportFormat, settings: Settings
) -> Content:
    """Opens its session itself, for the store is asked when that is over.

    Raises NotFound, and ArtifactNotReady for a job that has not evaluated and is not over.
    """
    facts = gather(reading, store, tenant_id, job_id)
    if facts.job.kind is not JobKind.DISTILLATION:
        raise NotFound(
            "Reports are of distillations: a probe ends with its forecast, a table is part of its comparison."
        )
    if facts.report is None and facts.job.state not in TERMINAL:
        raise ArtifactNotReady("The job has not evaluated yet; its report comes with its scores.")
    profile, scores = [], []
    if facts.profile is not None:
        profile = [difficulty_figures.profile(facts.profile), difficulty_figures.schedule(facts.profile)]
    if facts.report is not None:
        scores = [quality_figures.quality(facts.report)]
        scores += [quality_figures.changes(facts.report)] if quality_figures.flips(facts.report) else []
    price = price_of(facts.config.resources, settings)
    money = None if price is None else _money(price.of(facts.spent.worker_s), price)
    made = job_report(facts, money=money, profile=_pictures(profile), scores=_pictures(scores))
    return _content(made, form)


def of_comparison(
    session: Session, tenant_id: str, comparison_id: str, form: ReportFormat, settings: Settings
) -> Content:
    """Raises NotFound, and ArtifactNotReady for a comparison that has no table and is not over."""
    facts = gather_comparison(session, tenant_id, comparison_id)
    table = facts.view.table
    if table is None and facts.view.state not in TERMINAL:
        raise ArtifactNotReady("The comparison has no table yet; its report comes with it.")
    scored = table is not None and any(member.scores for member in table.members)
    pictures = _pictures([methods(table)]) if table is not None and scored else []
    return _content(comparison_report(facts, money=_all_runs(facts, settings), pictures=pictures), form)


def _pictures(figures: Sequence[go.Figure]) -> list[Picture]:
    views = [view(figure) for figure in figures]
    return [Picture(data=one.data, layout=one.layout) for one in views]


def _money(amount: float, price: Price) -> str:
    held = f"{price.gpus} GPU{'' if price.gpus == 1 else 's'}"
    return f"{amount:,.2f} {price.currency} for {held} at {price.per_gpu_hour:g} {price.currency} an hour each"


def _all_runs(facts: ComparisonFacts, settings: Settings) -> str | None:
    """Of those that finished; None without a price, or where no run told its time."""
    spent, currency = 0.0, None
    for member in () if facts.view.table is None else facts.view.table.members:
        price = price_of(facts.configs[member.label].resources, settings)
        if price is not None and member.costs.worker_s is not None:
            spent, currency = spent + price.of(member.costs.worker_s) * len(member.seeds), price.currency
    return None if currency is None else f"{spent:,.2f} {currency}"


def _content(report: Report, form: ReportFormat) -> Content:
    render, media_type, ending = _RENDERERS[form]
    body = render(report).encode("utf-8", errors="replace")

    def read(start: int, stop: int) -> Iterator[bytes]:
        yield body[start:stop]

    return Content(
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        filename=f"{report.about}-report.{ending}",
        media_type=media_type,
        read=read,
        inline=True,
    )
