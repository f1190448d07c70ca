"""A job's numbered events and its metric series."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class JobEvent(Table):
    """Event `seq` of a job: dense from 1. Engine events carry (fence, eseq), the line's number in that attempt; ours have eseq None."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index("uq_job_events_job_id_fence_eseq", "job_id", "fence", "eseq", unique=True),
        # The few events that are results (profile_ready, evaluated, reported) among the many that are steps.
        Index("ix_job_events_job_id_kind", "job_id", "kind"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    fence: Mapped[int] = mapped_column(Integer)
    eseq: Mapped[int | None] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())


class JobMetric(Table):
    """One point of a series such as `student/loss`. A resumed attempt writes the same step again: last write stands."""

    __tablename__ = "job_metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[float] = mapped_column(Float)
    tokens: Mapped[int | None] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
