"""Statements over uploaded data sets."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete

from api.core.db import now
from api.core.errors import DatasetInUse, NotFound
from api.datasets.tables import Dataset, PartedUpload, UploadPart
from api.jobs.states import TERMINAL
from api.jobs.tables import Job
from api.leftovers import queries as leftovers

SPLITS = ("train", "validation", "test")


def standing(tenant_id: str) -> ColumnElement[bool]:
    """A tenant's data sets that are there: neither deleted nor past their time."""
    lasts = or_(Dataset.expires_at.is_(None), Dataset.expires_at > now())
    return and_(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None), lasts)


# --- written by the api


def hold_datasets(session: Session, ids: Collection[str], *, tenant_id: str) -> dict[str, Dataset]:
    """The data sets a new job names, kept from being deleted until the transaction ends. Raises NotFound for a missing one."""
    which = (Dataset.id.in_(ids), standing(tenant_id))
    rows = session.scalars(select(Dataset).where(*which).order_by(Dataset.id).with_for_update(read=True)).all()
    if len(rows) != len(set(ids)):
        raise NotFound("A data set that the job names does not exist.", param="dataset")
    return {row.id: row for row in rows}


def delete(session: Session, dataset_id: str, *, tenant_id: str) -> str:
    """Mark a data set deleted and return its storage key, whose file may be removed after the commit.

    Raises NotFound, and DatasetInUse while a job that has not finished names it.
    """
    which = (Dataset.id == dataset_id, Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    # Locked before the jobs are looked at: a submit that holds the data set has committed by then, and its job is seen.
    key = session.scalars(select(Dataset.storage_key).where(*which).with_for_update()).one_or_none()
    if key is None:
        raise NotFound
    in_suites = Job.resolved["evaluation"]["suites"].as_string().contains(f'"{dataset_id}"', autoescape=True)
    names = or_(in_suites, *(Job.resolved["dataset"][split].as_string() == dataset_id for split in SPLITS))
    live = (Job.tenant_id == tenant_id, Job.state.not_in(TERMINAL))
    if session.scalars(select(Job.id).where(*live, names).limit(1)).one_or_none() is not None:
        raise DatasetInUse
    session.execute(update(Dataset).where(Dataset.id == dataset_id).values(deleted_at=now()))
    leftovers.let_go(session, [key])
    return key


# --- read by the api


def one(tenant_id: str, dataset_id: str) -> Select[Dataset]:
    """A data set that is there."""
    return select(Dataset).where(Dataset.id == dataset_id, standing(tenant_id))


def of_bytes(sha256: str) -> ColumnElement[bool]:
    """Data sets whose file has this sha256."""
    return Dataset.sha256 == sha256.lower()


def datasets(tenant_id: str) -> Select[Dataset]:
    """A tenant's data sets, newest first."""
    return select(Dataset).where(standing(tenant_id)).order_by(Dataset.created_at.desc(), Dataset.id.desc())


def stored_bytes(tenant_id: str) -> Select[int]:
    """What a tenant's data sets weigh, those past their time too until their bytes are gone, and what its uploads in parts may come to."""
    kept = (Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    sets = select(func.coalesce(func.sum(Dataset.size_bytes), 0)).where(*kept).scalar_subquery()
    declared = select(func.coalesce(func.sum(PartedUpload.size_bytes), 0)).where(*_pending(tenant_id))
    return select(sets + declared.scalar_subquery())


def outlived() -> Select[str, str]:
    """(id, tenant) of data sets past their time whose bytes are still there."""
    which = (Dataset.expires_at <= now(), Dataset.deleted_at.is_(None))
    return select(Dataset.id, Dataset.tenant_id).where(*which).order_by(Dataset.expires_at)


# --- uploads in parts


def _pending(tenant_id: str) -> tuple[ColumnElement[bool], ...]:
    return PartedUpload.tenant_id == tenant_id, PartedUpload.state == "pending"


def pending_uploads(tenant_id: str) -> Select[int]:
    """How many uploads a tenant has under way."""
    return select(func.count()).select_from(PartedUpload).where(*_pending(tenant_id))


def upload(tenant_id: str, upload_id: str) -> Select[PartedUpload]:
    """An upload in parts."""
    return select(PartedUpload).where(PartedUpload.id == upload_id, PartedUpload.tenant_id == tenant_id)


def parts(upload_id: str) -> Select[UploadPart]:
    """What has arrived of it."""
    return select(UploadPart).where(UploadPart.upload_id == upload_id)


def end_upload(session: Session, upload_id: str, state: str, *, dataset_id: str | None = None) -> bool:
    """Complete, cancel or let expire an upload that is pending; False where it is not. Completing it takes it to be in time."""
    which = (PartedUpload.id == upload_id, PartedUpload.state == "pending")
    intime = (PartedUpload.expires_at <= now()) if state == "expired" else (PartedUpload.expires_at > now())
    ended = update(PartedUpload).where(*which, intime).values(state=state, dataset_id=dataset_id)
    return bool(session.execute(ended.returning(PartedUpload.id)).all())


def overdue_uploads() -> Select[str]:
    """Uploads that were to be complete by now."""
    return select(PartedUpload.id).where(PartedUpload.state == "pending", PartedUpload.expires_at <= now())


def forget_upload(upload_id: str) -> ReturningDelete[str]:
    """Deletes an upload's row, with those of its parts; gives its id where it was there."""
    return delete_from(PartedUpload).where(PartedUpload.id == upload_id).returning(PartedUpload.id)


def forgotten_uploads(after_s: float) -> Select[str]:
    """Uploads that ended, whichever way, and whose time has been over for so long."""
    return select(PartedUpload.id).where(PartedUpload.state != "pending", PartedUpload.expires_at <= now(-after_s))
