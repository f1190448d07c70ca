"""Log-ins by key: opened once, asked at every request, ended by hand, by time, or with the key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.core.errors import InvalidApiKey
from api.keys import service as keys
from api.keys.schemas import Identity
from api.web import queries

# A week: a run of days is watched without logging in again.
KEEP_S = 7 * 86_400
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who looks at a page, and the token that the page's forms carry, which no other site can know."""

    identity: Identity
    form_token: str


def open_session(session: Session, key: str) -> str:
    """The token of a new log-in with `key`, to be set as a cookie. Raises InvalidApiKey."""
    identity = keys.identify(session, key)
    if identity is None:
        raise InvalidApiKey
    token = secrets.token_urlsafe(32)
    session.execute(queries.outlived())
    session.execute(queries.add(_sha256(token), identity.prefix, KEEP_S))
    return token


def visit(session: Session, token: str) -> Visit | None:
    """Who a cookie's bearer is; None where it is malformed, unknown or outlived, or its key is revoked or outlived."""
    prefix = session.scalar(queries.prefix_of(_sha256(token))) if _TOKEN.fullmatch(token) else None
    identity = keys.known(session, prefix) if prefix is not None else None
    return None if identity is None else Visit(identity=identity, form_token=form_token(token))


def close_session(session: Session, token: str) -> None:
    """End a log-in."""
    session.execute(queries.remove(_sha256(token)))


def form_token(token: str) -> str:
    """What the forms of a log-in carry: made of its token, which it does not tell."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
