"""What lies in the store and may belong to nobody."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from api.core.db import Table, UtcTime


class Leftover(Table):
    """A prefix whose files go from `due_at` on, unless a row has named them by then and this one is gone."""

    __tablename__ = "leftovers"
    __table_args__ = (Index("ix_leftovers_due_at", "due_at"),)

    prefix: Mapped[str] = mapped_column(String(255), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(UtcTime)
