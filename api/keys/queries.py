"""Statements over tenants and keys."""

from __future__ import annotations

from sqlalchemy import Select, Update, func, or_, select, update

from api.core.db import now
from api.keys.tables import ApiKey, Tenant


def tenant_by_name(name: str) -> Select[Tenant]:
    """The tenant of that name."""
    return select(Tenant).where(Tenant.name == name)


def tenant_for_update(tenant_id: str) -> Select[str]:
    """Locks the tenant until the transaction ends, so that its quotas are counted by one request at a time."""
    return select(Tenant.id).where(Tenant.id == tenant_id).with_for_update()


def usable_key(prefix: str) -> Select[ApiKey]:
    """The key of that prefix unless it is revoked or past its time, by the database's clock."""
    return select(ApiKey).where(
        ApiKey.prefix == prefix,
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()),
    )


def usable_keys_count() -> Select[int]:
    """How many keys open anything."""
    return (
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()))
    )


def every_key() -> Select[ApiKey, str]:
    """All keys with their tenants' names, oldest first."""
    return (
        select(ApiKey, Tenant.name)
        .join(Tenant, Tenant.id == ApiKey.tenant_id)
        .order_by(ApiKey.created_at, ApiKey.prefix)
    )


def revoke(prefix: str) -> Update:
    """Revokes the key unless it is revoked."""
    return update(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
