"""Comparisons, and which jobs are their members."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Comparison(Table):
    """Several methods, students or settings on the same data and budget. Its state follows from its jobs'."""

    __tablename__ = "comparisons"
    __table_args__ = (
        Index("ix_comparisons_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
        UniqueConstraint("table_job_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str | None] = mapped_column(String(120))
    # As sent: JSON of api.comparisons.schemas.ComparisonSpec.
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    baseline: Mapped[str] = mapped_column(String(64))
    # JSON of cpd_engine.config.BudgetSpec, as every member got it.
    budget: Mapped[dict[str, Any]] = mapped_column(Json)
    # Queued in the transaction in which the last member ends, so that it exists once or not at all.
    table_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    cancelled_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())


class ComparisonMember(Table):
    """A job that belongs to a comparison: the member it stands for, and its seed."""

    __tablename__ = "comparison_members"
    __table_args__ = (UniqueConstraint("comparison_id", "label", "seed"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    label: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(Integer)
