"""The routes of the OpenAI-compatible door. Our OpenAPI description leaves them out: OpenAI's own has them, and its client is the test."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api.auth import Reader, Writer
from api.bodies import Sent, json_body
from api.core.db import utc_now
from api.core.errors import ValidationFailed
from api.datasets import service as dataset_service
from api.datasets.upload import Limits, received
from api.deps import JobId, Known
from api.downloads import send
from api.jobs import service as job_service
from api.openai import arrivals, files, forms, history, jobs, models, repeats, served
from api.openai.schemas import (
    Checkpoint,
    CreateJob,
    Deleted,
    DeletedModel,
    Event,
    FileObject,
    FineTuningJob,
    Model,
    ModelList,
    Page,
    Purpose,
)

router = APIRouter(prefix="/v1", tags=["openai"], include_in_schema=False)

# What no key of a JSON path may hold in SQLite.
_METADATA = re.compile(r"metadata\[(?P<name>[^\"\\\x00-\x1f\]]{1,64})\]")


def _page_size(known: Known, limit: Annotated[int, Query(ge=1, le=10_000)] = 20) -> int:
    """Clients of this API ask for up to 10,000; they get what a page may hold, and `has_more`."""
    return min(limit, known.settings.page_max)


Limit = Annotated[int, Depends(_page_size)]
After = Annotated[str | None, Query(max_length=200)]
Job = Annotated[Sent[CreateJob], Depends(json_body(CreateJob))]
Key = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$")]
Retries = Annotated[int, Header(alias="x-stainless-retry-count", ge=0, le=1000)]


@router.post("/files")
async def create_file(request: Request, who: Writer, known: Known) -> FileObject:
    """Upload rows as JSON lines, `purpose` fine-tune."""
    settings = known.settings
    limits = Limits(
        size_bytes=settings.upload_max_bytes + forms.OVERHEAD_BYTES,
        total_s=settings.upload_timeout_s,
        idle_s=settings.body_timeout_s,
    )
    content_type = request.headers.get("content-type", "")
    async with received(request, settings.scratch_dir / "uploads", limits, suffix=".form") as body:
        keep = partial(arrivals.keep_file, known, who.tenant_id, body, content_type)
        return await anyio.to_thread.run_sync(keep)


@router.get("/files")
def list_files(
    who: Reader,
    known: Known,
    limit: Limit,
    purpose: Purpose | None = None,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> Page[FileObject]:
    """Data sets and results, by time."""
    with known.reading() as session:
        ascending = order == "asc"
        return files.page(
            session, known.store, who.tenant_id, purpose=purpose, ascending=ascending, after=after, limit=limit
        )


@router.get("/files/{file_id}")
def get_file(who: Reader, known: Known, file_id: str) -> FileObject:
    """One file."""
    with known.reading() as session:
        return files.get(session, known.store, who.tenant_id, file_id)


@router.delete("/files/{file_id}")
def delete_file(who: Writer, known: Known, file_id: str) -> Deleted:
    """Delete a data set; results stay with their job."""
    with known.reading() as session:
        files.check_deletable(session, who.tenant_id, file_id)
    dataset_service.delete(known.make, known.store, who.tenant_id, file_id)
    return Deleted(id=file_id)


@router.get("/files/{file_id}/content", response_class=Response)
def download_file(request: Request, who: Reader, known: Known, file_id: str) -> Response:
    """The bytes of a file."""
    with known.reading() as session:
        row = files.find(session, who.tenant_id, file_id)
    return send(request, files.content(known.store, row))


@router.post("/fine_tuning/jobs")
def create_job(who: Writer, known: Known, body: Job, key: Key = None, retries: Retries = 0) -> FineTuningJob:
    """Validate and queue a distillation."""
    # Before the transaction, which may have to wait for that of this request's own retry.
    with known.reading() as session:
        arrived_at = utc_now(session)
    sent = repeats.Try(tenant_id=who.tenant_id, body_sha256=body.sha256, retries=retries, arrived_at=arrived_at)
    with known.queueing() as session:
        return jobs.create(session, who.tenant_id, body, known.settings, key=key, attempt=sent)


@router.get("/fine_tuning/jobs")
def list_jobs(request: Request, who: Reader, known: Known, limit: Limit, after: After = None) -> Page[FineTuningJob]:
    """Jobs, newest first; `metadata[name]=value` chooses among them."""
    wanted = {}
    for name, value in request.query_params.items():
        if not name.startswith("metadata"):
            continue
        named = _METADATA.fullmatch(name)
        if named is None or "\x00" in value:
            raise ValidationFailed("metadata: write it as metadata[name]=value", param="metadata")
        wanted[named["name"]] = value
    with known.reading() as session:
        return jobs.page(session, who.tenant_id, after=after, limit=limit, metadata=wanted)


@router.get("/fine_tuning/jobs/{job_id}")
def get_job(who: Reader, known: Known, job_id: JobId) -> FineTuningJob:
    """One job."""
    with known.reading() as session:
        return jobs.get(session, who.tenant_id, job_id)


@router.post("/fine_tuning/jobs/{job_id}/cancel")
def cancel_job(who: Writer, known: Known, job_id: JobId) -> FineTuningJob:
    """Cancel; what was made stays."""
    with known.writing() as session:
        jobs.known(session, who.tenant_id, job_id)
        job_service.cancel(session, who.tenant_id, job_id)
        return jobs.get(session, who.tenant_id, job_id)


@router.post("/fine_tuning/jobs/{job_id}/pause")
def pause_job(who: Writer, known: Known, job_id: JobId) -> FineTuningJob:
    """Pause, after a checkpoint where it runs."""
    with known.writing() as session:
        jobs.known(session, who.tenant_id, job_id)
        job_service.pause(session, who.tenant_id, job_id)
        return jobs.get(session, who.tenant_id, job_id)


@router.post("/fine_tuning/jobs/{job_id}/resume")
def resume_job(who: Writer, known: Known, job_id: JobId) -> FineTuningJob:
    """Go on at the last checkpoint."""
    with known.queueing() as session:
        jobs.known(session, who.tenant_id, job_id)
        job_service.resume(session, who.tenant_id, job_id)
        return jobs.get(session, who.tenant_id, job_id)


@router.get("/fine_tuning/jobs/{job_id}/events")
def list_events(who: Reader, known: Known, job_id: JobId, limit: Limit, after: After = None) -> Page[Event]:
    """Events, newest first."""
    with known.reading() as session:
        return history.events(session, who.tenant_id, job_id, after=after, limit=limit)


@router.get("/fine_tuning/jobs/{job_id}/checkpoints")
def list_checkpoints(who: Reader, known: Known, job_id: JobId, limit: Limit, after: After = None) -> Page[Checkpoint]:
    """Checkpoints, newest first."""
    with known.reading() as session:
        return history.checkpoints(session, who.tenant_id, job_id, after=after, limit=limit)


@router.get("/models")
def list_models(who: Reader, known: Known) -> ModelList:
    """What jobs have made, and what the operator offers."""
    with known.reading() as session:
        return models.every(session, who.tenant_id, known.settings)


@router.delete("/models/{name:path}")
def delete_model(who: Writer, known: Known, name: str) -> DeletedModel:
    """Delete the weights of a finished job; those of the operator stay."""
    models.delete(known.make, known.store, who.tenant_id, name)
    return DeletedModel(id=name)


@router.get("/models/{name:path}")
def get_model(who: Reader, known: Known, name: str) -> Model:
    """One model."""
    with known.reading() as session:
        return served.described(session, who.tenant_id, name, known.settings)
