"""What a run has made. Names and paths are looked up in rows; none that a client sends ever becomes a path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

from sqlalchemy.orm import Session

from api.artifacts import queries
from api.artifacts.schemas import Change, CheckpointPage, CheckpointView, FileView, Format, SamplePage, SampleView
from api.artifacts.tables import Artifact
from api.core.archive import Archive, Member
from api.core.errors import ArtifactExpired, ArtifactNotReady, NotFound, ValidationFailed
from api.core.storage import Store, StoredFileMissing
from api.downloads import Content
from api.jobs.service import last_seq
from api.pages import Cursor, cut, encode, older
from cpd_engine.events import CheckpointRole

ADAPTER = "adapter/"
SAMPLES = "samples.jsonl"
REPORT = "report"
# Rows that one request reads at most.
LOOKED_AT = 2000


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
    return Content(
        size_bytes=member.size_bytes,
        sha256=member.sha256,
        filename=path.rsplit("/", 1)[-1],
        media_type="application/octet-stream",
        read=member.read,
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


def samples(
    session: Session,
    store: Store,
    tenant_id: str,
    job_id: str,
    *,
    suite: str | None,
    limit: int,
    cursor: str | None,
    changed: Change | None = None,
) -> SamplePage:
    """A page of the answers to the test split or a suite, of all rows or of those that changed so; the cursor is a line's offset in
    bytes. So that a request stays short, a page of changed rows ends after some rows even where it holds few.

    Raises ArtifactNotReady until they are there, and NotFound for a suite that the job has not.
    """
    try:
        report = find(session, tenant_id, job_id, REPORT)
    except NotFound:
        last_seq(session, tenant_id, job_id)
        raise ArtifactNotReady("The job has not evaluated yet; its samples come with the report.") from None
    path = SAMPLES if suite is None else f"suites/{suite}.jsonl"
    if all(file["path"] != path for file in report.files):
        raise NotFound("The job has no such suite.", param="suite")
    content = file_content(store, report, path)
    at = _line_offset(content, cursor)
    found: list[SampleView] = []
    for looked, line in enumerate(_lines(content, at)):
        if len(found) == limit or looked == LOOKED_AT:
            break
        sample = SampleView.model_validate(json.loads(line))
        if changed is None or sample.change() == changed:
            found.append(sample)
        at += len(line)
    more = at < content.size_bytes
    return SamplePage(data=found, has_more=more, next_cursor=str(at) if more else None)


def _line_offset(content: Content, cursor: str | None) -> int:
    """Where a page begins. A cursor that does not point behind a line's end was made up."""
    at = int(cursor or 0) if (cursor or "0").isascii() and (cursor or "0").isdigit() else -1
    if at == 0:
        return 0
    if not 0 < at < content.size_bytes or b"".join(content.read(at - 1, at)) != b"\n":
        raise ValidationFailed("cursor: pass the next_cursor of a page as it is", param="cursor")
    return at


def _lines(content: Content, start: int) -> Iterator[bytes]:
    rest = b""
    for chunk in content.read(start, content.size_bytes):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


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
