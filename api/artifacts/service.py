"""What a run has made. Names and paths are looked up in rows; none that a client sends ever becomes a path."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from sqlalchemy.orm import Session

from api.artifacts import queries
from api.artifacts.schemas import CheckpointPage, CheckpointView, FileView, Format
from api.artifacts.tables import Artifact
from api.core.archive import Archive, Member
from api.core.errors import ArtifactExpired, NotFound, ValidationFailed
from api.core.storage import Store, StoredFileMissing
from api.downloads import Content
from api.jobs.service import last_seq
from api.pages import Cursor, cut, encode, older
from cpd_engine.events import CheckpointRole

ADAPTER = "adapter/"


def page(session: Session, tenant_id: str, job_id: str, *, limit: int, cursor: str | None) -> CheckpointPage:
    """A page of the checkpoints that still stand, newest first. Raises NotFound for the job."""
    last_seq(session, tenant_id, job_id)
    statement = queries.of_job(job_id)
    if cursor is not None:
        statement = statement.where(older(Artifact.created_at, Artifact.id, cursor))
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    following = encode(Cursor(rows[-1].created_at, rows[-1].id)) if more else None
    return CheckpointPage(data=[_view(row) for row in rows], has_more=more, next_cursor=following)


def get(session: Session, tenant_id: str, job_id: str, name: str) -> CheckpointView:
    """One checkpoint. Raises NotFound and ArtifactExpired."""
    return _view(find(session, tenant_id, job_id, name))


def find(session: Session, tenant_id: str, job_id: str, name: str) -> Artifact:
    """The newest copy of a checkpoint that still stands. Raises NotFound, and ArtifactExpired where all are gone."""
    last_seq(session, tenant_id, job_id)
    row = session.scalars(queries.named(job_id, name).limit(1)).one_or_none() if queries.NAME.fullmatch(name) else None
    if row is None:
        raise NotFound("The job has no such checkpoint.")
    if row.expired_at is not None:
        raise ArtifactExpired
    return row


def file_content(store: Store, artifact: Artifact, path: str) -> Content:
    """One file of a checkpoint. Raises NotFound and ArtifactExpired."""
    file = next((file for file in artifact.files if file["path"] == path), None)
    if file is None:
        raise NotFound("The checkpoint has no such file.")
    member = _member(store, artifact, file)
    _check_stored(store, artifact, [member])
    filename, media_type = path.rsplit("/", 1)[-1], "application/octet-stream"
    key = f"{artifact.storage_prefix}/{path}"
    return Content(
        size_bytes=member.size_bytes,
        sha256=member.sha256,
        filename=filename,
        media_type=media_type,
        read=member.read,
        link=partial(store.link, key, filename=filename, media_type=media_type),
    )


def archive_content(store: Store, artifact: Artifact, which: Format) -> Content:
    """A checkpoint as one tar, made while it is sent. Raises ValidationFailed and ArtifactExpired."""
    files = artifact.files
    if which not in _formats(artifact):
        raise ValidationFailed("format: this checkpoint has no adapter; it was not trained with LoRA", param="format")
    if which == "adapter":
        # The manifest comes along, for it says what the adapter's files must hash to.
        files = [file for file in files if file["path"].startswith(ADAPTER) or file["path"] == "manifest.json"]
    members = [_member(store, artifact, file) for file in files]
    _check_stored(store, artifact, members)
    packed = Archive(members)
    return Content(
        size_bytes=packed.size_bytes,
        sha256=packed.fingerprint,
        filename=f"{artifact.job_id}-{artifact.name}-{which}.tar",
        media_type="application/x-tar",
        read=packed.chunks,
    )


def archive_size(store: Store, artifact: Artifact) -> int:
    """Bytes of the tar of a whole checkpoint, told from its row alone."""
    return Archive([_member(store, artifact, file) for file in artifact.files]).size_bytes


def _member(store: Store, artifact: Artifact, file: dict[str, object]) -> Member:
    key = f"{artifact.storage_prefix}/{file['path']}"

    def read(start: int, stop: int) -> Iterator[bytes]:
        return store.read(key, start, stop)

    return Member(
        path=str(file["path"]), size_bytes=cast("int", file["size_bytes"]), sha256=str(file["sha256"]), read=read
    )


def _check_stored(store: Store, artifact: Artifact, members: list[Member]) -> None:
    """A checkpoint whose files are being removed right now answers 410 now, not by breaking off in the middle."""
    try:
        for member in members:
            store.size(f"{artifact.storage_prefix}/{member.path}")
    except StoredFileMissing as error:
        raise ArtifactExpired from error


def _formats(artifact: Artifact) -> list[Format]:
    has_adapter = any(file["path"].startswith(ADAPTER) for file in artifact.files)
    return ["merged", "adapter"] if has_adapter else ["merged"]


def _view(row: Artifact) -> CheckpointView:
    return CheckpointView(
        id=row.id,
        name=row.name,
        role=cast("CheckpointRole", row.role),
        step=row.step,
        epoch=row.epoch,
        metrics=row.metrics,
        size_bytes=row.size_bytes,
        files=[FileView.model_validate(file) for file in row.files],
        manifest_sha256=row.manifest_sha256,
        formats=_formats(row),
        created_at=row.created_at,
    )
