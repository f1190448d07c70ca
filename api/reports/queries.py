"""Statements of reports."""

from __future__ import annotations

from sqlalchemy import Select, select

from api.jobs.tables import JobAttempt

TRAINED = ("teacher", "student", "sft", "kld")
# Of every model that a job trains: supervised tokens, all tokens that went through it, and the seconds of its steps.
SUMMED = tuple(f"{trained}/{name}" for trained in TRAINED for name in ("tokens", "processed_tokens", "step_s"))


def attempts(job_id: str) -> Select[JobAttempt]:
    """A job's attempts, in order."""
    return select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.fence)
