"""Tenants and the hashed keys by which they are known."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Tenant(Table):
    """Whose jobs and data a row is."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())


class ApiKey(Table):
    """A key `cpd_<prefix>_<secret>`, of which only the prefix and the sha256 of the whole are kept."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_tenant_id", "tenant_id"),)

    prefix: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(120))
    # Any of read, write, admin.
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
