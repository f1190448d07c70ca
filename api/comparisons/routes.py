"""The routes of comparisons."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Reader, Writer
from api.bodies import JSON_BODY_ERRORS, Sent, json_body, json_body_schema
from api.comparisons import figures, service
from api.comparisons.schemas import ComparisonPage, ComparisonSpec, ComparisonView, SubmittedComparison
from api.core.errors import (
    ArtifactExpired,
    ArtifactNotReady,
    ComparisonAlreadyFinished,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    NotFound,
    QuotaExceeded,
    RangeNotSatisfiable,
    StorageUnavailable,
    TableNotDue,
    ValidationFailed,
)
from api.deps import ComparisonId, Cursor, Known, Limit
from api.downloads import declared_bytes, send
from api.jobs.routes import EXAMPLE as JOB
from api.jobs.routes import Key
from api.problems import declared

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])

Spec = Annotated[Sent[ComparisonSpec], Depends(json_body(ComparisonSpec))]

LOCATED: dict[str, Any] = {
    "headers": {"Location": {"description": "The comparison's address.", "schema": {"type": "string"}}}
}
EXAMPLE: dict[str, Any] = {
    "base": {name: JOB[name] for name in ("teacher", "student", "dataset")},
    "members": [{"label": preset, "set": {"preset": preset}} for preset in ("kld", "cpd")],
    "seeds": [0, 1],
}
SUBMITTED: dict[int | str, dict[str, Any]] = {
    202: LOCATED,
    **declared(*JSON_BODY_ERRORS, QuotaExceeded, IdempotencyKeyReused, IdempotencyInFlight),
}
FILE_ERRORS = declared(NotFound, ArtifactNotReady, ArtifactExpired, StorageUnavailable, RangeNotSatisfiable)


@router.post("", status_code=202, openapi_extra=json_body_schema(ComparisonSpec, EXAMPLE), responses=SUBMITTED)
def submit_comparison(
    who: Writer, known: Known, spec: Spec, response: Response, idempotency_key: Key = None
) -> SubmittedComparison:
    """Queue several methods, students or settings over several seeds, each as a job, on the same data and budget."""
    with known.queueing() as session:
        submission = service.Submission(spec=spec.value, sha256=spec.sha256, key=idempotency_key)
        made = service.submit(session, who.tenant_id, submission, known.settings)
        response.headers["Location"] = f"/v1/comparisons/{made.id}"
        return made


@router.get("", responses=declared(ValidationFailed))
def list_comparisons(who: Reader, known: Known, limit: Limit, cursor: Cursor = None) -> ComparisonPage:
    """Comparisons, newest first."""
    with known.reading() as session:
        return service.page(session, who.tenant_id, limit=limit, cursor=cursor)


@router.get("/{comparison_id}", responses=declared(NotFound))
def get_comparison(who: Reader, known: Known, comparison_id: ComparisonId) -> ComparisonView:
    """A comparison: its state, every member's jobs with their progress, means so far, and at the end the table."""
    with known.reading() as session:
        return service.get(session, who.tenant_id, comparison_id)


@router.post("/{comparison_id}/cancel", responses=declared(NotFound, ComparisonAlreadyFinished))
def cancel_comparison(who: Writer, known: Known, comparison_id: ComparisonId) -> ComparisonView:
    """Cancel every job of the comparison that has not ended. What others have made is kept; there will be no table."""
    with known.writing() as session:
        return service.cancel(session, who.tenant_id, comparison_id)


@router.post(
    "/{comparison_id}/table",
    status_code=202,
    responses={202: LOCATED, **declared(NotFound, TableNotDue, ComparisonAlreadyFinished)},
)
def make_table(who: Writer, known: Known, comparison_id: ComparisonId, response: Response) -> ComparisonView:
    """Have a table that failed made again of what the jobs have left. One that is there, or on its way, stays as it is."""
    with known.queueing() as session:
        made = service.retable(session, who.tenant_id, comparison_id)
        response.headers["Location"] = f"/v1/comparisons/{made.id}"
        return made


@router.head("/{comparison_id}/figure.png", include_in_schema=False)
@router.get(
    "/{comparison_id}/figure.png", response_class=Response, responses={**declared_bytes("image/png"), **FILE_ERRORS}
)
def get_figure(request: Request, who: Reader, known: Known, comparison_id: ComparisonId) -> Response:
    """The table as a picture: every member's mean with its interval, and its seeds."""
    with known.reading() as session:
        table = figures.find_table(session, who.tenant_id, comparison_id)
    return send(request, figures.picture(known.store, table, comparison_id))


@router.head("/{comparison_id}/figure.json", include_in_schema=False)
@router.get(
    "/{comparison_id}/figure.json",
    response_class=Response,
    responses={**declared_bytes("application/json"), **FILE_ERRORS},
)
def get_figure_data(request: Request, who: Reader, known: Known, comparison_id: ComparisonId) -> Response:
    """The numbers of the picture."""
    with known.reading() as session:
        table = figures.find_table(session, who.tenant_id, comparison_id)
    return send(request, figures.numbers(known.store, table, comparison_id))
