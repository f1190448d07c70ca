"""Webhooks in the form of Standard Webhooks: the message, its signature and the secrets that make it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence

_SECRET_BYTES = 32
_PREFIX = "whsec_"


def new_secret() -> str:
    """`whsec_` and the base64 of random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message(event_id: str, event_type: str, job_id: str, *, created_at: int) -> bytes:
    """The body, the same at every attempt."""
    told = {"id": event_id, "object": "event", "created_at": created_at, "type": event_type, "data": {"id": job_id}}
    return json.dumps(told, separators=(",", ":")).encode()


def headers(event_id: str, body: bytes, signing: Sequence[str], *, timestamp: int) -> dict[str, str]:
    """What goes with a body: its id, the time of this attempt, and a signature by each of the secrets."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return {
        "content-type": "application/json",
        "user-agent": "cpd-webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in signing),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
