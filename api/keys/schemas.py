"""What is known of a key once it has been shown."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
DEFAULT_TENANT = "default"


class KeyView(BaseModel):
    """A key without its secret, which nobody has any more."""

    model_config = ConfigDict(frozen=True)

    prefix: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Identity(BaseModel):
    """Who asks: the tenant whose rows may be seen, and what the key allows."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str
    prefix: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """True where the key has `scope`; admin has every scope."""
        return scope in self.scopes or "admin" in self.scopes
