"""Log-ins to the dashboard."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Table, UtcTime, now


class WebSession(Table):
    """A browser that showed a key. Its cookie holds a token, of which only the sha256 is kept; what the key may, it may."""

    __tablename__ = "web_sessions"
    __table_args__ = (Index("ix_web_sessions_prefix", "prefix"), Index("ix_web_sessions_expires_at", "expires_at"))

    token_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    prefix: Mapped[str] = mapped_column(ForeignKey("api_keys.prefix", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
