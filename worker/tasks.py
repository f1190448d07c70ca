"""What a ring of the bell does: take the job it names, if it still waits, and then whatever waits next, until nothing does."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from api.core.queue import RUN_TASK
from api.jobs.transitions import Claim

log = structlog.get_logger(__name__)


class Slot:
    """The one place of a worker where a job runs: one per GPU.

    `claim` takes the job of that id, or with None the one that waits longest; `run` works on it to the end of the attempt.
    """

    def __init__(
        self,
        *,
        claim: Callable[[str | None], Claim | None],
        run: Callable[[Claim], None],
        draining: threading.Event,
    ) -> None:
        self._claim, self._run, self._draining = claim, run, draining
        self._busy = threading.Lock()
        self._rung = threading.Event()
        self._job_id: str | None = None

    @property
    def job_id(self) -> str | None:
        """The job at hand."""
        return self._job_id

    def work(self, job_id: str | None = None) -> None:
        """Run jobs until none waits. Returns at once while another thread is at it, which then looks once more before it ends."""
        self._rung.set()
        while self._rung.is_set() and self._busy.acquire(blocking=False):
            try:
                self._rung.clear()
                while (claim := self._next(job_id)) is not None:
                    self._attempt(claim)
            finally:
                self._busy.release()

    def _next(self, job_id: str | None) -> Claim | None:
        if self._draining.is_set():
            return None
        try:
            named = None if job_id is None else self._claim(job_id)
            return named or self._claim(None)
        except SQLAlchemyError as error:
            log.warning("claim_failed", error=type(error).__name__)
            return None

    def _attempt(self, claim: Claim) -> None:
        self._job_id = claim.hold.job_id
        try:
            self._run(claim)
        except Exception:
            # Nobody beats for the job any more, so it is reaped; this worker goes on with others.
            log.exception("attempt_broke", job_id=claim.hold.job_id)
        finally:
            self._job_id = None


def register(app: Celery, slot: Slot) -> None:
    """Make `slot` answer the bell."""

    @app.task(name=RUN_TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # celery ships no types
    def run(job_id: str) -> None:
        slot.work(job_id)
