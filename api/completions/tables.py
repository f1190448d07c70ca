"""Questions to models, and their answers as far as they have come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Json, Table, UtcTime, now


class Completion(Table):
    """One question. It lives for minutes: the row goes when the answer was read."""

    __tablename__ = "completions"
    __table_args__ = (
        CheckConstraint("state IN ('queued','running','done','failed')", name="state"),
        Index("ix_completions_state_created_at_id", "state", "created_at", "id"),
        Index("ix_completions_tenant_id_state", "tenant_id", "state"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    # Which model: {"artifact": id, "template": …} or {"local": name, "template": …}.
    source: Mapped[dict[str, Any]] = mapped_column(Json)
    # JSON of cpd_engine.conversation.Ask, without its id.
    ask: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(16))
    worker_id: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    # The answer so far.
    text: Mapped[str] = mapped_column(Text, default="")
    finish_reason: Mapped[str | None] = mapped_column(String(8))
    prompt_tokens: Mapped[int | None] = mapped_column(Integer)
    completion_tokens: Mapped[int | None] = mapped_column(Integer)
    failure_code: Mapped[str | None] = mapped_column(String(64))
    failure_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime, server_default=now())
    # When nobody waits any more.
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
