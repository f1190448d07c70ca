"""Cursor pages: opaque, exact at ties, and harmless when made up."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from api.core.errors import ValidationFailed

Row = TypeVar("Row")


class Cursor(NamedTuple):
    """The last row of a page: its time and its id."""

    at: datetime
    id: str


def encode(cursor: Cursor) -> str:
    """The cursor as a client sees it."""
    return base64.urlsafe_b64encode(f"{cursor.at.isoformat()}|{cursor.id}".encode()).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """Inverse of `encode`. Raises ValidationFailed for anything else."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        at, separator, row_id = raw.partition("|")
        cursor = Cursor(datetime.fromisoformat(at), row_id)
        if separator and cursor.at.tzinfo is not None and row_id.replace("_", "").isalnum():
            return Cursor(cursor.at.astimezone(UTC), row_id)
    except (ValueError, OverflowError, binascii.Error):
        pass
    raise ValidationFailed("cursor: pass the next_cursor of a page as it is", param="cursor")


def older(at: InstrumentedAttribute[Any], row_id: InstrumentedAttribute[str], cursor: str) -> ColumnElement[bool]:
    """The condition of the page after `cursor` in an order of newest first."""
    return tuple_(at, row_id) < tuple_(*decode(cursor))


def cut(rows: Sequence[Row], limit: int) -> tuple[list[Row], bool]:
    """The page of `limit` rows, of which one more was asked for, and whether there is more."""
    return list(rows[:limit]), len(rows) > limit
