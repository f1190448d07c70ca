"""Data sets that arrive in parts: declared with their size, sent part by part in any order, then joined in the order that is said."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.db import now
from api.core.errors import (
    ChecksumMismatch,
    NotFound,
    QuotaExceeded,
    UploadEnded,
    UploadTooLarge,
    ValidationFailed,
)
from api.core.settings import Settings
from api.core.storage import Store, StoredFileMissing, discard
from api.datasets import queries, service
from api.datasets.tables import PartedUpload, UploadPart
from api.datasets.upload import Received
from api.leftovers import queries as leftovers
from api.leftovers.service import arriving

OPEN_S = 3600.0
"""How long an upload may take from its beginning to its completion."""
PART_BYTES = 64 * 2**20
PARTS = 1000
UPLOADS = 100
"""How many a tenant may have under way."""
# Rows of ended uploads are kept so long, for a client that asks late.
_TOLD_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a client says that it will send. `keep_s`: for how long the data set is to stay; None: for good."""

    name: str
    size_bytes: int
    keep_s: float | None


def begin(session: Session, tenant_id: str, declared: Declared, settings: Settings) -> PartedUpload:
    """Make room for an upload. Raises UploadTooLarge and QuotaExceeded."""
    if declared.size_bytes > settings.upload_max_bytes:
        raise UploadTooLarge(f"A file may have at most {settings.upload_max_bytes} bytes.")
    service.check_quota(session, tenant_id, declared.size_bytes, settings)
    if session.scalars(queries.pending_uploads(tenant_id)).one() >= UPLOADS:
        raise QuotaExceeded(f"At most {UPLOADS} uploads may be under way; complete or cancel one.")
    row = PartedUpload(
        id=f"upload_{uuid.uuid4().hex}",
        tenant_id=tenant_id,
        name=declared.name,
        size_bytes=declared.size_bytes,
        keep_s=declared.keep_s,
        state="pending",
        expires_at=now(OPEN_S),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def find(session: Session, tenant_id: str, upload_id: str) -> PartedUpload:
    """An upload. Raises NotFound."""
    row = session.scalar(queries.upload(tenant_id, upload_id))
    if row is None:
        raise NotFound("There is no such upload.")
    return row


def add_part(
    make: sessionmaker[Session], store: Store, tenant_id: str, upload_id: str, received: Received, *, retried: bool
) -> UploadPart:
    """Keep a part; one that is sent again is the one that was kept. Raises NotFound, UploadEnded, ValidationFailed and QuotaExceeded."""
    part_id = f"part_{uuid.uuid4().hex}"
    key = f"{_folder(upload_id)}/{part_id}"
    with db.reading(make) as session:
        if find(session, tenant_id, upload_id).state != "pending":
            raise UploadEnded
    with arriving(make, store, key):
        store.put(key, received.path, sha256=received.sha256)
        with db.transaction(make) as session:
            known = _known(session, tenant_id, upload_id, received, retried=retried)
            if known is None and not leftovers.name(session, key):
                raise UploadEnded
            part = known or _added(session, part_id, upload_id, received)
    if known is not None:
        discard(store, key)
    return part


def _known(session: Session, tenant_id: str, upload_id: str, received: Received, *, retried: bool) -> UploadPart | None:
    """What an earlier sending of the same part has left. Raises as `add_part`; the upload stays locked."""
    row = session.scalar(queries.upload(tenant_id, upload_id).with_for_update())
    if row is None or row.state != "pending" or row.expires_at <= db.utc_now(session):
        raise UploadEnded
    parts = session.scalars(queries.parts(upload_id)).all()
    same = next((part for part in parts if part.sha256 == received.sha256), None)
    if retried and same is not None:
        return same
    if len(parts) == PARTS:
        raise QuotaExceeded(f"An upload may have at most {PARTS} parts; send larger ones.")
    if sum(part.size_bytes for part in parts) + received.size_bytes > row.size_bytes:
        raise ValidationFailed("data: with this part the upload has more bytes than were declared", param="data")
    return None


def _added(session: Session, part_id: str, upload_id: str, received: Received) -> UploadPart:
    part = UploadPart(id=part_id, upload_id=upload_id, size_bytes=received.size_bytes, sha256=received.sha256)
    session.add(part)
    session.flush()
    session.refresh(part)
    return part


def complete(
    make: sessionmaker[Session],
    store: Store,
    settings: Settings,
    row: PartedUpload,
    part_ids: Sequence[str],
    *,
    md5: str | None,
    max_bad_row_fraction: float,
) -> str:
    """Join the parts in this order into a data set; its id. A second completion answers with the first one's.

    Raises UploadEnded, ValidationFailed, ChecksumMismatch, InvalidDataset and QuotaExceeded; of the last four the upload stays open.
    """
    if row.state == "completed" and row.dataset_id is not None:
        return row.dataset_id
    if row.state != "pending":
        raise UploadEnded
    with db.reading(make) as session:
        arrived = {part.id: part for part in session.scalars(queries.parts(row.id))}
    if len(set(part_ids)) != len(part_ids) or not arrived.keys() >= set(part_ids):
        raise ValidationFailed("part_ids: name each part of this upload once", param="part_ids")
    parts = [arrived[part_id] for part_id in part_ids]
    if sum(part.size_bytes for part in parts) != row.size_bytes:
        raise ValidationFailed(
            f"part_ids: the parts must come to the {row.size_bytes} declared bytes", param="part_ids"
        )

    def close(session: Session, dataset_id: str) -> None:
        if not queries.end_upload(session, row.id, "completed", dataset_id=dataset_id):
            raise UploadEnded

    with _joined(store, settings, row.id, parts, md5=md5) as joined:
        upload = service.Upload(
            tenant_id=row.tenant_id,
            name=row.name,
            sha256=None,
            max_bad_row_fraction=max_bad_row_fraction,
            keep_s=row.keep_s,
        )
        made = service.register(make, store, settings, upload, joined, first=close)
    discard(store, _folder(row.id))
    return made.id


@contextmanager
def _joined(
    store: Store, settings: Settings, upload_id: str, parts: Sequence[UploadPart], *, md5: str | None
) -> Iterator[Received]:
    folder = settings.scratch_dir / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    # Rows that come this way are JSON lines, and the suffix says so.
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    sha256, stated = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with path.open("wb") as file:
            for part in parts:
                for chunk in store.read(f"{_folder(upload_id)}/{part.id}"):
                    file.write(chunk)
                    sha256.update(chunk)
                    stated.update(chunk)
        if md5 is not None and not hmac.compare_digest(md5, stated.hexdigest()):
            raise ChecksumMismatch("The joined parts do not have the stated md5.", param="md5")
        yield Received(path=path, size_bytes=path.stat().st_size, sha256=sha256.hexdigest())
    except StoredFileMissing:
        # Cancelled, or completed by another, while we read.
        raise UploadEnded from None
    finally:
        path.unlink(missing_ok=True)


def cancel(make: sessionmaker[Session], store: Store, tenant_id: str, upload_id: str) -> PartedUpload:
    """Give an upload up; doing so twice is doing it once. Raises NotFound and UploadEnded."""
    with db.transaction(make) as session:
        find(session, tenant_id, upload_id)
        queries.end_upload(session, upload_id, "cancelled")
        session.expire_all()
        row = find(session, tenant_id, upload_id)
    if row.state != "cancelled":
        raise UploadEnded
    discard(store, _folder(upload_id))
    return row


def expire(make: sessionmaker[Session], store: Store) -> int:
    """End uploads whose time is over and forget those that ended long ago, with all that they may have left; how many were ended."""
    with db.reading(make) as session:
        overdue = session.scalars(queries.overdue_uploads()).all()
        forgotten = session.scalars(queries.forgotten_uploads(_TOLD_S)).all()
    for upload_id in overdue:
        with db.transaction(make) as session:
            queries.end_upload(session, upload_id, "expired")
        discard(store, _folder(upload_id))
    for upload_id in forgotten:
        with db.transaction(make) as session:
            if session.execute(queries.forget_upload(upload_id)).all():
                # Once more: a part that was being put when its upload ended, by a process that was killed there, or what would not go.
                leftovers.let_go(session, [_folder(upload_id)])
    return len(overdue)


def _folder(upload_id: str) -> str:
    return f"uploads/{upload_id}"
