"""Data sets: kept whole in the store, known by a row; the row is there only when the bytes are."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

import structlog
from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.db import now
from api.core.errors import ChecksumMismatch, DatasetInUse, NotFound, QuotaExceeded
from api.core.settings import Settings
from api.core.storage import Store, StoreUnavailable, discard
from api.datasets import queries
from api.datasets.schemas import DatasetPage, DatasetView, Report
from api.datasets.tables import Dataset
from api.datasets.upload import Inspected, Received, inspect
from api.downloads import Content
from api.keys import queries as key_queries
from api.leftovers import queries as leftovers
from api.leftovers.service import arriving
from api.pages import Cursor, cut, encode, older

log = structlog.get_logger(__name__)

# As what a data set is given back, by the suffix that it is kept under.
CONTENT_TYPES = {".jsonl": "application/jsonl", ".json": "application/json", ".csv": "text/csv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What the client says about the bytes it sends."""

    tenant_id: str
    name: str
    sha256: str | None
    max_bad_row_fraction: float
    keep_s: float | None = None
    """For how long; None: until it is deleted."""


def register(
    make: sessionmaker[Session],
    store: Store,
    settings: Settings,
    upload: Upload,
    received: Received,
    *,
    first: Callable[[Session, str], None] | None = None,
) -> DatasetView:
    """Check and keep an upload. Opens its transaction only after the long work of reading and copying the file.

    `first` is told the new id as the first thing in that transaction. Raises ChecksumMismatch, InvalidDataset, QuotaExceeded and what
    `first` does; then nothing stays.
    """
    if upload.sha256 is not None and not hmac.compare_digest(upload.sha256, received.sha256):
        raise ChecksumMismatch
    inspected = inspect(received.path, max_bad_fraction=upload.max_bad_row_fraction)
    dataset_id = f"ds_{uuid.uuid4().hex}"
    key = f"datasets/{dataset_id}/data{received.path.suffix}"
    with arriving(make, store, key):
        store.put(key, received.path, sha256=received.sha256)
        with db.transaction(make) as session:
            if not leftovers.name(session, key):
                raise StoreUnavailable("an upload took so long to be kept that its bytes may be gone")
            if first is not None:
                first(session, dataset_id)
            check_quota(session, upload.tenant_id, received.size_bytes, settings)
            row = _row(dataset_id, key, upload, received, inspected)
            session.add(row)
            session.flush()
            session.refresh(row)
            return view(row)


def check_quota(session: Session, tenant_id: str, size_bytes: int, settings: Settings) -> None:
    """See that so many more bytes may be kept, with the tenant locked against other uploads. Raises QuotaExceeded."""
    session.execute(key_queries.tenant_for_update(tenant_id)).one()
    stored = session.scalars(queries.stored_bytes(tenant_id)).one()
    if stored + size_bytes > settings.stored_max_bytes:
        raise QuotaExceeded(
            f"Data sets may take {settings.stored_max_bytes} bytes together; delete one that is not needed."
        )


def _row(dataset_id: str, key: str, upload: Upload, received: Received, inspected: Inspected) -> Dataset:
    return Dataset(
        id=dataset_id,
        tenant_id=upload.tenant_id,
        name=upload.name,
        format=inspected.format,
        rows=inspected.rows,
        bad_rows=inspected.bad_rows,
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        storage_key=key,
        report=inspected.report.model_dump(mode="json"),
        **({} if upload.keep_s is None else {"expires_at": now(upload.keep_s)}),
    )


def find(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    """The row of a data set. Raises NotFound."""
    row = session.scalar(queries.one(tenant_id, dataset_id))
    if row is None:
        raise NotFound("There is no such data set.")
    return row


def get(session: Session, tenant_id: str, dataset_id: str) -> DatasetView:
    """One data set. Raises NotFound."""
    return view(find(session, tenant_id, dataset_id))


def page(session: Session, tenant_id: str, *, limit: int, cursor: str | None, sha256: str | None = None) -> DatasetPage:
    """A page of the tenant's data sets, newest first, perhaps only those of the bytes with this sha256."""
    statement = queries.datasets(tenant_id)
    if sha256 is not None:
        statement = statement.where(queries.of_bytes(sha256))
    if cursor is not None:
        statement = statement.where(older(Dataset.created_at, Dataset.id, cursor))
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    following = encode(Cursor(rows[-1].created_at, rows[-1].id)) if more else None
    return DatasetPage(data=[view(row) for row in rows], has_more=more, next_cursor=following)


def delete(make: sessionmaker[Session], store: Store, tenant_id: str, dataset_id: str) -> None:
    """Forget a data set and remove its bytes. Raises NotFound, and DatasetInUse while a job needs it."""
    with db.transaction(make) as session:
        key = queries.delete(session, dataset_id, tenant_id=tenant_id)
    # After the commit: bytes without a row are waste, a row without bytes would be a lie.
    discard(store, key)


def expire(make: sessionmaker[Session], store: Store) -> int:
    """Remove the bytes of data sets past their time, but of those that an unfinished job needs; how many went."""
    with db.reading(make) as session:
        due = session.execute(queries.outlived()).all()
    gone = 0
    for row in due:
        try:
            delete(make, store, row.tenant_id, row.id)
        except (DatasetInUse, NotFound):
            continue
        gone += 1
    return gone


def content(store: Store, row: Dataset) -> Content:
    """The bytes of a data set as they were uploaded."""
    media_type = CONTENT_TYPES.get(PurePath(row.storage_key).suffix, "application/jsonl")
    return Content(
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        filename=row.name,
        media_type=media_type,
        read=partial(store.read, row.storage_key),
        link=partial(store.link, row.storage_key, filename=row.name, media_type=media_type),
    )


def view(row: Dataset) -> DatasetView:
    """A data set as it goes over the wire."""
    return DatasetView(
        id=row.id,
        name=row.name,
        format=row.format,
        rows=row.rows,
        bad_rows=row.bad_rows,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
        expires_at=row.expires_at,
        report=Report.model_validate(row.report),
    )
