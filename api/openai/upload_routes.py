"""The routes of uploads in parts."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Request

from api.auth import Writer
from api.bodies import Sent, json_body
from api.datasets.parts import PART_BYTES
from api.datasets.upload import Limits, received
from api.deps import Known
from api.openai import arrivals, forms
from api.openai.routes import Retries
from api.openai.schemas import CompleteUpload, CreateUpload, Part, Upload

router = APIRouter(prefix="/v1/uploads", tags=["openai"], include_in_schema=False)

Begun = Annotated[Sent[CreateUpload], Depends(json_body(CreateUpload))]
Joined = Annotated[Sent[CompleteUpload], Depends(json_body(CompleteUpload))]


@router.post("")
def create_upload(who: Writer, known: Known, body: Begun) -> Upload:
    """Begin a file that comes in parts."""
    with known.writing() as session:
        return arrivals.begin(session, who.tenant_id, body.value, known)


@router.post("/{upload_id}/parts")
async def add_part(request: Request, who: Writer, known: Known, upload_id: str, retries: Retries = 0) -> Part:
    """Send a part, in any order and several at a time."""
    settings = known.settings

    def look() -> None:
        with known.reading() as session:
            arrivals.find(session, who.tenant_id, upload_id)

    await anyio.to_thread.run_sync(look)
    limits = Limits(
        size_bytes=min(PART_BYTES, settings.upload_max_bytes) + forms.OVERHEAD_BYTES,
        total_s=settings.upload_timeout_s,
        idle_s=settings.body_timeout_s,
    )
    content_type = request.headers.get("content-type", "")
    async with received(request, settings.scratch_dir / "uploads", limits, suffix=".form") as body:
        keep = partial(arrivals.add_part, known, who.tenant_id, upload_id, body, content_type, retried=retries > 0)
        return await anyio.to_thread.run_sync(keep)


@router.post("/{upload_id}/complete")
def complete_upload(who: Writer, known: Known, upload_id: str, body: Joined) -> Upload:
    """Join the parts into a file."""
    return arrivals.complete(known, who.tenant_id, upload_id, body.value)


@router.post("/{upload_id}/cancel")
def cancel_upload(who: Writer, known: Known, upload_id: str) -> Upload:
    """Give the upload up."""
    with known.reading() as session:
        arrivals.find(session, who.tenant_id, upload_id)
    return arrivals.cancel(known, who.tenant_id, upload_id)
