"""What the end of a job means for its comparison: with the last member's end, in its transaction, the table's job is queued."""

from __future__ import annotations

import uuid

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.comparisons.tables import Comparison, ComparisonMember
from api.jobs.entries import enqueue
from api.jobs.states import TERMINAL, JobKind, JobState
from api.jobs.tables import Job


def ended(session: Session, job_id: str) -> None:
    """Called where a job has just come into a terminal state, with its row locked. Nothing happens where it is no member, others are
    still at work, none has a student to show, or the comparison was cancelled.
    """
    member = select(ComparisonMember.comparison_id).where(ComparisonMember.job_id == job_id)
    comparison_id = session.scalars(member).one_or_none()
    if comparison_id is None:
        return
    # Locked before the members are looked at: of two that end at once, the second sees the first's end.
    held = select(Comparison).where(Comparison.id == comparison_id).with_for_update()
    comparison = session.scalars(held, execution_options={"populate_existing": True}).one()
    if comparison.table_job_id is not None or comparison.cancelled_at is not None:
        return
    of_it = select(ComparisonMember.job_id).where(ComparisonMember.comparison_id == comparison_id)
    states = {JobState(state) for state in session.scalars(select(Job.state).where(Job.id.in_(of_it)))}
    if states <= TERMINAL and JobState.SUCCEEDED in states:
        queue_table(session, comparison)


def queue_table(session: Session, comparison: Comparison) -> None:
    """Queue the job that makes the table, in the place of one before it. The comparison is locked."""
    table_id = _table_after(comparison)
    enqueue(
        session,
        job_id=table_id,
        tenant_id=comparison.tenant_id,
        spec={},
        resolved={"comparison": comparison.id},
        name=f"table of {comparison.name or comparison.id}"[:120],
        kind=JobKind.TABLE,
        # A matter of seconds, it does not wait behind all that was submitted while its members ran.
        created_at=comparison.created_at,
    )
    session.execute(update(Comparison).where(Comparison.id == comparison.id).values(table_job_id=table_id))


def _table_after(comparison: Comparison) -> str:
    """The comparison's own number, or one made of the table's before: a second job in the same place could not even be inserted."""
    if comparison.table_job_id is None:
        return f"job_{comparison.id.removeprefix('cmp_')}"
    return f"job_{uuid.uuid5(uuid.NAMESPACE_OID, comparison.table_job_id).hex}"
