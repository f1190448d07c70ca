"""What must hold when all is over, whatever happened. Each breach is a sentence with the job that it is of."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from sqlalchemy import select

from api.artifacts.tables import Artifact
from api.core.db import reading
from api.events.tables import JobEvent, JobMetric
from api.jobs.states import TERMINAL, JobState, may_follow
from api.jobs.tables import Job
from tests.chaos.world import World
from tests.integration.http.api import Api

# Of the process that took the step, as `Measured` says: another number each time.
OF_THE_PROCESS = ("tokens_per_s", "step_s", "memory_bytes")
Series = Mapping[tuple[str, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a run that nothing disturbed left: sha256 of its files by path, and every point of its series."""

    weights: Mapping[str, str]
    series: Series


def exports(world: World, job_id: str) -> list[Artifact]:
    """The sealed students that stand, the newest attempt's last: one that was lost after its seal leaves its own beside its successor's."""
    return [row for row in world.fleet.artifacts(job_id) if row.role == "export" and row.expired_at is None]


def learnt(world: World, job_id: str) -> Expected:
    """What a succeeded job left: the weights that a download gives, and its series."""
    return Expected(weights=_weights(exports(world, job_id)[-1]), series=_series(world, job_id))


def _weights(export: Artifact) -> dict[str, str]:
    return {file["path"]: file["sha256"] for file in export.files if file["path"].endswith(".safetensors")}


def breaches(world: World, expected: Expected) -> Iterator[str]:
    """Everything that is not as it must be."""
    yield from world.troubles
    yield from (f"a process outlived its worker: {orphan}" for orphan in world.orphans())
    for job in world.rows():
        yield from (f"{job.id} ({job.state}): {breach}" for breach in _of_job(world, job, expected))


def _of_job(world: World, job: Job, expected: Expected) -> Iterator[str]:
    with reading(world.backend.make) as session:
        events = list(session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.seq)))
    yield from _of_events(job, events)
    attempts = world.fleet.attempts(job.id)
    if [attempt.fence for attempt in attempts] != list(range(1, job.fence + 1)) or job.attempt != job.fence:
        yield f"attempts {[attempt.fence for attempt in attempts]} do not lead to fence {job.fence}"
    if open_ones := [attempt.fence for attempt in attempts if attempt.ended_at is None]:
        yield f"attempts {open_ones} never ended"
    match JobState(job.state):
        case JobState.SUCCEEDED:
            yield from _of_results(world, job, expected)
        case JobState.CANCELLED if job.id in world.cancelled:
            pass
        case JobState.CANCELLED:
            yield "cancelled, and nobody asked for it"
        case _:
            yield f"did not end well: {job.failure_code} {job.failure_message}"


def _of_events(job: Job, events: list[JobEvent]) -> Iterator[str]:
    numbers = [event.seq for event in events]
    if numbers != list(range(1, job.last_seq + 1)):
        yield f"its events are not dense up to {job.last_seq}: {numbers}"
    path = [JobState(event.data["to"]) for event in events if event.kind == "state_changed"]
    if bad := [pair for pair in pairwise(path) if not may_follow(*pair)]:
        yield f"its states went {bad}"
    ends = [event for event in events if event.kind == "state_changed" and event.data["to"] in TERMINAL]
    if len(ends) != 1 or ends[0] is not events[-1] or ends[0].data["to"] != job.state:
        yield f"{len(ends)} events end it, and the last event is {events[-1].kind}"
    fences = [event.fence for event in events]
    if fences != sorted(fences):
        yield f"an earlier attempt wrote after a later one: {fences}"
    for fence in sorted(set(fences)):
        lines = [event.eseq for event in events if event.fence == fence and event.eseq is not None and event.eseq > 0]
        if lines != list(range(1, len(lines) + 1)):
            yield f"lines of attempt {fence} are missing, doubled or out of order: {lines}"


def _of_results(world: World, job: Job, expected: Expected) -> Iterator[str]:
    found = learnt(world, job.id)
    yield from (
        f"the weights of attempt {row.fence} are not those of an undisturbed run"
        for row in exports(world, job.id)
        if _weights(row) != expected.weights
    )
    if found.series.keys() != expected.series.keys():
        missing = sorted(expected.series.keys() - found.series.keys())
        more = sorted(found.series.keys() - expected.series.keys())
        yield f"its series miss {missing[:5]} and have {more[:5]} beyond"
    elif found.series != expected.series:
        other = [place for place, value in expected.series.items() if found.series[place] != value]
        yield f"its series differ at {other[:5]}"
    for row in world.fleet.artifacts(job.id):
        claimed = f"jobs/{job.id}/{row.fence}/"
        if not row.storage_prefix.startswith(claimed):
            yield f"{row.name} of attempt {row.fence} lies at {row.storage_prefix}"


def _series(world: World, job_id: str) -> Series:
    with reading(world.backend.make) as session:
        rows = session.scalars(select(JobMetric).where(JobMetric.job_id == job_id))
        return {(row.name, row.step): row.value for row in rows if not row.name.endswith(OF_THE_PROCESS)}


def downloaded(world: World, api: Api) -> Iterator[str]:
    """What a client gets of each finished job: whole, by its manifest, and of the attempt that succeeded alone."""
    for job in world.rows():
        if job.state != JobState.SUCCEEDED:
            continue
        answer = api.owner.get(f"/v1/jobs/{job.id}/checkpoints/model/download")
        if answer.status_code != 200:
            yield f"{job.id}: its download answers {answer.status_code} {answer.text[:200]}"
            continue
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
            files = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
            sums = {name: _sha256(file) for name, file in files.items()}
        export = exports(world, job.id)[-1]
        if export.fence != job.fence:
            yield f"{job.id}: the model is of attempt {export.fence}, and attempt {job.fence} succeeded"
        if sums != {file["path"]: file["sha256"] for file in export.files}:
            yield f"{job.id}: the downloaded files are not those of attempt {job.fence}"


def _sha256(file: IO[bytes] | None) -> str:
    return "" if file is None else hashlib.sha256(file.read()).hexdigest()
