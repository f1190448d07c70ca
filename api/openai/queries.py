"""Statements over the rows of other domains as this door lists them: as files, as models, and the requests that may be sent again."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, union_all, update
from sqlalchemy.sql.dml import ReturningUpdate

from api.artifacts.tables import Artifact
from api.core.db import now
from api.datasets.queries import standing
from api.datasets.tables import Dataset
from api.jobs.states import TERMINAL, JobKind
from api.jobs.tables import IdempotencyKey, Job
from api.openai.schemas import Purpose

REPORT = "report"
# The roles of sealed directories that hold a model.
WEIGHTS = ("training", "best", "export")
# Anything that no id looks like is the id of nothing, and never reaches a statement.
ID = re.compile(r"[A-Za-z0-9_]{1,40}")


def _results() -> ColumnElement[bool]:
    """Of what jobs have sealed, that which still stands and is a result: the weights and the report."""
    return and_(Artifact.expired_at.is_(None), or_(Artifact.role == "export", Artifact.name == REPORT))


def files(
    tenant_id: str, purpose: Purpose | None, *, ascending: bool, after: tuple[datetime, str] | None
) -> Select[Any]:
    """(id, created_at) of a tenant's data sets and results in order of time."""
    data = select(Dataset.id, Dataset.created_at).where(standing(tenant_id))
    made = (
        select(Artifact.id, Artifact.created_at)
        .join(Job, Job.id == Artifact.job_id)
        .where(Job.tenant_id == tenant_id, Job.kind == JobKind.DISTILLATION, _results())
    )
    parts = {None: [data, made], "fine-tune": [data], "fine-tune-results": [made]}[purpose]
    every = union_all(*parts).subquery()
    place = (every.c.created_at, every.c.id)
    statement = select(*place).order_by(*(column if ascending else column.desc() for column in place))
    if after is None:
        return statement
    last = tuple_(*after)
    return statement.where(tuple_(*place) > last if ascending else tuple_(*place) < last)


def datasets(tenant_id: str, ids: Collection[str]) -> Select[Dataset]:
    """Those of the tenant's data sets."""
    return select(Dataset).where(Dataset.id.in_(ids), standing(tenant_id))


def artifacts(tenant_id: str, ids: Collection[str]) -> Select[Artifact]:
    """Those of the sealed directories of the tenant's jobs, whether or not they still stand."""
    return select(Artifact).join(Job, Job.id == Artifact.job_id).where(Job.tenant_id == tenant_id, Artifact.id.in_(ids))


def results(job_ids: Collection[str]) -> Select[Artifact]:
    """The results of jobs, oldest first."""
    return select(Artifact).where(Artifact.job_id.in_(job_ids), _results()).order_by(Artifact.created_at, Artifact.id)


def weights(tenant_id: str, limit: int) -> Select[Artifact]:
    """The exports of the tenant's jobs, newest first."""
    return (
        select(Artifact)
        .join(Job, Job.id == Artifact.job_id)
        .where(Job.tenant_id == tenant_id, Artifact.role == "export", Artifact.expired_at.is_(None))
        .where(Job.kind == JobKind.DISTILLATION)
        .order_by(Artifact.created_at.desc(), Artifact.id.desc())
        .limit(limit)
    )


def finished(tenant_id: str, job_id: str) -> Select[str]:
    """The job, if it is over."""
    return select(Job.id).where(Job.id == job_id, Job.tenant_id == tenant_id, Job.state.in_(TERMINAL))


def expire(job_id: str, name: str) -> ReturningUpdate[str]:
    """Marks every copy of a job's weights as gone; their storage prefixes."""
    which = (Artifact.job_id == job_id, Artifact.name == name, Artifact.expired_at.is_(None))
    return update(Artifact).where(*which).values(expired_at=now()).returning(Artifact.storage_prefix)


def same_body(tenant_id: str, route: str, body_sha256: bytes) -> Select[IdempotencyKey]:
    """What requests with this body and without a key have left, newest first."""
    return (
        select(IdempotencyKey)
        .where(
            IdempotencyKey.tenant_id == tenant_id,
            IdempotencyKey.route == route,
            IdempotencyKey.body_sha256 == body_sha256,
        )
        .order_by(IdempotencyKey.id.desc())
        .limit(1)
    )


def within(seconds: float) -> ColumnElement[bool]:
    """Whether such a request came in the last `seconds`."""
    return IdempotencyKey.created_at >= now(-seconds)
