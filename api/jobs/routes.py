"""The routes of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from api.auth import Reader, Writer
from api.bodies import JSON_BODY_ERRORS, Sent, json_body, json_body_schema
from api.core.errors import (
    IdempotencyInFlight,
    IdempotencyKeyReused,
    JobAlreadyFinished,
    JobBeingCancelled,
    NotFound,
    QuotaExceeded,
    ValidationFailed,
)
from api.deps import Cursor, JobId, Known, Limit
from api.jobs import admission, service
from api.jobs.schemas import Estimate, JobPage, JobView, SubmittedJob
from api.jobs.states import JobKind, JobState
from api.problems import declared
from cpd_engine.config import RunConfig

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Spec = Annotated[Sent[RunConfig], Depends(json_body(RunConfig))]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Sent again with the same key and body, the request gives the first one's job instead of another.",
    ),
]


# Runs anywhere: fresh models, and rows that the engine makes itself.
EXAMPLE: dict[str, Any] = {
    "preset": "cpd",
    "teacher": {"tiny": "gpt2"},
    "student": {"from": "teacher", "drop_layers": 1},
    "dataset": {"synthetic": {"rows": 1200}},
}
SUBMITTED: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}},
    **declared(*JSON_BODY_ERRORS, QuotaExceeded, IdempotencyKeyReused, IdempotencyInFlight),
}


@router.post("", status_code=202, openapi_extra=json_body_schema(RunConfig, EXAMPLE), responses=SUBMITTED)
def submit_job(who: Writer, known: Known, spec: Spec, response: Response, idempotency_key: Key = None) -> SubmittedJob:
    """Validate and queue a distillation."""
    return _submitted(JobKind.DISTILLATION, who, known, spec, response, idempotency_key)


@router.post("/probe", status_code=202, openapi_extra=json_body_schema(RunConfig, EXAMPLE), responses=SUBMITTED)
def probe_job(who: Writer, known: Known, spec: Spec, response: Response, idempotency_key: Key = None) -> SubmittedJob:
    """Queue the forecast of a distillation: a worker prepares its data and models, times a few steps and keeps only what it tells.

    The job succeeds with a `forecast`: time by phase, tokens per second, peak memory, the teacher's cache, disk.
    """
    return _submitted(JobKind.PROBE, who, known, spec, response, idempotency_key)


def _submitted(
    kind: JobKind, who: Writer, known: Known, spec: Spec, response: Response, idempotency_key: str | None
) -> SubmittedJob:
    with known.queueing() as session:
        submission = service.Submission(kind=kind, spec=spec.value, sha256=spec.sha256, key=idempotency_key)
        job = service.submit(session, who.tenant_id, submission, known.settings)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return job


@router.post("/estimate", openapi_extra=json_body_schema(RunConfig, EXAMPLE), responses=declared(*JSON_BODY_ERRORS))
def estimate_job(who: Reader, known: Known, spec: Spec) -> Estimate:
    """Plan a distillation without queueing it: iterations by epoch, what it costs by arithmetic, and everything to be warned of."""
    with known.reading() as session:
        return admission.estimate(session, who.tenant_id, spec.value, known.settings)


@router.get("", responses=declared(ValidationFailed))
def list_jobs(
    who: Reader,
    known: Known,
    limit: Limit,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    cursor: Cursor = None,
) -> JobPage:
    """Jobs, newest first."""
    with known.reading() as session:
        return service.page(session, who.tenant_id, state=state, limit=limit, cursor=cursor)


@router.get("/{job_id}", responses=declared(NotFound))
def get_job(who: Reader, known: Known, job_id: JobId) -> JobView:
    """A job: state, phase, progress, time left, place in the queue, heartbeat age, failure, scores."""
    with known.reading() as session:
        return service.get(session, who.tenant_id, job_id)


@router.post("/{job_id}/cancel", responses=declared(NotFound, JobAlreadyFinished))
def cancel_job(who: Writer, known: Known, job_id: JobId) -> JobView:
    """Cancel: at once where nothing runs, else within heartbeat and grace. Artifacts made so far are kept."""
    with known.writing() as session:
        return service.cancel(session, who.tenant_id, job_id)


@router.post("/{job_id}/pause", responses=declared(NotFound, JobAlreadyFinished, JobBeingCancelled))
def pause_job(who: Writer, known: Known, job_id: JobId) -> JobView:
    """Pause: at once where the job waits, else after a checkpoint."""
    with known.writing() as session:
        return service.pause(session, who.tenant_id, job_id)


@router.post("/{job_id}/resume", responses=declared(NotFound, JobAlreadyFinished, JobBeingCancelled))
def resume_job(who: Writer, known: Known, job_id: JobId) -> JobView:
    """Queue a paused job again; it goes on at its last checkpoint."""
    with known.queueing() as session:
        return service.resume(session, who.tenant_id, job_id)
