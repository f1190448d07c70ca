"""Statements over uploaded data sets."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from api.core.db import now
from api.core.errors import DatasetInUse, NotFound
from api.datasets.tables import Dataset
from api.jobs.states import TERMINAL
from api.jobs.tables import Job

SPLITS = ("train", "validation", "test")

# --- written by the api


def hold_datasets(session: Session, ids: Collection[str], *, tenant_id: str) -> dict[str, Dataset]:
    """The data sets a new job names, kept from being deleted until the transaction ends. Raises NotFound for a missing one."""
    which = (Dataset.id.in_(ids), Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
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
    return key


# --- read by the api


def one(tenant_id: str, dataset_id: str) -> Select[Dataset]:
    """A data set that is not deleted."""
    which = (Dataset.id == dataset_id, Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    return select(Dataset).where(*which)


def datasets(tenant_id: str) -> Select[Dataset]:
    """A tenant's data sets, newest first."""
    which = (Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    return select(Dataset).where(*which).order_by(Dataset.created_at.desc(), Dataset.id.desc())


def stored_bytes(tenant_id: str) -> Select[int]:
    """What a tenant's data sets weigh."""
    which = (Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    return select(func.coalesce(func.sum(Dataset.size_bytes), 0)).where(*which)
