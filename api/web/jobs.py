"""Pages of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.deps import Cursor, JobId, Known
from api.jobs import service
from api.web.pages import PageRoute, page
from api.web.visits import Visitor

router = APIRouter(include_in_schema=False, route_class=PageRoute)

JOBS_A_PAGE = 25


@router.get("/")
def list_jobs(request: Request, visit: Visitor, known: Known, cursor: Cursor = None) -> Response:
    """Jobs, newest first."""
    with known.reading() as session:
        found = service.page(session, visit.identity.tenant_id, state=None, limit=JOBS_A_PAGE, cursor=cursor)
    return page(request, "jobs.html", visit=visit, jobs=found)


@router.get("/jobs/{job_id}")
def show_job(request: Request, visit: Visitor, known: Known, job_id: JobId) -> Response:
    """A job."""
    with known.reading() as session:
        found = service.get(session, visit.identity.tenant_id, job_id)
    return page(request, "job.html", visit=visit, job=found)
