"""Statements over comparisons and their members."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Select, Update, select, update

from api.comparisons.tables import Comparison, ComparisonMember
from api.core.db import now
from api.jobs.tables import Job, JobAttempt


def comparisons(tenant_id: str) -> Select[Comparison]:
    """A tenant's comparisons, newest first."""
    of_tenant = select(Comparison).where(Comparison.tenant_id == tenant_id)
    return of_tenant.order_by(Comparison.created_at.desc(), Comparison.id.desc())


def held(comparison_id: str) -> Select[Comparison]:
    """A comparison, locked until the transaction ends."""
    return select(Comparison).where(Comparison.id == comparison_id).with_for_update()


def members(comparison_ids: Collection[str]) -> Select[ComparisonMember, Job]:
    """(membership, job) of comparisons, in the order in which they were asked for."""
    return (
        select(ComparisonMember, Job)
        .join(Job, Job.id == ComparisonMember.job_id)
        .where(ComparisonMember.comparison_id.in_(comparison_ids))
        .order_by(ComparisonMember.comparison_id, ComparisonMember.position, ComparisonMember.seed)
    )


def member_states(comparison_ids: Collection[str]) -> Select[str, str]:
    """(comparison, state of a member's job), one row a job."""
    of_them = ComparisonMember.comparison_id.in_(comparison_ids)
    return select(ComparisonMember.comparison_id, Job.state).join(Job, Job.id == ComparisonMember.job_id).where(of_them)


def states(job_ids: Collection[str]) -> Select[str, str]:
    """(job, state)."""
    return select(Job.id, Job.state).where(Job.id.in_(job_ids))


def locked_members(comparison_id: str) -> Select[str]:
    """The ids of a comparison's jobs, every one of them locked, always in the same order."""
    of_it = select(ComparisonMember.job_id).where(ComparisonMember.comparison_id == comparison_id)
    return select(Job.id).where(Job.id.in_(of_it)).order_by(Job.id).with_for_update()


def locked(job_id: str) -> Select[str]:
    """A job's id, its row locked until the transaction ends."""
    return select(Job.id).where(Job.id == job_id).with_for_update()


def cancel(comparison_id: str) -> Update:
    """Note that the comparison's end was asked for."""
    one = update(Comparison).where(Comparison.id == comparison_id, Comparison.cancelled_at.is_(None))
    return one.values(cancelled_at=now())


def worker_times(job_ids: Collection[str]) -> Select[str, datetime, datetime | None]:
    """(job, start, end) of every attempt."""
    from_attempts = select(JobAttempt.job_id, JobAttempt.started_at, JobAttempt.ended_at)
    return from_attempts.where(JobAttempt.job_id.in_(job_ids))
