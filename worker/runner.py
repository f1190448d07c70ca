"""One claimed job, from its claim to the transition that ends the attempt."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.artifacts.queries import Sealed
from api.core.db import reading, transaction
from api.core.settings import Settings
from api.core.storage import Store, StoreUnavailable, discard
from api.jobs import transitions
from api.jobs.lease import LeaseLost, holds
from api.jobs.states import JobKind, JobState, Requested
from api.jobs.tables import Job
from api.jobs.transitions import Claim
from api.leftovers import queries as leftovers
from cpd_engine.events import Checkpointed
from worker.child import Child, EngineCommand, engine_environment
from worker.endings import Crashed, Ending, Hopeless, Interrupted, Succeeded, broken_off, retry_delay_s, verdict
from worker.gathering import stage_table
from worker.lease import Lease, LeaseTimes
from worker.patient_store import PatientStore
from worker.recorder import Fenced, Recorder
from worker.spool import Spool
from worker.staging import Scratch, StagingFailed, stage, upload

log = structlog.get_logger(__name__)

_LOG_BYTES = 4 * 2**20
_SPOOL_BYTES = 512 * 2**20
_TICK_S = 0.2
SEALED = b'"kind":"checkpointed"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all attempts of a worker share. `draining` is set once the worker is to go."""

    settings: Settings
    make: sessionmaker[Session]
    store: Store
    draining: threading.Event
    new_id: Callable[[], str]


def run_job(bench: Bench, claim: Claim) -> None:
    """Work on a claimed job until it ends, is given back, or is lost to another worker."""
    with structlog.contextvars.bound_contextvars(job_id=claim.hold.job_id, attempt=claim.attempt):
        log.info("attempt_started", fence=claim.hold.fence)
        try:
            state = Attempt(bench, claim).run()
        except LeaseLost:
            log.warning("attempt_abandoned")
        else:
            log.info("attempt_ended", state=state)


