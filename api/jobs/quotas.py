"""What a tenant may take, and has taken: waiting and running jobs, GPU hours, bytes of data sets."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.core.errors import QuotaExceeded
from api.core.settings import Settings
from api.datasets import queries as dataset_queries
from api.jobs import queries
from api.jobs.eligibility import Limits, hours_spent
from api.jobs.schemas import Remark, Usage
from api.jobs.states import JobState
from api.jobs.tables import Job
from api.keys import queries as key_queries


def usage(session: Session, tenant_id: str, settings: Settings) -> Usage:
    """All of it, beside what the operator allows."""
    waiting, running = (
        session.scalars(queries.count(tenant_id, state)).one() for state in (JobState.QUEUED, JobState.RUNNING)
    )
    return Usage(
        queued_jobs=waiting,
        queued_jobs_max=settings.queued_max,
        running_jobs=running,
        running_jobs_max=settings.running_max,
        gpu_hours=round(_hours(session, tenant_id, settings.gpu_hours_days), 3),
        gpu_hours_max=settings.gpu_hours_max,
        gpu_hours_days=settings.gpu_hours_days,
        stored_bytes=session.scalars(dataset_queries.stored_bytes(tenant_id)).one(),
        stored_bytes_max=settings.stored_max_bytes,
    )


def make_room(session: Session, tenant_id: str, settings: Settings, *, jobs: int = 1) -> None:
    """See that `jobs` more may wait, with the tenant locked against a second submission. Raises QuotaExceeded."""
    session.execute(key_queries.tenant_for_update(tenant_id)).one()
    _refuse_overspent(session, tenant_id, settings)
    waiting = session.scalars(queries.count(tenant_id, JobState.QUEUED)).one()
    if waiting + jobs <= settings.queued_max:
        return
    told = f"At most {settings.queued_max} jobs may wait"
    if jobs > 1:
        raise QuotaExceeded(
            f"{told}; {waiting} do, and these would be {jobs} more. Ask for fewer or wait for some to start."
        )
    raise QuotaExceeded(f"{told}; cancel one or wait for one to start.")


def _refuse_overspent(session: Session, tenant_id: str, settings: Settings) -> None:
    limits = Limits.of(settings)
    if limits.gpu_hours is None:
        return
    spent = _hours(session, tenant_id, limits.days)
    if spent >= limits.gpu_hours:
        raise QuotaExceeded(
            f"At most {limits.gpu_hours:g} GPU hours within {limits.days} days; {spent:.1f} are spent. Wait, or ask the operator."
        )


def _hours(session: Session, tenant_id: str, days: int) -> float:
    spent = session.execute(hours_spent(days).where(Job.tenant_id == tenant_id)).one_or_none()
    return 0.0 if spent is None else float(spent[1])


def crowded(session: Session, tenant_id: str, settings: Settings) -> list[Remark]:
    """What there is to say where the tenant runs as many jobs as it may: the new one waits for one of them, not for a worker."""
    most = settings.running_max
    if most is None or session.scalars(queries.count(tenant_id, JobState.RUNNING)).one() < most:
        return []
    told = f"At most {most} of your jobs run at once, and so many do: this one waits for one of them to end."
    return [Remark(code="running_limit_reached", message=told)]
