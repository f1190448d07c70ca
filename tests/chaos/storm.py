"""One run of chaos: jobs, faults for a while, calm until every job has ended, and a look at what is left."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from sqlalchemy import Select, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from api.core.db import reading
from api.events.tables import JobEvent
from api.jobs import transitions
from api.jobs.states import JobState
from api.jobs.tables import JobAttempt
from tests.chaos.faults import FAULTS, Blow
from tests.chaos.invariants import Expected, breaches, downloaded, learnt
from tests.chaos.report import Report, Struck
from tests.chaos.world import WORKERS, EngineName, Kind, World, world
from tests.integration.http.api import serving

JOBS_AT_ONCE = 3
# Nothing has to recover from these.
HARMLESS = frozenset({"ring often", "cancel", "pause", "resume"})
BETWEEN_S = 1.5
# From the last fault to the end of the last job.
CALM_S = 420.0


def storm(
    kind: Kind, engine: EngineName, folder: Path, *, seconds: float, seed: int, say: Callable[[str], None]
) -> Report:
    """Servers and workers from nothing to the report; everything that was started is gone when it returns."""
    with world(kind, engine, folder) as made:
        say(f"chaos on {kind} with the {engine} engine: seed {seed}")
        expected = undisturbed(made)
        passed = _Storm(world=made, chance=random.Random(seed), say=say)
        passed.rage(seconds)
        passed.calm()
        found = [*passed.late, *_ended(made), *breaches(made, expected)]
        with serving(made.backend) as api:
            found += downloaded(made, api)
        rows = made.rows()
        return Report(
            backend=kind,
            engine=engine,
            seed=seed,
            seconds=seconds,
            jobs=len(rows),
            succeeded=sum(row.state == JobState.SUCCEEDED for row in rows),
            cancelled=sum(row.state == JobState.CANCELLED for row in rows),
            attempts=sum(row.attempt for row in rows),
            struck=[_recovered(made, each) for each in passed.struck],
            breaches=found,
        )


def undisturbed(made: World) -> Expected:
    """What a job leaves that nobody disturbs."""
    job_id = made.submit()
    row = made.fleet.work_here(job_id)
    assert row.state == JobState.SUCCEEDED, f"{row.failure_code}: {row.failure_message}"
    return learnt(made, job_id)


@dataclass(kw_only=True)
class _Storm:
    """What is due, and what was done."""

    world: World
    chance: random.Random
    say: Callable[[str], None]
    struck: list[Struck] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def rage(self, seconds: float) -> None:
        """Faults for so long."""
        until = monotonic() + seconds
        self._later(0.0, self._strike)
        while monotonic() < until:
            self.world.keep_workers()
            self._keep_jobs()
            self._pass(until)

    def calm(self) -> None:
        """Everything is put right, and every job gets to its end."""
        self._due = [entry for entry in self._due if entry[2] != self._strike]
        for _, _, undo in sorted(self._due):
            undo()
        self._due.clear()
        for pid in [process.pid for process in self.world.alive()] + [process.pid for process in self.world.engines()]:
            self.world.signal(pid, signal.SIGCONT)
        until = monotonic() + CALM_S
        while monotonic() < until:
            self.world.keep_workers()
            if not self._left() or len(self.world.troubles) > WORKERS:
                return
            threading.Event().wait(0.2)
        self.late = [f"{job_id} has not ended {CALM_S:.0f} s after the last fault" for job_id in self._left()]

    def _left(self) -> list[str]:
        with suppress(SQLAlchemyError):
            paused = [
                row.id for row in self.world.unfinished() if row.state == JobState.PAUSED or row.requested == "pause"
            ]
            for job_id in paused:
                self.world.fleet.ask(transitions.resume, job_id)
            return [row.id for row in self.world.unfinished()]
        return ["unknown"]

    def _keep_jobs(self) -> None:
        if "database" not in self.world.away:
            with suppress(SQLAlchemyError):
                for _ in range(JOBS_AT_ONCE - len(self.world.unfinished())):
                    self.world.submit()

    def _pass(self, until: float) -> None:
        """Wait for what is due next, and do it."""
        threading.Event().wait(max(0.0, min(self._due[0][0], until) - monotonic()))
        while self._due and self._due[0][0] <= monotonic():
            heapq.heappop(self._due)[2]()

    def _later(self, after_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (monotonic() + after_s, next(self._numbers), what))

    def _strike(self) -> None:
        names, weights = list(FAULTS), [weight for _, weight in FAULTS.values()]
        (name,) = self.chance.choices(names, weights)
        at = datetime.now(UTC)
        blow = FAULTS[name][0](self.world, self.chance)
        if blow is not None:
            self._note(name, at, blow)
        self._later(self.chance.expovariate(1.0 / BETWEEN_S), self._strike)

    def _note(self, name: str, at: datetime, blow: Blow) -> None:
        self.say(f"{at:%H:%M:%S.%f} {name}: {blow.target}" + (f" for {blow.for_s:.1f} s" if blow.for_s else ""))
        self.struck.append(Struck(at=at, fault=name, target=blow.target, lasted_s=blow.for_s, worker=blow.worker))
        if blow.undo is not None:
            self._later(blow.for_s, blow.undo)


def _recovered(made: World, struck: Struck) -> Struck:
    """With the time until an engine's next line: of the attempt after the one that was killed, or of anything that was held up."""
    if struck.fault in HARMLESS:
        return struck
    over = struck.at + timedelta(seconds=struck.lasted_s)
    line = select(func.min(JobEvent.at)).where(JobEvent.at > over, JobEvent.eseq.is_not(None))
    with reading(made.backend.make) as session:
        if struck.worker is not None:
            held = session.execute(_held(struck.worker, struck.at)).first()
            if held is None:
                return struck
            line = line.where(JobEvent.job_id == held.job_id)
            if not struck.lasted_s:
                line = line.where(JobEvent.fence > held.fence)
        at = session.scalar(line)
    return struck if at is None else replace(struck, recovered_s=round((at - over).total_seconds(), 3))


def _held(worker: int, at: datetime) -> Select[str, int]:
    """(job, fence) of the attempt that a worker of this process id was at."""
    open_then = (JobAttempt.started_at <= at, or_(JobAttempt.ended_at.is_(None), JobAttempt.ended_at >= at))
    return select(JobAttempt.job_id, JobAttempt.fence).where(JobAttempt.worker_id.like(f"%-{worker}-%"), *open_then)


def _ended(made: World) -> Iterator[str]:
    """Stop the workers as an operator would, and see that they go."""
    for worker in made.alive():
        made.meant.add(worker.pid)
        worker.terminate()
    for worker in made.fleet.workers:
        with suppress(Exception):
            worker.wait(60)
        if worker.returncode is None:
            yield f"worker {worker.pid} did not stop within 60 s of SIGTERM"
