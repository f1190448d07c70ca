"""Statements over jobs, idempotency keys and workers, as the api reads and writes them. States change in transitions.py alone."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Delete, Select, Update, case, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningInsert

from api.comparisons.tables import ComparisonMember
from api.core.db import now
from api.events.tables import JobMetric
from api.jobs.states import JobKind, JobState
from api.jobs.tables import IdempotencyKey, Job, Worker


def jobs(tenant_id: str) -> Select[Job, datetime, int | None, ComparisonMember | None]:
    """(job, the database's clock, place in the queue, what it is to a comparison) of a tenant's jobs, newest first.

    The next to be claimed has place 1.
    """
    return _with_places().where(Job.tenant_id == tenant_id)


@cache
def _with_places() -> Select[Job, datetime, int | None, ComparisonMember | None]:
    # Built once: this is the statement that every poll sends.
    ahead = aliased(Job)
    place = (
        select(func.count())
        .select_from(ahead)
        .where(
            ahead.state == JobState.QUEUED,
            tuple_(ahead.created_at, ahead.id) <= tuple_(Job.created_at, Job.id),
        )
        .correlate(Job)
        .scalar_subquery()
    )
    shown = case((Job.state == JobState.QUEUED, place), else_=None)
    statement: Select[Job, datetime, int | None, ComparisonMember | None] = select(
        Job, now().label("clock"), shown.label("place"), ComparisonMember
    )
    of_comparison = statement.outerjoin(ComparisonMember, ComparisonMember.job_id == Job.id)
    return of_comparison.order_by(Job.created_at.desc(), Job.id.desc())


def standing(tenant_id: str, job_id: str) -> Select[str, int]:
    """(state, last_seq) of a job."""
    return select(Job.state, Job.last_seq).where(Job.id == job_id, Job.tenant_id == tenant_id)


def count(tenant_id: str, state: JobState) -> Select[int]:
    """How many of a tenant's jobs are in `state`."""
    return select(func.count()).select_from(Job).where(Job.tenant_id == tenant_id, Job.state == state)


def counts_by_state() -> Select[str, int]:
    """(state, jobs) of every tenant, for the operator's metrics."""
    return select(Job.state, func.count()).group_by(Job.state)


def workers_seen(within_s: float) -> Select[int]:
    """How many workers were seen in the last `within_s` seconds."""
    return select(func.count()).select_from(Worker).where(Worker.seen_at >= now(-within_s))


def most_devices(within_s: float) -> Select[int | None]:
    """The most devices that a worker seen in the last `within_s` seconds has for a job; None where none was seen."""
    return select(func.max(Worker.devices)).where(Worker.seen_at >= now(-within_s))


def idempotency_key(tenant_id: str, route: str, key: str) -> Select[IdempotencyKey]:
    """What a request with this Idempotency-Key has left."""
    return select(IdempotencyKey).where(*_same_key(tenant_id, route, key))


def take_key(postgresql: bool, tenant_id: str, route: str, key: str, body_sha256: bytes) -> ReturningInsert[int]:
    """Inserts an unanswered Idempotency-Key and returns its row's id; no row where the key is taken."""
    insert = postgresql_insert if postgresql else sqlite_insert
    values = {"tenant_id": tenant_id, "route": route, "key": key, "body_sha256": body_sha256}
    return insert(IdempotencyKey).values(**values).on_conflict_do_nothing().returning(IdempotencyKey.id)


def answer_key(tenant_id: str, route: str, key: str, resource_id: str) -> Update:
    """Writes what the request with this key made."""
    return update(IdempotencyKey).where(*_same_key(tenant_id, route, key)).values(resource_id=resource_id)


def outlived_keys(tenant_id: str, keep_s: float) -> Delete:
    """Removes a tenant's Idempotency-Keys that are older than `keep_s`."""
    return delete(IdempotencyKey).where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.created_at < now(-keep_s))


def _same_key(tenant_id: str, route: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.route == route, IdempotencyKey.key == key


def newest_pace(tenant_id: str) -> Select[dict[str, Any], float]:
    """(resolved spec, mean tokens per second of the student's steps) of the tenant's newest job that succeeded."""
    newest = (
        select(Job.id)
        .where(Job.tenant_id == tenant_id, Job.state == JobState.SUCCEEDED, Job.kind == JobKind.DISTILLATION)
        .order_by(Job.finished_at.desc(), Job.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    pace = (
        select(func.avg(JobMetric.value))
        .where(JobMetric.job_id == Job.id, JobMetric.name == "student/tokens_per_s")
        .correlate(Job)
        .scalar_subquery()
    )
    return select(Job.resolved, pace.label("tokens_per_s")).where(Job.id == newest, pace.is_not(None))
