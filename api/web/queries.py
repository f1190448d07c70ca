"""Statements over log-ins to the dashboard."""

from __future__ import annotations

from sqlalchemy import Delete, Insert, Select, delete, insert, select

from api.core.db import now
from api.web.tables import WebSession


def add(token_sha256: bytes, prefix: str, keep_s: float) -> Insert:
    """Keeps a log-in for `keep_s` seconds by the database's clock."""
    return insert(WebSession).values(token_sha256=token_sha256, prefix=prefix, expires_at=now(keep_s))


def prefix_of(token_sha256: bytes) -> Select[str]:
    """The prefix of the key of a log-in that is not over."""
    return select(WebSession.prefix).where(WebSession.token_sha256 == token_sha256, WebSession.expires_at > now())


def remove(token_sha256: bytes) -> Delete:
    """Ends a log-in."""
    return delete(WebSession).where(WebSession.token_sha256 == token_sha256)


def outlived() -> Delete:
    """Removes the log-ins, of whatever tenant, whose time is over."""
    return delete(WebSession).where(WebSession.expires_at <= now())
