"""The routes of what a run has made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.artifacts import flips, samples, service
from api.artifacts.schemas import (
    Change,
    CheckpointPage,
    CheckpointView,
    FlipMetric,
    FlipPage,
    Format,
    Opponent,
    SamplePage,
)
from api.auth import Reader
from api.core.errors import (
    ArtifactExpired,
    ArtifactNotReady,
    NotFound,
    RangeNotSatisfiable,
    StorageUnavailable,
    ValidationFailed,
)
from api.deps import Cursor, JobId, Known, Limit
from api.downloads import declared_bytes, send
from api.problems import declared

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["checkpoints"])

Suite = Annotated[
    str | None,
    Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="One of the job's suites instead of its test split."),
]


@router.get("/checkpoints", responses=declared(NotFound, ValidationFailed))
def list_checkpoints(who: Reader, known: Known, job_id: JobId, limit: Limit, cursor: Cursor = None) -> CheckpointPage:
    """The run's sealed directories that still stand, newest first."""
    with known.reading() as session:
        return service.page(session, who.tenant_id, job_id, limit=limit, cursor=cursor)


@router.get("/checkpoints/{name}", responses=declared(NotFound, ArtifactExpired))
def get_checkpoint(who: Reader, known: Known, job_id: JobId, name: str) -> CheckpointView:
    """A checkpoint and its files with their sha256."""
    with known.reading() as session:
        return service.get(session, who.tenant_id, job_id, name)


@router.head("/checkpoints/{name}/download", include_in_schema=False)
@router.get(
    "/checkpoints/{name}/download",
    response_class=Response,
    responses={
        **declared_bytes("application/x-tar"),
        **declared(NotFound, ArtifactExpired, StorageUnavailable, RangeNotSatisfiable, ValidationFailed),
    },
)
def download_checkpoint(
    request: Request,
    who: Reader,
    known: Known,
    job_id: JobId,
    name: str,
    which: Annotated[Format, Query(alias="format", description="The whole directory, or the LoRA adapter.")] = "merged",
) -> Response:
    """A checkpoint as one tar archive: same bytes each time, so that a broken download goes on where it broke."""
    with known.reading() as session:
        artifact = service.find(session, who.tenant_id, job_id, name)
    return send(request, service.archive_content(known.store, artifact, which))


@router.head("/checkpoints/{name}/files/{path:path}", include_in_schema=False)
@router.get(
    "/checkpoints/{name}/files/{path:path}",
    response_class=Response,
    responses={
        **declared_bytes("application/octet-stream"),
        **declared(NotFound, ArtifactExpired, StorageUnavailable, RangeNotSatisfiable),
    },
)
def download_file(request: Request, who: Reader, known: Known, job_id: JobId, name: str, path: str) -> Response:
    """One file of a checkpoint."""
    with known.reading() as session:
        artifact = service.find(session, who.tenant_id, job_id, name)
    return send(request, service.file_content(known.store, artifact, path))


@router.get(
    "/samples", responses=declared(NotFound, ArtifactNotReady, ArtifactExpired, StorageUnavailable, ValidationFailed)
)
def list_samples(
    who: Reader,
    known: Known,
    job_id: JobId,
    limit: Limit,
    suite: Suite = None,
    changed: Annotated[
        Change | None,
        Query(
            description="Only rows that went from wrong to right, untouched student against distilled, or the reverse."
        ),
    ] = None,
    cursor: Cursor = None,
) -> SamplePage:
    """What teacher, untouched student and distilled student answered to each row of the test split, or of a suite."""
    with known.reading() as session:
        answers = samples.find(session, who.tenant_id, job_id, suite)
    return samples.page(answers.content(known.store), limit=limit, cursor=cursor, changed=changed)


@router.get(
    "/flips", responses=declared(NotFound, ArtifactNotReady, ArtifactExpired, StorageUnavailable, ValidationFailed)
)
def list_flips(
    who: Reader,
    known: Known,
    job_id: JobId,
    limit: Limit,
    against: Annotated[Opponent, Query(description="The model whose answers were better.")] = "untouched",
    metric: Annotated[FlipMetric | None, Query(description="By which score; the first that the rows have.")] = None,
    suite: Suite = None,
    cursor: Cursor = None,
) -> FlipPage:
    """The rows on which the distilled student does worse than another model, the largest loss first, and how many went which way."""
    with known.reading() as session:
        answers = samples.find(session, who.tenant_id, job_id, suite)
    content = answers.content(known.store)
    return flips.page(content, against=against, metric=metric, limit=limit, cursor=cursor)
