"""Uploaded data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Dataset(Table):
    """One uploaded file of rows; its bytes lie in the store under `storage_key`."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_tenant_id_created_at_id", "tenant_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(255))
    format: Mapped[str] = mapped_column(String(24))
    rows: Mapped[int] = mapped_column(Integer)
    bad_rows: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    storage_key: Mapped[str] = mapped_column(String(255))
    # The first bad rows: line, reason, suggestion; and facts about the text (characters per field).
    report: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)
