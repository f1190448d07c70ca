"""Pages of data sets: the list with an upload, and each one's report."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath

import anyio
from fastapi import APIRouter, Request, Response

from api.core.errors import InvalidDataset, UnsupportedMediaType
from api.datasets import service
from api.datasets.schemas import DatasetView
from api.datasets.upload import Limits, Received, received
from api.deps import Cursor, DatasetId, Known, Resources
from api.openai import forms
from api.web.pages import PageRoute, page, redirect
from api.web.sessions import Visit
from api.web.visits import TOKEN_FIELD, Actor, Visitor, Writing, refuse_foreign, require_token

router = APIRouter(include_in_schema=False, route_class=PageRoute)

DATASETS_A_PAGE = 25
FILE_FIELD = "file"


@router.get("/datasets")
def list_datasets(request: Request, visit: Visitor, known: Known, cursor: Cursor = None) -> Response:
    """Data sets, newest first, and a form that takes another."""
    return _list(request, visit, known, cursor=cursor)


def _list(
    request: Request,
    visit: Visit,
    known: Resources,
    *,
    cursor: str | None = None,
    refusal: InvalidDataset | None = None,
) -> Response:
    with known.reading() as session:
        found = service.page(session, visit.identity.tenant_id, limit=DATASETS_A_PAGE, cursor=cursor)
    status = 200 if refusal is None else refusal.status
    return page(request, "datasets.html", visit=visit, status=status, datasets=found, refusal=refusal)


@router.post("/datasets")
async def upload_dataset(request: Request, visit: Writing, known: Known) -> Response:
    """Take a file of rows: .jsonl, .json or .csv."""
    refuse_foreign(request)
    settings = known.settings
    limits = Limits(
        size_bytes=settings.upload_max_bytes + forms.OVERHEAD_BYTES,
        total_s=settings.upload_timeout_s,
        idle_s=settings.body_timeout_s,
    )
    content_type = request.headers.get("content-type", "")
    async with received(request, settings.scratch_dir / "uploads", limits, suffix=".form") as body:
        try:
            made = await anyio.to_thread.run_sync(partial(_keep, known, visit, body, content_type))
        except InvalidDataset as refusal:
            return await anyio.to_thread.run_sync(partial(_list, request, visit, known, refusal=refusal))
    return redirect(f"/datasets/{made.id}")


def _keep(known: Resources, visit: Visit, body: Received, content_type: str) -> DatasetView:
    """Raises what the API's upload does, and ForeignForm."""
    with forms.opened(body, content_type, FILE_FIELD) as form:
        require_token(visit, form.fields.get(TOKEN_FIELD))
        name = PurePath(form.filename.replace("\\", "/")).name or "rows.jsonl"
        suffix = PurePath(name).suffix.lower()
        if suffix not in service.CONTENT_TYPES:
            raise UnsupportedMediaType("Choose a file that ends in .jsonl, .json or .csv.")
        # How it is read is told by its suffix.
        path = form.file.path.rename(form.file.path.with_suffix(suffix))
        try:
            upload = service.Upload(
                tenant_id=visit.identity.tenant_id, name=_shown(name), sha256=None, max_bad_row_fraction=0.01
            )
            file = Received(path=path, size_bytes=form.file.size_bytes, sha256=form.file.sha256)
            return service.register(known.make, known.store, known.settings, upload, file)
        finally:
            path.unlink(missing_ok=True)


def _shown(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[-255:]


@router.get("/datasets/{dataset_id}")
def show_dataset(request: Request, visit: Visitor, known: Known, dataset_id: DatasetId) -> Response:
    """A data set with the report on its rows."""
    with known.reading() as session:
        found = service.get(session, visit.identity.tenant_id, dataset_id)
    return page(request, "dataset.html", visit=visit, dataset=found)


@router.post("/datasets/{dataset_id}/delete")
def delete_dataset(visit: Actor, known: Known, dataset_id: DatasetId) -> Response:
    """Forget it and its bytes."""
    service.delete(known.make, known.store, visit.identity.tenant_id, dataset_id)
    return redirect("/datasets")
