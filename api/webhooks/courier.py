"""The courier: makes the deliveries that are due, until they are answered with a 2xx or were tried often enough.

It runs in a thread of the api's process. Any number may run at once: a delivery is taken by a conditional UPDATE that puts it off to its
next attempt, so one whose courier is killed is made again. Receivers hear of an event at least once.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import reading, transaction, utc_now
from api.webhooks import queries, signing
from api.webhooks.addresses import Reach
from api.webhooks.post import Undeliverable, post
from api.webhooks.queries import Taken

log = structlog.get_logger(__name__)

# Endpoints that are spoken to at once.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Where deliveries may go and how often they are tried: after `first_s`, doubling to `last_s`, `attempts` times in all."""

    reach: Reach
    first_s: float
    last_s: float
    attempts: int
    timeout_s: float

    def again_s(self, attempt: int) -> float:
        """From the start of attempt number `attempt` (from 1) to the next."""
        return self.timeout_s + float(min(self.first_s * 2.0 ** min(attempt - 1, 32), self.last_s))


class Courier:
    """The courier's thread; looks every `tick_s`."""

    def __init__(self, make: sessionmaker[Session], rules: Rules, *, tick_s: float) -> None:
        self._make, self._rules, self._tick_s = make, rules, tick_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """End after the deliveries at hand; the others stay for the next courier."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._rules.timeout_s + 5)

    def once(self) -> int:
        """One pass, with at most one delivery an endpoint; how many were tried. Raises SQLAlchemyError."""
        with reading(self._make) as session:
            if session.scalar(queries.any_due()) is None:
                return 0
        with transaction(self._make) as session:
            due = session.execute(queries.first_due(_AT_ONCE)).all()
            found = [
                queries.take(session, row.id, row.attempts, again_s=self._rules.again_s(row.attempts + 1))
                for row in due
            ]
            at = int(utc_now(session).timestamp())
        taken = [one for one in found if one is not None]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="courier") as threads:
            for one in taken:
                threads.submit(self._deliver, one, at)
        return len(taken)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set() and self.once():
                    pass
            except SQLAlchemyError as error:
                log.warning("courier_database_unavailable", error=type(error).__name__)
            except Exception:
                # A thread that ended here would deliver nothing any more, and nobody would hear of it.
                log.exception("courier_failed")
            self._stopping.wait(self._tick_s)

    def _deliver(self, taken: Taken, at: int) -> None:
        bound = log.bind(delivery=taken.delivery.id, endpoint=taken.endpoint.id, attempt=taken.attempt)
        status: int | None = None
        error: str | None = None
        try:
            status = send(taken, self._rules, at)
            if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                error = f"answered {status}"
        except Undeliverable as reason:
            error = str(reason)
        last = taken.attempt >= self._rules.attempts
        state = "delivered" if error is None else "failed" if last else "pending"
        try:
            with transaction(self._make) as session:
                queries.settle(session, taken, state=state, status_code=status, error=error)
        except SQLAlchemyError as fault:
            # It is made again, which receivers are told to expect.
            bound.warning("delivery_not_recorded", error=type(fault).__name__)
            return
        bound.info("webhook_sent", state=state, status=status, error=error)


def send(taken: Taken, rules: Rules, at: int) -> int:
    """One attempt, signed as of `at` (unix seconds); the status of the answer. Raises Undeliverable."""
    delivery, endpoint = taken.delivery, taken.endpoint
    created_at = int(delivery.created_at.timestamp())
    body = signing.message(delivery.id, delivery.event_type, delivery.job_id, created_at=created_at)
    keys = [endpoint.secret]
    if endpoint.old_secret is not None and endpoint.old_secret_until is not None:
        keys += [endpoint.old_secret] if endpoint.old_secret_until.timestamp() > at else []
    signed = signing.headers(delivery.id, body, keys, timestamp=at)
    return post(endpoint.url, body, signed, reach=rules.reach, timeout_s=rules.timeout_s)
