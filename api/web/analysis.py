"""Pages of what a job has found out: its difficulty profile, its quality, the answers side by side, and each figure's numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api.artifacts import samples
from api.artifacts.schemas import Change
from api.core.errors import ArtifactNotReady
from api.deps import Cursor, JobId, Known
from api.events import service as events
from api.jobs import service as jobs
from api.reports import sending
from api.reports import service as reports
from api.reports.service import Form, ReportFormat
from api.web import drawing
from api.web.drawing import JobFigure
from api.web.figure_answers import answer
from api.web.live_figures import Across
from api.web.pages import PageRoute, page
from api.web.quality_figures import flips
from api.web.visits import Visitor
from cpd_engine.events import Evaluated

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ANSWERS_A_PAGE = 10
As = Annotated[Literal["table"] | None, Query(alias="as")]
Suite = Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


@router.get("/jobs/{job_id}/difficulty")
def show_difficulty(request: Request, visit: Visitor, known: Known, job_id: JobId) -> Response:
    """How hard the samples are, and what the curriculum made of that."""
    tenant_id = visit.identity.tenant_id
    with known.reading() as session:
        job = jobs.get(session, tenant_id, job_id)
        try:
            ready = events.difficulty(session, tenant_id, job_id)
        except ArtifactNotReady:
            ready = None
    return page(request, "difficulty.html", visit=visit, job=job, ready=ready)


@router.get("/jobs/{job_id}/quality")
def show_quality(request: Request, visit: Visitor, known: Known, job_id: JobId) -> Response:
    """What the models are worth, and what distillation changed."""
    tenant_id = visit.identity.tenant_id
    with known.reading() as session:
        job = jobs.get(session, tenant_id, job_id)
        found = events.evaluation(session, tenant_id, job_id)
    changes = flips(found.report) if found.report is not None else []
    return page(request, "quality.html", visit=visit, job=job, found=found, flips=changes)


@router.get("/jobs/{job_id}/report")
def show_report(
    request: Request, visit: Visitor, known: Known, job_id: JobId, form: Form = ReportFormat.HTML
) -> Response:
    """All of it on one page that can be sent on."""
    found = reports.of_job(known.reading, known.store, visit.identity.tenant_id, job_id, form, known.settings)
    return sending.answer(request, found)


@router.get("/jobs/{job_id}/answers")
def show_answers(
    request: Request,
    visit: Visitor,
    known: Known,
    job_id: JobId,
    suite: Suite = None,
    changed: Change | None = None,
    cursor: Cursor = None,
) -> Response:
    """What every model answered, side by side."""
    tenant_id = visit.identity.tenant_id
    with known.reading() as session:
        job = jobs.get(session, tenant_id, job_id)
        evaluation = events.evaluation(session, tenant_id, job_id)
        answers = _answers(session, tenant_id, job_id, suite)
    report, found = evaluation.report, None
    if answers is not None:
        content = answers.content(known.store)
        found = samples.page(content, limit=ANSWERS_A_PAGE, cursor=cursor, changed=changed)
    suites = [one.suite for one in report.suites] if report is not None else []
    told: dict[str, Any] = {"suite": suite, "changed": changed, "suites": suites, "samples": found}
    # On the first page alone: of the others everybody knows what they asked for.
    pinned = pinned_rows(evaluation.scores) if (suite, changed, cursor) == (None, None, None) else []
    return page(request, "answers.html", visit=visit, job=job, pinned=pinned, **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A validation row and what the student answered to it, by epoch."""

    row: str
    prompt: str
    reference: str
    answers: dict[int, str]


def pinned_rows(scores: Iterable[Evaluated]) -> list[Pinned]:
    """The rows whose answers were told at every validation, in their order."""
    found: dict[str, Pinned] = {}
    told = (one for one in scores if one.subject == "student" and one.epoch is not None)
    for score in sorted(told, key=lambda one: one.epoch or 0):
        for one in score.answers:
            first = Pinned(row=one.row, prompt=one.prompt, reference=one.reference, answers={})
            found.setdefault(one.row, first).answers[score.epoch or 0] = one.answer
    return list(found.values())


def _answers(session: Session, tenant_id: str, job_id: str, suite: str | None) -> samples.Answers | None:
    try:
        return samples.find(session, tenant_id, job_id, suite)
    except ArtifactNotReady:
        return None


@router.get("/jobs/{job_id}/figures/{name}")
def show_job_figure(
    request: Request,
    visit: Visitor,
    known: Known,
    job_id: JobId,
    name: JobFigure,
    form: As = None,
    across: Annotated[Across, Query(alias="x")] = Across.STEP,
) -> Response:
    """A figure for the script that draws it, or its numbers. No content before there is any: a page may ask early."""
    with known.reading() as session:
        try:
            made = drawing.of_job(session, visit.identity.tenant_id, job_id, name, across)
        except ArtifactNotReady:
            if form is None:
                return Response(status_code=204)
            raise
    return answer(request, visit, made, form=form, back=f"/jobs/{job_id}")
