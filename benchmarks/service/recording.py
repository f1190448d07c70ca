"""How fast what a run measures is written and read: one worker with an engine that tells its steps as quickly as it can."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, sleep

from sqlalchemy import func, select

from api.core.db import reading
from api.events.tables import JobMetric
from api.jobs.states import TERMINAL, JobState
from api.jobs.tables import Job
from benchmarks.service.figures import at_share
from benchmarks.service.stack import Stack, tree_cpu_s

SERIES = "student/loss"
LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Points of series that were written, and how long it took: of ours the whole attempt, start and end of the engine included.

    `written_by`: `cpd`, or the peer with the size of its batches. `read_points` are those of one series, read `reads` times. CPU seconds
    are those of everything that took part: client or engine and worker, server, database.
    """

    written_by: str
    steps: int
    points: int
    wall_s: float
    points_per_s: float
    cpu_s: float
    points_per_cpu_s: float
    read_points: int
    reads: int
    read_p50_s: float
    read_p99_s: float


def recorded(written_by: str, *, steps: int, points: int, wall_s: float, cpu_s: float, reads: list[float]) -> Recorded:
    """With the rates that follow."""
    return Recorded(
        written_by=written_by,
        steps=steps,
        points=points,
        wall_s=wall_s,
        points_per_s=points / wall_s,
        cpu_s=cpu_s,
        points_per_cpu_s=points / cpu_s,
        read_points=steps,
        reads=len(reads),
        read_p50_s=at_share(reads, 0.5),
        read_p99_s=at_share(reads, 0.99),
    )


def record(stack: Stack, *, steps: int, reads: int) -> Recorded:
    """One job of `steps` on the one worker that must be there; then its first series, whole, `reads` times."""
    (worker,) = stack.workers
    before = tree_cpu_s(worker.pid) + stack.databases_cpu_s()
    job_id = stack.submit(steps=str(steps))
    job = _ended(stack, job_id)
    cpu_s = tree_cpu_s(worker.pid) + stack.databases_cpu_s() - before
    assert job.state == JobState.SUCCEEDED, job.failure_message
    assert job.started_at is not None
    assert job.finished_at is not None
    with reading(stack.make) as session:
        points = session.scalars(select(func.count()).where(JobMetric.job_id == job_id)).one()
    return recorded(
        "cpd",
        steps=steps,
        points=points,
        wall_s=(job.finished_at - job.started_at).total_seconds(),
        cpu_s=cpu_s,
        reads=[_read(stack, job_id, steps) for _ in range(reads)],
    )


def _ended(stack: Stack, job_id: str) -> Job:
    while True:
        with reading(stack.make) as session:
            job = session.scalars(select(Job).where(Job.id == job_id)).one()
        if job.state in TERMINAL:
            return job
        sleep(LOOK_S)


def _read(stack: Stack, job_id: str, steps: int) -> float:
    started = perf_counter()
    answer = stack.client.get(f"/v1/jobs/{job_id}/metrics", params={"name": SERIES, "points": 5000})
    (series,) = answer.json()["data"]
    took = perf_counter() - started
    assert len(series["points"]) == steps
    return took
