"""The routes of reports."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.auth import Reader
from api.core.errors import ArtifactNotReady, NotFound, RangeNotSatisfiable, StorageUnavailable, ValidationFailed
from api.deps import ComparisonId, JobId, Known
from api.downloads import declared_bytes
from api.problems import declared
from api.reports import service
from api.reports.sending import answer
from api.reports.service import Form, ReportFormat

router = APIRouter(prefix="/v1", tags=["reports"])

_RESPONSES = {
    **declared_bytes("text/html", "text/markdown"),
    **declared(NotFound, ArtifactNotReady, StorageUnavailable, RangeNotSatisfiable, ValidationFailed),
}


@router.head("/jobs/{job_id}/report", include_in_schema=False)
@router.get("/jobs/{job_id}/report", response_class=Response, responses=_RESPONSES)
def get_job_report(
    request: Request, who: Reader, known: Known, job_id: JobId, form: Form = ReportFormat.HTML
) -> Response:
    """What a job did, whether it helped, where it did harm, what it cost and how to do it again, for people, as one file."""
    content = service.of_job(known.reading, known.store, who.tenant_id, job_id, form, known.settings)
    return answer(request, content)


@router.head("/comparisons/{comparison_id}/report", include_in_schema=False)
@router.get("/comparisons/{comparison_id}/report", response_class=Response, responses=_RESPONSES)
def get_comparison_report(
    request: Request, who: Reader, known: Known, comparison_id: ComparisonId, form: Form = ReportFormat.HTML
) -> Response:
    """What a comparison's members did, which of them was better and by how much, and what each took, for people, as one file."""
    with known.reading() as session:
        content = service.of_comparison(session, who.tenant_id, comparison_id, form, known.settings)
        return answer(request, content)
