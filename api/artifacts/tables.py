"""Sealed directories in the store: results of phases, training checkpoints, the export."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Artifact(Table):
    """Written once, after its files are in the store, under the fence of the attempt that made it."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("uq_artifacts_job_id_fence_name", "job_id", "fence", "name", unique=True),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    fence: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(120))
    # cpd_engine.events.CheckpointRole
    role: Mapped[str] = mapped_column(String(16))
    # Where the directory lies under a run's output directory, so that another worker can put it back.
    path: Mapped[str] = mapped_column(String(255))
    storage_prefix: Mapped[str] = mapped_column(String(255))
    # [{"path", "size_bytes", "sha256"}], the manifest's own list with the manifest first.
    files: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int | None] = mapped_column(Integer)
    epoch: Mapped[int | None] = mapped_column(Integer)
    metrics: Mapped[dict[str, float]] = mapped_column(Json, default=dict)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    # Set when a newer checkpoint of its role took its place; the files are then removed from the store.
    expired_at: Mapped[datetime | None] = mapped_column(UtcTime)
