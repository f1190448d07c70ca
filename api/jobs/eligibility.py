"""Which queued jobs may be claimed: those that are due, fit the worker, and whose tenant is under its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, or_, select, text, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from api.core.db import now
from api.core.settings import Settings
from api.jobs.states import JobState
from api.jobs.tables import Job, JobAttempt

_HOUR_S = 3600.0
_DAY_S = 86_400.0
# Any fixed number that no one else in this database uses.
_CLAIMS_LOCK = 0x0C9D_0002


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of each tenant: jobs that run at once, and GPU hours within the last `days`. None: as many as there are workers for."""

    running: int | None = None
    gpu_hours: float | None = None
    days: int = 30

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """What the operator has set."""
        return cls(running=settings.running_max, gpu_hours=settings.gpu_hours_max, days=settings.gpu_hours_days)


UNLIMITED = Limits()


class _seconds(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds from one time to a later one."""

    type = Float()
    inherit_cache = True


@compiles(_seconds, "postgresql")
def _postgresql_seconds(element: _seconds, compiler: SQLCompiler, **kw: Any) -> str:
    begin, end = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({end} - {begin})) AS DOUBLE PRECISION)"


@compiles(_seconds, "sqlite")
def _sqlite_seconds(element: _seconds, compiler: SQLCompiler, **kw: Any) -> str:
    begin, end = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"((julianday({end}) - julianday({begin})) * 86400.0)"


def due() -> ColumnElement[bool]:
    """Whether the job is held back no more."""
    return or_(Job.not_before.is_(None), Job.not_before <= now())


def gpus() -> ColumnElement[int]:
    """How many devices the job takes on a machine."""
    return func.coalesce(Job.resolved[("resources", "gpus")].as_integer(), 1)


def fits(devices: int | None) -> ColumnElement[bool]:
    """Whether a worker with so many devices can carry a job out. Jobs on several machines fit whoever is set up to lead them."""
    return true() if devices is None else gpus() <= devices


def hours_spent(days: int) -> Select[str, float]:
    """(tenant, GPU hours) of the last `days`: the time of every attempt, whatever came of it, times the devices that it held.

    Where there is no GPU, a process is counted as one. Tenants without an attempt in that time are left out.
    """
    since = now(-days * _DAY_S)
    begin = case((JobAttempt.started_at < since, since), else_=JobAttempt.started_at)
    end = func.coalesce(JobAttempt.ended_at, now())
    spent = func.sum(_seconds(begin, end) * gpus()) / _HOUR_S
    return (
        select(Job.tenant_id, spent)
        .join(JobAttempt, JobAttempt.job_id == Job.id)
        .where(or_(JobAttempt.ended_at.is_(None), JobAttempt.ended_at > since))
        .group_by(Job.tenant_id)
    )


def may_start(session: Session, limits: Limits) -> ColumnElement[bool]:
    """Whether the job's tenant is under its limits. Where there are any, claims come one after another until the transaction ends."""
    if limits.running is None and limits.gpu_hours is None:
        return true()
    if session.get_bind().dialect.name == "postgresql":
        # Two workers that count at the same moment would both find room for the last one. SQLite has one writer as it is.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIMS_LOCK})
    full = _full(session, limits)
    return Job.tenant_id.not_in(full) if full else true()


def _full(session: Session, limits: Limits) -> set[str]:
    """Tenants at a limit."""
    full: set[str] = set()
    if limits.running is not None:
        counts = select(Job.tenant_id).where(Job.state == JobState.RUNNING).group_by(Job.tenant_id)
        full.update(session.scalars(counts.having(func.count() >= limits.running)))
    if limits.gpu_hours is not None:
        full.update(tenant for tenant, hours in session.execute(hours_spent(limits.days)) if hours >= limits.gpu_hours)
    return full
