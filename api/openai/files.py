"""Files: data sets, and of finished jobs the weights and the report. The rows are those of their own domains."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.artifacts import service as artifact_service
from api.artifacts.tables import Artifact
from api.core.errors import ArtifactExpired, NotFound, ValidationFailed
from api.core.storage import Store
from api.datasets import service as dataset_service
from api.datasets.tables import Dataset
from api.downloads import Content
from api.openai import queries
from api.openai.schemas import FileObject, Page, Purpose
from api.pages import cut

REPORT_FILE = "report.json"


def get(session: Session, store: Store, tenant_id: str, file_id: str) -> FileObject:
    """One file. Raises NotFound and ArtifactExpired."""
    return _view(find(session, tenant_id, file_id), store)


def find(session: Session, tenant_id: str, file_id: str) -> Dataset | Artifact:
    """The row of a file. Raises NotFound, and ArtifactExpired for a checkpoint that another has replaced."""
    if queries.ID.fullmatch(file_id) is None:
        raise NotFound("There is no such file.")
    dataset = session.scalar(queries.datasets(tenant_id, [file_id]))
    if dataset is not None:
        return dataset
    artifact = session.scalar(queries.artifacts(tenant_id, [file_id]))
    if artifact is None:
        raise NotFound("There is no such file.")
    if artifact.expired_at is not None:
        raise ArtifactExpired
    return artifact


def check_deletable(session: Session, tenant_id: str, file_id: str) -> None:
    """See that a file is a data set. Raises NotFound, and ValidationFailed for a result."""
    if not isinstance(find(session, tenant_id, file_id), Dataset):
        raise ValidationFailed("file_id: a result stays with its job; only data sets can be deleted", param="file_id")


def page(
    session: Session,
    store: Store,
    tenant_id: str,
    *,
    purpose: Purpose | None,
    ascending: bool,
    after: str | None,
    limit: int,
) -> Page[FileObject]:
    """A page of files in order of time. Raises ValidationFailed for an `after` that is no file."""
    last = None
    if after is not None:
        try:
            row = find(session, tenant_id, after)
        except (NotFound, ArtifactExpired):
            raise ValidationFailed("after: there is no such file", param="after") from None
        last = (row.created_at, row.id)
    statement = queries.files(tenant_id, purpose, ascending=ascending, after=last)
    found, more = cut(session.execute(statement.limit(limit + 1)).all(), limit)
    ids = [row.id for row in found]
    rows: dict[str, Dataset | Artifact] = {row.id: row for row in session.scalars(queries.datasets(tenant_id, ids))}
    rows |= {row.id: row for row in session.scalars(queries.artifacts(tenant_id, ids))}
    data = [_view(rows[file_id], store) for file_id in ids if file_id in rows]
    return paged(data, more)


def paged(data: list[FileObject], more: bool) -> Page[FileObject]:
    """The page of these."""
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=data, first_id=first, last_id=last, has_more=more)


def content(store: Store, row: Dataset | Artifact) -> Content:
    """The bytes of a file: rows as they were sent, the report as JSON, any other sealed directory as a tar. Raises ArtifactExpired."""
    if isinstance(row, Dataset):
        return dataset_service.content(store, row)
    if _is_report(row):
        return artifact_service.file_content(store, row, REPORT_FILE)
    return artifact_service.archive_content(store, row, "merged")


def _is_report(row: Artifact) -> bool:
    return row.name == queries.REPORT and any(file["path"] == REPORT_FILE for file in row.files)


def _view(row: Dataset | Artifact, store: Store) -> FileObject:
    at = int(row.created_at.timestamp())
    if isinstance(row, Dataset):
        return FileObject(
            id=row.id,
            bytes=row.size_bytes,
            created_at=at,
            expires_at=None if row.expires_at is None else int(row.expires_at.timestamp()),
            filename=row.name,
            purpose="fine-tune",
            dataset=dataset_service.view(row),
        )
    if _is_report(row):
        size = next(int(file["size_bytes"]) for file in row.files if file["path"] == REPORT_FILE)
        name = f"{row.job_id}-{REPORT_FILE}"
    else:
        size, name = artifact_service.archive_size(store, row), f"{row.job_id}-{row.name}.tar"
    return FileObject(id=row.id, bytes=size, created_at=at, expires_at=None, filename=name, purpose="fine-tune-results")
