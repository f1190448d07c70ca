"""Pages of jobs: the list, one job live, several side by side, and what may be done with one."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BeforeValidator, StringConstraints

from api.artifacts import service as artifacts
from api.artifacts.schemas import Format
from api.core.errors import ArtifactNotReady
from api.deps import Cursor, JobId, Known, Resources
from api.downloads import send
from api.events.permits import Permit
from api.events.routes import event_stream
from api.events.schemas import EVENT_MODELS, Seq
from api.jobs import service
from api.jobs.costs import price_of
from api.jobs.states import JobState
from api.web import drawing, job_views, sessions
from api.web.figure_answers import answer
from api.web.job_lists import Filters, comparable, lines, log
from api.web.live_figures import Across
from api.web.pages import PageRoute, page, redirect
from api.web.visits import COOKIE, Actor, Visitor
from cpd_engine.config import ResourceSpec

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MOST_COMPARED = 6
FILES_A_PAGE = 20


# A field of a form that is left empty is sent as empty.
Words = Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")]
Id = Annotated[str, StringConstraints(max_length=40, pattern=r"^[A-Za-z0-9_]+$")]
State = Annotated[JobState | None, BeforeValidator(lambda given: given or None)]
LastEventId = Annotated[Seq | None, Header(alias="Last-Event-ID")]


def _filters(state: State = None, name: Words = "", preset: Words = "") -> Filters:
    return Filters(state=state, name=name or None, preset=preset or None)


@router.get("/")
def list_jobs(
    request: Request,
    visit: Visitor,
    known: Known,
    filters: Annotated[Filters, Depends(_filters)],
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first."""
    with known.reading() as session:
        shown, following = lines(session, visit.identity.tenant_id, filters, cursor=cursor, settings=known.settings)
    query = urlencode(filters.given())
    return page(
        request,
        "jobs.html",
        visit=visit,
        lines=shown,
        filters=filters,
        next_page=f"/?{query}&cursor={following}" if following else None,
        is_first=cursor is None,
        is_moving=any(not job_views.is_over(line.job) for line in shown),
    )


@router.get("/jobs")
def find_list() -> Response:
    """Who takes the last part off a job's address wants the list."""
    return redirect("/")


@router.get("/compare")
def compare_jobs(
    request: Request,
    visit: Visitor,
    known: Known,
    job: Annotated[list[Id] | None, Query(max_length=MOST_COMPARED)] = None,
) -> Response:
    """Jobs side by side: what they were told and what came of it."""
    with known.reading() as session:
        found = comparable(session, visit.identity.tenant_id, job or [], known.settings)
    return page(
        request, "compare.html", visit=visit, lines=found, rows=job_views.differing([line.job for line in found])
    )


@router.get("/compare/losses")
def show_losses(
    request: Request,
    visit: Visitor,
    known: Known,
    job: Annotated[list[Id], Query(min_length=1, max_length=MOST_COMPARED)],
    form: Annotated[Literal["table"] | None, Query(alias="as")] = None,
) -> Response:
    """The losses of jobs in one figure. No content before any of them has taken a step: a page may ask early."""
    tenant_id = visit.identity.tenant_id
    with known.reading() as session:
        found = service.several(session, tenant_id, job)
        labels = {one: found[one].name or one for one in job if one in found}
        # Two jobs may have the same name; each is a line of its own here.
        distinct = {
            one: f"{label} {one[-6:]}" if [*labels.values()].count(label) > 1 else label
            for one, label in labels.items()
        }
        try:
            made = drawing.of_jobs(session, tenant_id, distinct)
        except ArtifactNotReady:
            if form is None:
                return Response(status_code=204)
            raise
    return answer(request, visit, made, form=form, back="/compare?" + urlencode([("job", one) for one in job]))


@router.get("/jobs/{job_id}")
def show_job(
    request: Request,
    visit: Visitor,
    known: Known,
    job_id: JobId,
    across: Annotated[Across, Query(alias="x")] = Across.STEP,
    before: Seq | None = None,
) -> Response:
    """A job: where it stands, its figures, what it said, its files, and how to make it again."""
    tenant_id = visit.identity.tenant_id
    with known.reading() as session:
        job = service.get(session, tenant_id, job_id)
        told = log(session, tenant_id, job_id, before=before)
        files = artifacts.page(session, tenant_id, job_id, limit=FILES_A_PAGE, cursor=None)
        settings = known.settings
        url = str(request.base_url).rstrip("/")
        return page(
            request,
            "job.html",
            visit=visit,
            job=job,
            steps=job_views.steps(job),
            pulse=job_views.pulse(job, heartbeat_s=settings.heartbeat_s, lease_s=settings.lease_s),
            is_over=job_views.is_over(job),
            log=told,
            files=files.data,
            across=across,
            may_write=visit.identity.may("write"),
            price=price_of(ResourceSpec.model_validate(job.resolved.get("resources") or {}), settings),
            kinds=EVENT_MODELS,
            last_seq=service.last_seq(session, tenant_id, job_id),
            spec=job_views.spec_text(job.spec),
            curl=job_views.curl_lines(url, job.spec),
            python=job_views.python_lines(url, job.spec),
        )


@router.get("/jobs/{job_id}/stream")
def stream_job(
    request: Request,
    visit: Visitor,
    known: Known,
    job_id: JobId,
    after: Seq = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """The job's events as they come, while the session and its key last."""
    with known.reading() as session:
        newest = service.last_seq(session, visit.identity.tenant_id, job_id)
    start = after if last_event_id is None else last_event_id
    token = request.cookies[COOKIE]
    permit = Permit(who=("visit", token), ask=partial(_still_visits, known, token))
    return event_stream(known, job_id, start, newest, permit)


def _still_visits(known: Resources, token: str) -> bool:
    with known.reading() as session:
        return sessions.visit(session, token) is not None


@router.post("/jobs/{job_id}/cancel")
def cancel_job(visit: Actor, known: Known, job_id: JobId) -> Response:
    """Cancel, and show the job."""
    with known.writing() as session:
        service.cancel(session, visit.identity.tenant_id, job_id)
    return redirect(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/pause")
def pause_job(visit: Actor, known: Known, job_id: JobId) -> Response:
    """Pause, and show the job."""
    with known.writing() as session:
        service.pause(session, visit.identity.tenant_id, job_id)
    return redirect(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/resume")
def resume_job(visit: Actor, known: Known, job_id: JobId) -> Response:
    """Resume, and show the job."""
    with known.queueing() as session:
        service.resume(session, visit.identity.tenant_id, job_id)
    return redirect(f"/jobs/{job_id}")


@router.get("/jobs/{job_id}/checkpoints/{name}/download")
def download_checkpoint(
    request: Request,
    visit: Visitor,
    known: Known,
    job_id: JobId,
    name: str,
    which: Annotated[Format, Query(alias="format")] = "merged",
) -> Response:
    """A checkpoint as one tar archive, as /v1 sends it."""
    with known.reading() as session:
        found = artifacts.find(session, visit.identity.tenant_id, job_id, name)
    return send(request, artifacts.archive_content(known.store, found, which))


@router.get("/jobs/{job_id}/checkpoints/{name}/files/{path:path}")
def download_file(request: Request, visit: Visitor, known: Known, job_id: JobId, name: str, path: str) -> Response:
    """One file of a checkpoint."""
    with known.reading() as session:
        found = artifacts.find(session, visit.identity.tenant_id, job_id, name)
    return send(request, artifacts.file_content(known.store, found, path))
