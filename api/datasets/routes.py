"""The routes of data sets."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Query, Request, Response

from api.auth import Reader, Writer
from api.bodies import media_type
from api.core.errors import (
    BodyTimeout,
    ChecksumMismatch,
    DatasetInUse,
    InsufficientStorage,
    InvalidDataset,
    NotFound,
    QuotaExceeded,
    RangeNotSatisfiable,
    StorageUnavailable,
    UnsupportedMediaType,
    UploadTooLarge,
    ValidationFailed,
)
from api.datasets import service
from api.datasets.schemas import DatasetPage, DatasetView
from api.datasets.upload import Limits, received
from api.deps import Cursor, DatasetId, Known, Limit
from api.downloads import declared_bytes, send
from api.problems import declared

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

# What may be uploaded, and the suffix by which it is read from then on.
MEDIA_TYPES = {
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/json-lines": ".jsonl",
    "application/octet-stream": ".jsonl",
    "application/json": ".json",
    "text/csv": ".csv",
}
EXAMPLES = {
    ".jsonl": '{"instruction": "Add 1 and 2.", "output": "3"}\n{"prompt": "Add 2 and 2.", "completion": "4"}\n',
    ".json": '[{"instruction": "Add 1 and 2.", "output": "3"}]',
    ".csv": "instruction,output\nAdd 1 and 2.,3\n",
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}, "example": EXAMPLES[suffix]}
            for media, suffix in MEDIA_TYPES.items()
        },
    }
}

Name = Annotated[
    str, Query(pattern=r"^[^\x00-\x1f\x7f]{1,255}$", description="What the file is called; only shown, never a path.")
]
BadFraction = Annotated[
    float, Query(ge=0.0, le=1.0, allow_inf_nan=False, description="More bad rows than this refuse the upload.")
]
OfBytes = Annotated[
    str | None, Query(pattern=r"^[0-9a-fA-F]{64}$", description="Only data sets whose file has this sha256.")
]
Sha256 = Annotated[
    str | None,
    Header(alias="X-Checksum-SHA256", pattern=r"^[0-9a-fA-F]{64}$", description="What the bytes must hash to."),
]


@router.post(
    "",
    status_code=201,
    openapi_extra=_BODY,
    responses=declared(
        StorageUnavailable,
        BodyTimeout,
        UploadTooLarge,
        UnsupportedMediaType,
        ValidationFailed,
        ChecksumMismatch,
        InvalidDataset,
        QuotaExceeded,
        InsufficientStorage,
    ),
)
async def upload_dataset(
    request: Request,
    who: Writer,
    known: Known,
    response: Response,
    name: Name,
    max_bad_row_fraction: BadFraction = 0.01,
    x_checksum_sha256: Sha256 = None,
) -> DatasetView:
    """Upload rows as JSON lines, as a JSON array or as CSV.

    A row is {"instruction", "input", "output"}, {"prompt", "completion"}, {"messages"} or ShareGPT's {"conversations"}.
    """
    suffix = MEDIA_TYPES.get(media_type(request))
    if suffix is None:
        raise UnsupportedMediaType("Send JSON lines (application/jsonl), a JSON array (application/json) or text/csv.")
    settings = known.settings
    limits = Limits(
        size_bytes=settings.upload_max_bytes, total_s=settings.upload_timeout_s, idle_s=settings.body_timeout_s
    )
    upload = service.Upload(
        tenant_id=who.tenant_id,
        name=name,
        sha256=x_checksum_sha256.lower() if x_checksum_sha256 else None,
        max_bad_row_fraction=max_bad_row_fraction,
    )
    async with received(request, settings.scratch_dir / "uploads", limits, suffix=suffix) as file:
        register = partial(service.register, known.make, known.store, settings, upload, file)
        dataset = await anyio.to_thread.run_sync(register)
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.get("", responses=declared(ValidationFailed))
def list_datasets(
    who: Reader, known: Known, limit: Limit, cursor: Cursor = None, sha256: OfBytes = None
) -> DatasetPage:
    """Data sets, newest first."""
    with known.reading() as session:
        return service.page(session, who.tenant_id, limit=limit, cursor=cursor, sha256=sha256)


@router.get("/{dataset_id}", responses=declared(NotFound))
def get_dataset(who: Reader, known: Known, dataset_id: DatasetId) -> DatasetView:
    """A data set with the report on its rows."""
    with known.reading() as session:
        return service.get(session, who.tenant_id, dataset_id)


@router.delete("/{dataset_id}", status_code=204, responses=declared(NotFound, DatasetInUse))
def delete_dataset(who: Writer, known: Known, dataset_id: DatasetId) -> None:
    """Delete a data set. Jobs that have finished with it keep their results."""
    service.delete(known.make, known.store, who.tenant_id, dataset_id)


@router.head("/{dataset_id}/content", include_in_schema=False)
@router.get(
    "/{dataset_id}/content",
    response_class=Response,
    responses={
        **declared_bytes(*service.CONTENT_TYPES.values()),
        **declared(NotFound, StorageUnavailable, RangeNotSatisfiable),
    },
)
def download_dataset(request: Request, who: Reader, known: Known, dataset_id: DatasetId) -> Response:
    """The bytes as they were uploaded."""
    with known.reading() as session:
        row = service.find(session, who.tenant_id, dataset_id)
    return send(request, service.content(known.store, row))
