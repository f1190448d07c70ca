"""The job's states and which may follow which. Pure."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """`phase` is progress, not state. Terminal states never change."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job is for: a student, a forecast by a few steps on a worker's device, or the table of a comparison."""

    DISTILLATION = "distillation"
    PROBE = "probe"
    TABLE = "table"


class Requested(StrEnum):
    """What a person has asked of a running job; read in the heartbeat."""

    NONE = "none"
    PAUSE = "pause"
    CANCEL = "cancel"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.PAUSED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED, JobState.QUEUED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def may_follow(before: JobState, after: JobState) -> bool:
    """True where the machine allows `before` → `after`."""
    return after in TRANSITIONS[before]


class Outcome(StrEnum):
    """How one attempt at a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    DRAINED = "drained"
    CRASHED = "crashed"
    LOST = "lost"