class Attempt:
    """The threads and files of one claim: lease, engine, recorder, scratch folder."""

    def __init__(self, bench: Bench, claim: Claim) -> None:
        self._bench, self._claim, self._settings = bench, claim, bench.settings
        self._wake = threading.Event()
        self._lease = Lease(
            beat=self._beat,
            look=self._look,
            times=LeaseTimes(
                heartbeat_s=self._settings.heartbeat_s,
                poll_s=min(1.0, self._settings.heartbeat_s),
                outage_s=self._patience_s,
            ),
            on_change=self._wake.set,
        )
        self._writes = Fenced(bench.make, self._lease)
        self._store = PatientStore(bench.store, self._lease, patience_s=self._patience_with_store_s)

    def run(self) -> JobState:
        """Stage, run, record, settle. Raises LeaseLost, with the engine gone and nothing written after the loss."""
        with self._lease:
            try:
                with Scratch(self._settings.scratch_dir, self._claim.hold) as scratch:
                    ending = self._work(scratch)
            except StagingFailed as error:
                ending = Hopeless(failure=error.failure)
            except OSError as error:
                log.exception("attempt_broke_off")
                ending = self._broken_off(error)
            self._lease.settle()
            return self._writes.commit(lambda session: self._settle(session, ending))

    def _work(self, scratch: Scratch) -> Ending:
        staged = stage_table if self._claim.kind is JobKind.TABLE else stage
        command = staged(self._writes, self._claim, scratch, store=self._store, settings=self._settings)
        if self._told_to_stop():
            return Interrupted()
        spool = Spool(scratch.path / "events.jsonl", max_bytes=_SPOOL_BYTES)
        recorder = Recorder(
            hold=self._claim.hold,
            spool=spool,
            writes=self._writes,
            keep=lambda sealed: self._keep(scratch, sealed),
            remove=self._remove,
            record_s=self._settings.record_s,
            on_trouble=self._wake.set,
        )
        child = self._start(command, scratch, spool)
        try:
            recorder.start()
            silent_s = self._supervise(child, spool, recorder)
            spool.end()
            while not recorder.join(_TICK_S):
                self._unless_lost()
        finally:
            child.close()
            spool.close()
            recorder.join()
        if (trouble := recorder.trouble or spool.trouble) is not None:
            return self._broken_off(trouble)
        self._unless_lost()
        return verdict(
            returncode=child.join(0) or 0,
            said=recorder.ending,
            asked=child.asked_for_s() is not None,
            silent_s=silent_s,
            kept=recorder.forecasted if self._claim.kind is JobKind.PROBE else recorder.exported,
            last_words=child.log_tail(),
        )

    def _start(self, command: EngineCommand, scratch: Scratch, spool: Spool) -> Child:
        child = Child(
            command.arguments,
            environment=engine_environment(os.environ, temporary=scratch.temporary, judge=command.judge),
            log=scratch.path / "engine.log",
            log_bytes=_LOG_BYTES,
            # A training state may be deleted by the engine as soon as it has sealed the next ones: to the store at once.
            on_lines=lambda lines: spool.append(lines, urgent=any(SEALED in line for line in lines)),
            on_exit=self._wake.set,
        )
        log.info("engine_started", engine_pid=child.pid)
        return child

    def _supervise(self, child: Child, spool: Spool, recorder: Recorder) -> float | None:
        """Until the engine is gone. Returns for how long it had said nothing where that is why."""
        silent_s = None
        while child.returncode is None:
            self._wake.wait(_TICK_S)
            self._wake.clear()
            self._unless_lost()
            if self._told_to_stop():
                child.ask_to_stop()
            asked_s = child.asked_for_s()
            overdue = asked_s is not None and asked_s > self._settings.cancel_grace_s
            if overdue or recorder.trouble is not None or spool.trouble is not None:
                child.kill()
            elif spool.silent_s > self._settings.stall_s:
                silent_s = silent_s or spool.silent_s
                child.kill()
        return silent_s

    def _settle(self, session: Session, ending: Ending) -> JobState:
        hold = self._claim.hold
        match ending:
            case Succeeded():
                return transitions.succeed(session, hold)
            case Interrupted():
                return transitions.stop(session, hold)
            case Hopeless(failure=failure):
                return transitions.fail(session, hold, failure)
            case Crashed(failure=failure):
                delay_s = retry_delay_s(
                    self._claim.crashes,
                    first_s=self._settings.retry_delay_s,
                    longest_s=self._settings.retry_delay_max_s,
                )
                budget = self._settings.crash_budget
                return transitions.crash(session, hold, failure, budget=budget, delay_s=delay_s)

    def _broken_off(self, error: BaseException) -> Ending:
        # Of an attempt that was to stop anyway, whatever the store had not taken by then is made again: no crash of its own.
        return Interrupted() if isinstance(error, StoreUnavailable) and self._told_to_stop() else broken_off(error)

    def _told_to_stop(self) -> bool:
        return self._bench.draining.is_set() or self._lease.requested is not Requested.NONE

    def _unless_lost(self) -> None:
        if self._lease.lost:
            raise LeaseLost(self._claim.hold.job_id)

    def _patience_s(self) -> float:
        # A worker that is told to go does not wait half an hour for a database; the job is reaped later.
        return self._settings.cancel_grace_s if self._bench.draining.is_set() else self._settings.outage_s

    def _patience_with_store_s(self) -> float:
        return self._settings.cancel_grace_s if self._told_to_stop() else self._settings.outage_s

    def _beat(self) -> Requested:
        with transaction(self._bench.make) as session:
            return transitions.heartbeat(session, self._claim.hold, lease_s=self._settings.lease_s)

    def _look(self) -> Requested:
        with reading(self._bench.make) as session:
            requested = session.scalar(select(Job.requested).where(*holds(self._claim.hold)))
        if requested is None:
            raise LeaseLost(self._claim.hold.job_id)
        return Requested(requested)

    def _keep(self, scratch: Scratch, sealed: Checkpointed) -> Sealed | None:
        return upload(
            sealed,
            out=scratch.out,
            store=self._store,
            hold=self._claim.hold,
            new_id=self._bench.new_id,
            expect=self._expect,
        )

    def _expect(self, prefix: str) -> None:
        wait_s = self._settings.outage_s
        self._writes.commit(lambda session: leftovers.expect(session, prefix, wait_s=wait_s))

    def _remove(self, prefixes: list[str]) -> None:
        for prefix in prefixes:
            discard(self._store, prefix)
