"""The fence: what an attempt holds, and the one condition under which it may write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from api.jobs.states import JobState, Requested
from api.jobs.tables import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An attempt's right to write: job and fence. Every claim raises the fence, so an older hold is worth nothing."""

    job_id: str
    fence: int


class LeaseLost(Exception):
    """The job is no longer this attempt's: it was reaped and claimed anew, or it ended. Kill the engine and write nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldJob:
    """The job's row as its holder sees it with the row locked."""

    requested: Requested
    attempt: int
    crashes: int
    losses: int
    last_seq: int


def holds(hold: Hold) -> Sequence[ColumnElement[bool]]:
    """The conditions of every write an attempt makes: this job, this fence, still running."""
    return Job.id == hold.job_id, Job.fence == hold.fence, Job.state == JobState.RUNNING


def lock(session: Session, hold: Hold) -> HeldJob:
    """Lock the held job's row until the transaction ends. Raises LeaseLost where the hold is worth nothing."""
    columns: tuple[Any, ...] = (Job.requested, Job.attempt, Job.crashes, Job.losses, Job.last_seq)
    row = session.execute(select(*columns).where(*holds(hold)).with_for_update()).one_or_none()
    if row is None:
        raise LeaseLost(hold.job_id)
    return HeldJob(
        requested=Requested(row.requested),
        attempt=row.attempt,
        crashes=row.crashes,
        losses=row.losses,
        last_seq=row.last_seq,
    )


def requested(session: Session, hold: Hold) -> Requested:
    """What a person has asked for, read without a write; between heartbeats. Raises LeaseLost."""
    answer = session.scalars(select(Job.requested).where(*holds(hold))).one_or_none()
    if answer is None:
        raise LeaseLost(hold.job_id)
    return Requested(answer)
