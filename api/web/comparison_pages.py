"""Pages of comparisons: the list, and one with its table and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.comparisons import service
from api.core.errors import ArtifactNotReady
from api.deps import ComparisonId, Cursor, Known
from api.jobs.states import TERMINAL
from api.reports import sending
from api.reports import service as reports
from api.reports.service import Form, ReportFormat
from api.web import drawing
from api.web.comparison_figures import is_significant
from api.web.drawing import ComparisonFigure
from api.web.figure_answers import answer
from api.web.pages import PageRoute, page, redirect
from api.web.quality_figures import METRICS
from api.web.visits import Actor, Visitor

router = APIRouter(include_in_schema=False, route_class=PageRoute)

COMPARISONS_A_PAGE = 25
As = Annotated[Literal["table"] | None, Query(alias="as")]


@router.get("/comparisons")
def list_comparisons(request: Request, visit: Visitor, known: Known, cursor: Cursor = None) -> Response:
    """Comparisons, newest first."""
    with known.reading() as session:
        found = service.page(session, visit.identity.tenant_id, limit=COMPARISONS_A_PAGE, cursor=cursor)
    return page(request, "comparisons.html", visit=visit, comparisons=found)


@router.get("/comparisons/{comparison_id}")
def show_comparison(request: Request, visit: Visitor, known: Known, comparison_id: ComparisonId) -> Response:
    """A comparison with its members' jobs and, once it is made, its table."""
    with known.reading() as session:
        found = service.get(session, visit.identity.tenant_id, comparison_id)
    return page(
        request,
        "comparison.html",
        visit=visit,
        comparison=found,
        metrics=METRICS,
        is_significant=is_significant,
        over=found.state in TERMINAL,
    )


@router.get("/comparisons/{comparison_id}/report")
def show_report(
    request: Request, visit: Visitor, known: Known, comparison_id: ComparisonId, form: Form = ReportFormat.HTML
) -> Response:
    """All of it on one page that can be sent on."""
    with known.reading() as session:
        found = reports.of_comparison(session, visit.identity.tenant_id, comparison_id, form, known.settings)
        return sending.answer(request, found)


@router.post("/comparisons/{comparison_id}/cancel")
def cancel_comparison(visit: Actor, known: Known, comparison_id: ComparisonId) -> Response:
    """Cancel every job of it that has not ended."""
    with known.writing() as session:
        service.cancel(session, visit.identity.tenant_id, comparison_id)
    return redirect(f"/comparisons/{comparison_id}")


@router.get("/comparisons/{comparison_id}/figures/{name}")
def show_comparison_figure(
    request: Request,
    visit: Visitor,
    known: Known,
    comparison_id: ComparisonId,
    name: ComparisonFigure,
    form: As = None,
) -> Response:
    """A figure for the script that draws it, or its numbers. No content before there is any: a page may ask early."""
    with known.reading() as session:
        try:
            made = drawing.of_comparison(session, visit.identity.tenant_id, comparison_id, name, known.settings)
        except ArtifactNotReady:
            if form is None:
                return Response(status_code=204)
            raise
    return answer(request, visit, made, form=form, back=f"/comparisons/{comparison_id}")
