"""A comparison's state, which follows from those of its members and of its table. Pure."""

from __future__ import annotations

from collections.abc import Collection

from api.jobs.states import TERMINAL, JobState


def comparison_state(members: Collection[JobState], table: JobState | None, *, cancelled: bool) -> JobState:
    """`members`: of every job; `table`: of the job that makes the table, None before there is one; `cancelled`: it was asked for."""
    found = set(members)
    if not found <= TERMINAL:
        return _live(found)
    if table is not None:
        return table if table in TERMINAL or table is JobState.PAUSED else JobState.RUNNING
    if cancelled or found == {JobState.CANCELLED}:
        return JobState.CANCELLED
    # Every job ended without a student: there is nothing to compare. With one the table is queued as the last job ends.
    return JobState.FAILED


def _live(found: set[JobState]) -> JobState:
    if found == {JobState.QUEUED}:
        return JobState.QUEUED
    waits = found - TERMINAL
    return JobState.PAUSED if waits == {JobState.PAUSED} else JobState.RUNNING
