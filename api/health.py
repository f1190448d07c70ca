"""Probes for whoever keeps the service running, and metrics for Prometheus. No key, and nothing that is anybody's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

import structlog
from celery import Celery
from fastapi import APIRouter, Response
from kombu.exceptions import OperationalError as BrokerError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from api.core import queue
from api.core.errors import DatabaseUnavailable
from api.core.storage import Store, StoreUnavailable
from api.deps import Known, Resources
from api.jobs import queries
from api.jobs.states import JobState
from api.metrics import Standing, exposition
from api.problems import declared_open

log = structlog.get_logger(__name__)
router = APIRouter(tags=["health"])

WORKER_SEEN_S = 60.0


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service depends on. `degraded`: jobs are accepted, but may start late or not at all; without the store, files are not."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok", "degraded"]
    database: Literal["ok"] = "ok"
    broker: Literal["ok", "unavailable"]
    store: Literal["ok", "unavailable"]
    workers: int


class Probe:
    """Whether something answers, asked at most once in `keep_s`. What hangs keeps one caller waiting; others hear what was known before."""

    def __init__(
        self, ask: Callable[[], bool], *, keep_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[float, bool] | None = None

    def answers(self) -> bool:
        """True where it did when last asked; False where it was never asked before and somebody is asking now."""
        if not self._fresh() and self._lock.acquire(blocking=False):
            try:
                if not self._fresh():
                    answered = self._ask()
                    self._known = (self._clock(), answered)
            finally:
                self._lock.release()
        known = self._known
        return known is not None and known[1]

    def _fresh(self) -> bool:
        known = self._known
        return known is not None and self._clock() - known[0] <= self._keep_s


def broker_answers(app: Celery) -> bool:
    """True where the broker does."""
    try:
        queue.ping(app)
    except (BrokerError, OSError) as error:
        log.warning("broker_unavailable", error=type(error).__name__)
        return False
    return True


def store_answers(store: Store) -> bool:
    """True where the store does."""
    try:
        store.look()
    except StoreUnavailable as error:
        log.warning("store_unavailable", reason=str(error))
        return False
    return True


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses=declared_open())
async def alive() -> Alive:
    """The process is up. Looks at nothing else: a restart cures no dependency."""
    return Alive()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=declared_open(DatabaseUnavailable))
def ready(known: Known) -> Readiness:
    """Requests can be served: 503 without the database, `degraded` without broker, store or workers."""
    with known.reading() as session:
        workers = session.scalars(queries.workers_seen(WORKER_SEEN_S)).one()
    broker, store = known.broker.answers(), known.files.answers()
    return Readiness(
        status="ok" if broker and store and workers else "degraded",
        broker="ok" if broker else "unavailable",
        store="ok" if store else "unavailable",
        workers=workers,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **declared_open()},
)
def metrics(known: Known) -> Response:
    """Request counters and latencies by route, jobs by state, the bell, workers; in Prometheus' text format."""
    return Response(exposition(known.requests, _standing(known)), media_type=CONTENT_TYPE_LATEST)


def _standing(known: Resources) -> Standing:
    jobs: dict[JobState, int] | None = None
    workers: int | None = None
    try:
        with known.reading() as session:
            counted = session.execute(queries.counts_by_state()).all()
            jobs = {JobState(state): count for state, count in counted}
            workers = session.scalars(queries.workers_seen(WORKER_SEEN_S)).one()
    except SQLAlchemyError as error:
        log.warning("metrics_without_database", error=type(error).__name__)
    return Standing(
        jobs=jobs,
        workers=workers,
        rung=known.bell.rung,
        bell_failures=known.bell.failures,
        followed=len(known.feeds.feeds),
    )
