"""Whether the broker answers. Without it jobs start late; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import redis
from kombu.exceptions import OperationalError

from api.core import queue
from api.core.settings import Settings
from api.doctor.findings import Finding, doubtful, well

_LATE = "jobs start late, at the workers' own looks, until it answers: start it, or correct CPD_BROKER_URL"


def examined(settings: Settings) -> Iterator[Finding]:
    """What there is to say of it."""
    if settings.broker_url.startswith("filesystem://"):
        if not settings.database_url.startswith("sqlite"):
            yield doubtful(
                "broker",
                f"messages lie in {settings.broker_dir}, which workers on other machines may not see",
                "set CPD_BROKER_URL to a Redis where there is more than one machine",
            )
            return
        yield well("broker", f"messages lie in {settings.broker_dir}")
        return
    try:
        with queue.celery_app(settings).connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=settings.broker_connect_s)
            waiting = queue.depth(connection)
    except (OperationalError, OSError) as error:
        yield doubtful("broker", f"does not answer: {(str(error).splitlines() or [type(error).__name__])[0]}", _LATE)
        return
    yield well("broker", f"answers; {waiting} bells wait")
    yield from _memory(settings)


def _memory(settings: Settings) -> Iterator[Finding]:
    """A Redis that is shared and full drops bells, or refuses them."""
    with redis.from_url(settings.broker_url, socket_timeout=settings.broker_socket_s) as client:
        try:
            told = client.info("memory")
        except redis.RedisError:
            return  # An account that may not ask. The bells it may ring were tried above.
    most, policy = int(told.get("maxmemory", 0)), str(told.get("maxmemory_policy", "noeviction"))
    if most and policy != "noeviction":
        yield doubtful(
            "broker",
            f"evicts keys when full ({policy}), bells among them",
            "set maxmemory-policy noeviction, or share it with nobody",
        )
