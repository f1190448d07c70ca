"""The worker as a program: a Celery worker with one thread for jobs, and beside it the threads that need no broker.

SIGTERM, SIGINT and SIGHUP drain: nothing new is claimed, the engine seals a checkpoint, the job is queued again without penalty.
"""

from __future__ import annotations

import contextvars
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from types import FrameType
from typing import Any

import structlog
from celery import Celery, signals
from celery.apps.worker import Worker
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import connect, sessions, transaction
from api.core.queue import QUEUE, celery_app
from api.core.settings import Settings
from api.core.storage import Store, StoreUnavailable
from api.core.stores import WORK_S, open_store
from api.core.telemetry import configure
from api.jobs import transitions
from api.jobs.eligibility import Limits
from api.jobs.transitions import Claim
from cpd_engine.launch import devices
from worker.answering import Desk
from worker.reaper import Identity, Reaper, patience
from worker.runner import Bench, run_job
from worker.tasks import Slot, register

log = structlog.get_logger(__name__)

# The exit code of a worker that found no store to work with.
NO_STORE = 4


def main(settings: Settings, *, watchdog: bool = False) -> int:
    """Run until told to stop; returns the exit code. With `watchdog`, end of file on stdin is one way to be told."""
    configure(json=settings.log_format == "json", level=settings.log_level)
    draining = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    if watchdog:
        threading.Thread(target=_watch_stdin, name="watchdog", daemon=True).start()
    store = _store(settings)
    if store is None:
        return NO_STORE
    engine = connect(settings.database_url, pool_size=settings.pool_size)
    make = sessions(engine)
    identity = _identity(settings)
    with structlog.contextvars.bound_contextvars(worker_id=identity.worker_id):
        slot = _slot(settings, make, store, identity, draining)
        idle = Idle(slot, every_s=settings.idle_claim_s, draining=draining)
        reaper = Reaper(
            make,
            identity,
            tick_s=settings.reaper_s,
            patience=patience(lease_s=settings.lease_s, hold_leases=settings.reaper_hold_leases),
            loss_budget=settings.loss_budget,
            scratch=settings.scratch_dir,
            current=lambda: slot.job_id,
            on_reaped=idle.wake,
        )
        app = celery_app(settings)
        register(app, slot)
        try:
            with reaper, idle, _desk(settings, make, store, identity):
                log.info("worker_started", pid=identity.pid)
                exit_code = _listen(app, identity, draining)
        finally:
            engine.dispose()
            store.close()
        log.info("worker_stopped", exit_code=exit_code)
        return exit_code


def _identity(settings: Settings) -> Identity:
    return Identity(
        worker_id=f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}",
        hostname=socket.gethostname(),
        pid=os.getpid(),
        version=version("cpd"),
        devices=_devices(settings),
        serves=settings.serving == "on",
    )


def _store(settings: Settings) -> Store | None:
    """The store, seen to work; None where it does not, and the log says why."""
    store = None
    try:
        store = open_store(settings, timeout_s=WORK_S)
        store.check()
    except StoreUnavailable as error:
        log.error("worker_not_started", reason=str(error))  # noqa: TRY400 - it says it all
        if store is not None:
            store.close()
        return None
    return store


def _devices(settings: Settings) -> int:
    """What a job may have here: what the machine shows, or less where the operator says so."""
    shown = devices(os.environ)
    return min(settings.devices or shown, shown)


def _desk(
    settings: Settings, make: sessionmaker[Session], store: Store, identity: Identity
) -> AbstractContextManager[object]:
    """The desk for questions, where the operator wants one."""
    if not identity.serves:
        return nullcontext()
    return Desk(make, store, settings, identity.worker_id)


def _slot(
    settings: Settings, make: sessionmaker[Session], store: Store, identity: Identity, draining: threading.Event
) -> Slot:
    bench = Bench(
        settings=settings,
        make=make,
        store=store,
        draining=draining,
        new_id=lambda: f"art_{secrets.token_hex(12)}",
    )

    def claim(job_id: str | None) -> Claim | None:
        by, lease_s, places, limits = identity.worker_id, settings.lease_s, identity.devices, Limits.of(settings)
        with transaction(make) as session:
            if job_id is None:
                return transitions.claim_next(session, worker_id=by, lease_s=lease_s, devices=places, limits=limits)
            return transitions.claim(session, job_id, worker_id=by, lease_s=lease_s, devices=places, limits=limits)

    return Slot(claim=claim, run=lambda claimed: run_job(bench, claimed), draining=draining)


class Idle:
    """Looks for a job by itself: at the start, whenever woken, and every `every_s`, should a ring be lost or the broker be away."""

    def __init__(self, slot: Slot, *, every_s: float, draining: threading.Event) -> None:
        self._slot, self._every_s, self._draining = slot, every_s, draining
        self._wakened = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="idle", daemon=True)

    def __enter__(self) -> Idle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Drain: returns once the job at hand has been given back."""
        self._draining.set()
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Look now."""
        self._wakened.set()

    def _run(self) -> None:
        while not self._draining.is_set():
            self._slot.work()
            self._wakened.wait(self._every_s)
            self._wakened.clear()


class Program(Worker):  # type: ignore[misc]  # celery ships no types
    """Celery's worker as a program, but a hang-up drains it: Celery would start it anew by a command line that is not ours."""

    def install_platform_tweaks(self, worker: Any) -> None:
        """Celery's signal handlers, and SIGTERM's for SIGHUP."""
        super().install_platform_tweaks(worker)
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))


def _listen(app: Celery, identity: Identity, draining: threading.Event) -> int:
    """Celery's part, until SIGTERM has been answered."""

    def drain(**_: object) -> None:
        draining.set()

    def keep_logging(**_: object) -> None:
        """Connected, it keeps Celery from setting up logging of its own."""

    signals.worker_shutting_down.connect(drain)
    signals.setup_logging.connect(keep_logging)
    program = Program(
        app=app,
        pool="threads",
        concurrency=1,
        hostname=f"{identity.worker_id}@{identity.hostname}",
        queues=[QUEUE],
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    program.start()
    return int(program.exitcode or 0)


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Only until Celery's own handlers are in place, which drain.
    sys.exit(0)


def _watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
