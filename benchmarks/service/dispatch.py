"""Many jobs and many workers: whether each job ran once, and how long it took to reach a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from time import monotonic, sleep

from sqlalchemy import func, select

from api.artifacts.tables import Artifact
from api.core.db import reading
from api.events.tables import JobEvent
from api.jobs.states import TERMINAL, JobState
from api.jobs.tables import Job, JobAttempt, Worker
from benchmarks.service.figures import at_share
from benchmarks.service.stack import Stack, tree_cpu_s

SENDERS = 4
LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What became of a burst of jobs. Seconds; `handover` from the end of a worker's job to its next one's start, `dispatch` of jobs
    that found every worker idle, from their submission to their start.
    """

    jobs: int
    workers: int
    breaches: Sequence[str]
    submit_s: float
    wall_s: float
    dispatch_p50_s: float
    dispatch_p99_s: float
    handover_p50_s: float
    handover_p99_s: float
    api_cpu_s: float
    database_cpu_s: float
    workers_cpu_s: float


def dispatch(stack: Stack, *, jobs: int, workers: int, singles: int) -> Dispatched:
    """Start the workers, give them `singles` jobs one by one and then `jobs` at once; returns when all have ended."""
    stack.start_workers(workers)
    _until(lambda: _alive(stack) == workers, "the start of the workers")
    alone = []
    for _ in range(singles):
        alone.append(stack.submit())
        _until(lambda: _unfinished(stack) == 0, "the end of a job")
    cpu = _cpu(stack)
    started = monotonic()
    with ThreadPoolExecutor(SENDERS) as senders:
        burst = list(senders.map(lambda _: stack.submit(), range(jobs)))
    submit_s = monotonic() - started
    _until(lambda: _unfinished(stack) == 0, "the end of all jobs")
    wall_s = monotonic() - started
    api_s, database_s, workers_s = (after - before for after, before in zip(_cpu(stack), cpu, strict=True))
    waits, handovers = _waits(stack, alone), list(_handovers(stack, burst))
    return Dispatched(
        jobs=jobs,
        workers=workers,
        breaches=list(breaches(stack, {*alone, *burst})),
        submit_s=submit_s,
        wall_s=wall_s,
        dispatch_p50_s=at_share(waits, 0.5),
        dispatch_p99_s=at_share(waits, 0.99),
        handover_p50_s=at_share(handovers, 0.5),
        handover_p99_s=at_share(handovers, 0.99),
        api_cpu_s=api_s,
        database_cpu_s=database_s,
        workers_cpu_s=workers_s,
    )


def breaches(stack: Stack, asked: set[str]) -> Iterator[str]:
    """What is lost, doubled or out of order among the jobs in the database; `asked` are those that the API answered with an id."""
    with reading(stack.make) as session:
        rows = session.scalars(select(Job)).all()
        attempts: dict[str, list[str]] = {}
        for attempt in session.scalars(select(JobAttempt).order_by(JobAttempt.fence)):
            attempts.setdefault(attempt.job_id, []).append(f"{attempt.outcome}: {attempt.detail}")
        exports = Counter(session.scalars(select(Artifact.job_id).where(Artifact.role == "export")))
        told = session.execute(select(JobEvent.job_id, JobEvent.seq, JobEvent.kind, JobEvent.data["to"].as_string()))
        events: dict[str, list[tuple[int, str | None]]] = {}
        for job_id, seq, _, to in told:
            events.setdefault(job_id, []).append((seq, to))
    if lost := asked - {row.id for row in rows}:
        yield f"{len(lost)} jobs are not there"
    for row in rows:
        if row.id not in asked:
            yield f"{row.id} was not asked for"
        if row.state != JobState.SUCCEEDED:
            yield f"{row.id} is {row.state}: {row.failure_code} {row.failure_message}"
        ran = attempts.get(row.id, [])
        if (len(ran), row.fence, exports[row.id]) != (1, 1, 1):
            yield f"{row.id} ran {len(ran)} times ({ran}), to fence {row.fence}, with {exports[row.id]} students"
        of_job = sorted(events.get(row.id, []))
        if [seq for seq, _ in of_job] != list(range(1, row.last_seq + 1)):
            yield f"the events of {row.id} are not dense up to {row.last_seq}"
        if sum(to in TERMINAL for _, to in of_job) != 1:
            yield f"{row.id} has not one end"


def _until(done: Callable[[], bool], what: str, *, within_s: float = 1200.0) -> None:
    deadline = monotonic() + within_s
    while not done():
        if monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {within_s:.0f} s")
        sleep(LOOK_S)


def _alive(stack: Stack) -> int:
    with reading(stack.make) as session:
        return session.scalars(select(func.count()).select_from(Worker)).one()


def _unfinished(stack: Stack) -> int:
    with reading(stack.make) as session:
        waiting = select(func.count()).select_from(Job).where(Job.state.not_in(TERMINAL))
        return session.scalars(waiting).one()


def _cpu(stack: Stack) -> tuple[float, float, float]:
    workers = sum(tree_cpu_s(worker.pid) for worker in stack.workers)
    return tree_cpu_s(stack.api.pid), stack.databases_cpu_s(), workers


def _waits(stack: Stack, job_ids: Sequence[str]) -> list[float]:
    with reading(stack.make) as session:
        times = session.execute(select(Job.created_at, Job.started_at).where(Job.id.in_(job_ids)))
        return [(started - created).total_seconds() for created, started in times if started is not None]


def _handovers(stack: Stack, job_ids: Sequence[str]) -> Iterator[float]:
    by_worker: dict[str, list[tuple[datetime, datetime | None]]] = {}
    with reading(stack.make) as session:
        rows = session.scalars(select(JobAttempt).where(JobAttempt.job_id.in_(job_ids)))
        for row in rows:
            by_worker.setdefault(row.worker_id, []).append((row.started_at, row.ended_at))
    for spans in by_worker.values():
        for (_, ended), (started, _) in pairwise(sorted(spans, key=lambda span: span[0])):
            if ended is not None:
                yield (started - ended).total_seconds()
