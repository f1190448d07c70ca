"""Keeping a claimed job: heartbeats from a thread of their own, and what a person asks for in the meantime."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.jobs.lease import LeaseLost
from api.jobs.states import Requested

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """Seconds: between heartbeats, between looks at what was requested, and without the database until the job is given up."""

    heartbeat_s: float
    poll_s: float
    outage_s: Callable[[], float]


class Lease:
    """Beats until closed. `requested` is what a person asked for; `lost` is set once the job is no longer ours.

    `on_change` is called after either changed, perhaps more than once. An unreachable database loses nothing until `outage_s`
    have passed: nobody can take the job while nobody can write.
    """

    def __init__(
        self,
        *,
        beat: Callable[[], Requested],
        look: Callable[[], Requested],
        times: LeaseTimes,
        on_change: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._beat, self._look, self._times, self._clock = beat, look, times, clock
        self._on_change = on_change
        self._closing = threading.Event()
        self._lost = threading.Event()
        self._settling = False
        self._requested = Requested.NONE
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="lease", daemon=True
        )

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    @property
    def requested(self) -> Requested:
        """What was asked for when last looked."""
        return self._requested

    @property
    def lost(self) -> bool:
        """True once nothing more may be written."""
        return self._lost.is_set()

    def wait_lost(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s`, less if the lease is lost meanwhile; returns `lost`."""
        return self._lost.wait(timeout_s)

    def lose(self) -> None:
        """The fence refused a write, here or elsewhere: stop everything that belongs to the job."""
        self._lost.set()
        self._on_change()

    def settle(self) -> None:
        """The attempt's end is about to be written. That write finds out itself whether the job is still ours, and once it is done a look
        would find that it is not.
        """
        self._settling = True

    def _run(self) -> None:
        answered_at = beaten_at = self._clock()
        while not self._closing.wait(self._times.poll_s) and not self.lost:
            due = self._clock() - beaten_at >= self._times.heartbeat_s
            try:
                requested = self._beat() if due else self._look()
            except LeaseLost:
                if not self._settling:
                    log.warning("lease_lost")
                    self.lose()
            except SQLAlchemyError as error:
                without_s = self._clock() - answered_at
                log.warning("heartbeat_failed", error=type(error).__name__, without_database_s=round(without_s, 1))
                if without_s > self._times.outage_s():
                    self.lose()
            else:
                answered_at = self._clock()
                # After a failed beat the next look that succeeds must be a beat: the lease may be about to run out.
                beaten_at = answered_at if due else beaten_at
                if requested is not self._requested:
                    self._requested = requested
                    self._on_change()
