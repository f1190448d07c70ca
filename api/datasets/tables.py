"""Uploaded data sets, and those that are still arriving in parts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Dataset(Table):
    """One uploaded file of rows; its bytes lie in the store under `storage_key`."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
        Index("ix_datasets_expires_at", "expires_at"),
    )

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
    # From then on it is not there for anybody; its bytes go once no job needs them.
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)


class PartedUpload(Table):
    """A file that comes in parts, kept in the store under `uploads/<id>/`. While it is pending its size is taken from the tenant's room."""

    __tablename__ = "parted_uploads"
    __table_args__ = (
        CheckConstraint("state IN ('pending','completed','cancelled','expired')", name="state"),
        Index("ix_parted_uploads_tenant_id_state", "tenant_id", "state"),
        Index("ix_parted_uploads_state_expires_at", "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(255))
    # As declared; the parts must come to as much.
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # For how long the data set stays, where not for good.
    keep_s: Mapped[float | None] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(16))
    # No foreign key: what became of the upload is told after the data set was deleted too.
    dataset_id: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    expires_at: Mapped[datetime] = mapped_column(UtcTime)


class UploadPart(Table):
    """One part, written once its bytes are in the store."""

    __tablename__ = "upload_parts"
    __table_args__ = (Index("ix_upload_parts_upload_id", "upload_id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("parted_uploads.id", ondelete="CASCADE"))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
