"""Making, finding and revoking keys `cpd_<prefix>_<secret>`. The text is shown once; the database keeps its sha256."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import cast

from sqlalchemy import CursorResult
from sqlalchemy.orm import Session

from api.keys import queries
from api.keys.schemas import DEFAULT_TENANT, SCOPES, Identity, KeyView, Scope
from api.keys.tables import ApiKey, Tenant

_KEY = re.compile(r"cpd_([0-9a-f]{12})_[0-9a-f]{48}")
# Compared against when the prefix is unknown, so that the time of a refusal does not tell which prefixes exist.
_NO_KEY = bytes(32)


def create_key(
    session: Session,
    *,
    name: str,
    scopes: Sequence[Scope] = SCOPES,
    tenant: str = DEFAULT_TENANT,
    expires_at: datetime | None = None,
) -> str:
    """A new key as text, the only time it exists; makes the tenant where there is none of that name."""
    if not scopes or not set(scopes) <= set(SCOPES):
        raise ValueError(f"a key needs at least one scope of {', '.join(SCOPES)}")
    owner = session.scalar(queries.tenant_by_name(tenant))
    if owner is None:
        owner = Tenant(id=f"ten_{uuid.uuid4().hex[:24]}", name=tenant)
        session.add(owner)
        session.flush()
    prefix = secrets.token_hex(6)
    text = f"cpd_{prefix}_{secrets.token_hex(24)}"
    session.add(
        ApiKey(
            prefix=prefix,
            sha256=hashlib.sha256(text.encode()).digest(),
            tenant_id=owner.id,
            name=name,
            scopes=list(dict.fromkeys(scopes)),
            expires_at=expires_at,
        )
    )
    session.flush()
    return text


def ensure_first_key(session: Session) -> str | None:
    """A key with every scope where no key opens anything yet; None where one does."""
    return None if has_key(session) else create_key(session, name="first key")


def has_key(session: Session) -> bool:
    """True where some key is neither revoked nor expired."""
    return session.scalars(queries.usable_keys_count()).one() > 0


def list_keys(session: Session) -> list[KeyView]:
    """Every key, revoked and expired ones too, oldest first."""
    return [
        KeyView(
            prefix=key.prefix,
            tenant=tenant,
            name=key.name,
            scopes=tuple(cast("list[Scope]", key.scopes)),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )
        for key, tenant in session.execute(queries.every_key())
    ]


def revoke_key(session: Session, prefix: str) -> bool:
    """Close the key of that prefix for good; False where there is none or it is closed."""
    return cast("CursorResult[object]", session.execute(queries.revoke(prefix))).rowcount == 1


def identify(session: Session, text: str) -> Identity | None:
    """Who the key's bearer is; None for a key that is malformed, unknown, expired or revoked."""
    shape = _KEY.fullmatch(text)
    key = session.scalar(queries.usable_key(shape[1])) if shape else None
    known = key.sha256 if key else _NO_KEY
    if not hmac.compare_digest(hashlib.sha256(text.encode()).digest(), known) or key is None:
        return None
    return _identity(key)


def known(session: Session, prefix: str) -> Identity | None:
    """Whom the key of that prefix stands for; None once it is revoked or outlived. For those that have shown the key before."""
    key = session.scalar(queries.usable_key(prefix))
    return None if key is None else _identity(key)


def _identity(key: ApiKey) -> Identity:
    return Identity(tenant_id=key.tenant_id, prefix=key.prefix, scopes=frozenset(cast("list[Scope]", key.scopes)))


def still_usable(session: Session, prefix: str) -> bool:
    """True while the key that opened a long answer has been neither revoked nor outlived."""
    return known(session, prefix) is not None


def refuse_open_bind(host: str, *, has_key: bool) -> None:
    """Raises ValueError where the service would listen beyond this machine although no key guards it."""
    if not has_key and not is_loopback(host):
        raise ValueError(
            f"refusing to listen on {host} without an API key: make one with `cpd keys create`, or bind to 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        # A name that resolves to who knows what, or an empty host, which means every interface.
        return False
