"""Jobs, their attempts, the keys that make a POST idempotent, and the workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now
from api.jobs.states import JobKind, JobState, Requested


class Job(Table):
    """The truth about one job. Changes only by the conditional UPDATEs of transitions.py."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued','running','paused','succeeded','failed','cancelled')", name="state"),
        CheckConstraint("kind IN ('distillation','probe','table')", name="kind"),
        CheckConstraint("requested IN ('none','pause','cancel')", name="requested"),
        Index("ix_jobs_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
        # First come, first served: the next job to claim, and a job's place in the queue.
        Index("ix_jobs_state_created_at_id", "state", "created_at", "id"),
        Index("ix_jobs_state_ring_at", "state", "ring_at"),
        Index("ix_jobs_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str | None] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(16), default=JobKind.DISTILLATION, server_default=JobKind.DISTILLATION)
    # The RunConfig as sent, and with the preset filled in; both are JSON of cpd_engine.config.RunConfig. A table's job has no spec, and
    # resolved to {"comparison": id}.
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    resolved: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(16), default=JobState.QUEUED)
    requested: Mapped[str] = mapped_column(String(8), default=Requested.NONE)
    phase: Mapped[str | None] = mapped_column(String(16))
    # What a person wants to see at a glance: step, total_steps, epoch, epochs, fraction, tokens_per_s, eta_s, loss …
    progress: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    # Attempts without progress since the last sealed checkpoint: engine crashes (budget 3), workers lost (budget 5).
    crashes: Mapped[int] = mapped_column(Integer, default=0)
    losses: Mapped[int] = mapped_column(Integer, default=0)
    worker_id: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcTime)
    not_before: Mapped[datetime | None] = mapped_column(UtcTime)
    # The bell: when to ring next, and how often it rang since the job was last queued.
    ring_at: Mapped[datetime | None] = mapped_column(UtcTime)
    rings: Mapped[int] = mapped_column(Integer, default=0)
    last_seq: Mapped[int] = mapped_column(Integer, default=0)
    failure_code: Mapped[str | None] = mapped_column(String(64))
    failure_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)


class JobAttempt(Table):
    """One claim of one job by one worker."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    fence: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
    # succeeded, failed, cancelled, paused, drained, crashed, lost
    outcome: Mapped[str | None] = mapped_column(String(16))
    detail: Mapped[str | None] = mapped_column(Text)


class IdempotencyKey(Table):
    """The answer that a POST with this key gave, kept for replays of it."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "route", "key"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    route: Mapped[str] = mapped_column(String(120))
    key: Mapped[str] = mapped_column(String(255))
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    # None while the first request is in flight.
    resource_id: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())


class Worker(Table):
    """A worker process as last seen."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    hostname: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    seen_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    job_id: Mapped[str | None] = mapped_column(String(40))
    # Jobs of at most so many processes a machine are for it.
    devices: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    # Whether it answers questions to models.
    serves: Mapped[bool] = mapped_column(Boolean, server_default=false())
