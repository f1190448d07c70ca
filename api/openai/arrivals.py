"""Files on their way in: in one form, or in parts. Both end as data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, cast

from sqlalchemy.orm import Session

from api.bodies import validate
from api.core.errors import NotFound, UploadTooLarge, ValidationFailed
from api.datasets import parts, service
from api.datasets.tables import PartedUpload, UploadPart
from api.datasets.upload import Received
from api.deps import Resources
from api.openai import files, forms, queries
from api.openai.schemas import CompleteUpload, CreateUpload, ExpiresAfter, FileObject, Part, Upload

Status = Literal["pending", "completed", "cancelled", "expired"]
MAX_BAD_ROW_FRACTION = 0.01
_FILENAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_EXPIRES = re.compile(r"expires_after\[(?P<field>[a-z_]{1,32})\]")


def keep_file(known: Resources, tenant_id: str, body: Received, content_type: str) -> FileObject:
    """The file of a form as a data set. Raises ValidationFailed, UploadTooLarge, and what `api.datasets.service.register` does."""
    with forms.opened(body, content_type, "file") as form:
        if form.fields.pop("purpose", None) != "fine-tune":
            raise ValidationFailed("purpose: files here are for 'fine-tune'", param="purpose")
        expires = _expires_after(form.fields)
        if _FILENAME.fullmatch(form.filename) is None:
            raise ValidationFailed("file: its name must have 1 to 255 characters", param="file")
        if form.file.size_bytes > known.settings.upload_max_bytes:
            raise UploadTooLarge(f"A file may have at most {known.settings.upload_max_bytes} bytes.")
        upload = service.Upload(
            tenant_id=tenant_id,
            name=form.filename,
            sha256=None,
            max_bad_row_fraction=MAX_BAD_ROW_FRACTION,
            keep_s=None if expires is None else expires.seconds,
        )
        made = service.register(known.make, known.store, known.settings, upload, form.file)
    with known.reading() as session:
        return files.get(session, known.store, tenant_id, made.id)


def _expires_after(fields: Mapping[str, str]) -> ExpiresAfter | None:
    """What the rest of a form says. Raises ValidationFailed for anything else."""
    said: dict[str, str | int] = {}
    for name, value in fields.items():
        named = _EXPIRES.fullmatch(name)
        if named is None:
            raise ValidationFailed("Send file, purpose and expires_after alone: a file has no other options")
        said[named["field"]] = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value
    if not said:
        return None
    try:
        return validate(ExpiresAfter, said)
    except ValidationFailed as error:
        raise ValidationFailed(f"expires_after.{error.message}", param=f"expires_after.{error.param}") from error


def begin(session: Session, tenant_id: str, sent: CreateUpload, known: Resources) -> Upload:
    """Make room for a file that comes in parts. Raises UploadTooLarge and QuotaExceeded."""
    declared = parts.Declared(
        name=sent.filename,
        size_bytes=sent.bytes,
        keep_s=None if sent.expires_after is None else sent.expires_after.seconds,
    )
    return _told(parts.begin(session, tenant_id, declared, known.settings), None)


def add_part(
    known: Resources, tenant_id: str, upload_id: str, body: Received, content_type: str, *, retried: bool
) -> Part:
    """Keep the part in a form. Raises as `api.datasets.parts.add_part`, and ValidationFailed for a form without one."""
    with forms.opened(body, content_type, "data") as form:
        if form.fields:
            raise ValidationFailed("Send data alone: a part has no options")
        if not 0 < form.file.size_bytes <= parts.PART_BYTES:
            raise UploadTooLarge(f"A part has 1 to {parts.PART_BYTES} bytes.")
        row = parts.add_part(known.make, known.store, tenant_id, upload_id, form.file, retried=retried)
    return _part(row)


def complete(known: Resources, tenant_id: str, upload_id: str, sent: CompleteUpload) -> Upload:
    """Join the parts; the upload with its file. Raises NotFound and as `api.datasets.parts.complete`."""
    with known.reading() as session:
        row = find(session, tenant_id, upload_id)
    file_id = parts.complete(
        known.make,
        known.store,
        known.settings,
        row,
        sent.part_ids,
        md5=sent.md5 and sent.md5.lower(),
        max_bad_row_fraction=MAX_BAD_ROW_FRACTION,
    )
    with known.reading() as session:
        return _told(find(session, tenant_id, upload_id), _file(session, known, tenant_id, file_id))


def cancel(known: Resources, tenant_id: str, upload_id: str) -> Upload:
    """Give an upload up. Raises NotFound and UploadEnded."""
    return _told(parts.cancel(known.make, known.store, tenant_id, upload_id), None)


def find(session: Session, tenant_id: str, upload_id: str) -> PartedUpload:
    """An upload. Raises NotFound."""
    if queries.ID.fullmatch(upload_id) is None:
        raise NotFound("There is no such upload.")
    return parts.find(session, tenant_id, upload_id)


def _file(session: Session, known: Resources, tenant_id: str, file_id: str) -> FileObject | None:
    """The file that an upload has become, if it was not deleted since."""
    try:
        return files.get(session, known.store, tenant_id, file_id)
    except NotFound:
        return None


def _told(row: PartedUpload, file: FileObject | None) -> Upload:
    return Upload(
        id=row.id,
        bytes=row.size_bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.name,
        status=cast("Status", row.state),
        file=file,
    )


def _part(row: UploadPart) -> Part:
    return Part(id=row.id, created_at=int(row.created_at.timestamp()), upload_id=row.upload_id)
