"""Statements over a job's events and metric series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from api.core.db import mapped, upsert
from api.events.tables import JobEvent, JobMetric
from api.jobs.lease import Hold, LeaseLost, holds, lock
from api.jobs.moves import storable
from api.jobs.tables import Job

# --- written by the worker's recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Line `eseq` (from 1) that an attempt's engine wrote: an event's kind and its data."""

    eseq: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value of a series such as `student/loss` at an optimizer step (or epoch)."""

    name: str
    step: int
    value: float
    tokens: int | None = None


def append_events(
    session: Session,
    hold: Hold,
    lines: Sequence[Line],
    *,
    points: Sequence[Point] = (),
    phase: str | None = None,
    progress: Mapping[str, Any] | None = None,
) -> int:
    """Append an attempt's lines under dense numbers, and set the metrics, phase and progress they stand for.

    A line that is there already (a batch sent again after its answer was lost) is skipped. Returns how many were new.
    Raises LeaseLost, and then nothing is written.
    """
    held = lock(session, hold)
    known = _known(session, hold, lines)
    new = [line for line in lines if line.eseq not in known]
    values: dict[str, Any] = {"last_seq": held.last_seq + len(new)}
    if phase is not None:
        values["phase"] = phase
    if progress is not None:
        values["progress"] = clean(progress)
    if not session.execute(update(Job).where(*holds(hold)).values(**values).returning(Job.id)).all():
        raise LeaseLost(hold.job_id)
    rows = [
        {
            "job_id": hold.job_id,
            "seq": held.last_seq + number,
            "fence": hold.fence,
            "eseq": line.eseq,
            "kind": line.kind,
            "data": clean(line.data),
        }
        for number, line in enumerate(new, start=1)
    ]
    if rows:
        session.execute(insert(mapped(JobEvent)), rows)
    _set_points(session, hold.job_id, points)
    return len(new)


def _known(session: Session, hold: Hold, lines: Sequence[Line]) -> set[int | None]:
    if not lines:
        return set()
    first, last = min(line.eseq for line in lines), max(line.eseq for line in lines)
    sent = select(JobEvent.eseq).where(JobEvent.job_id == hold.job_id, JobEvent.fence == hold.fence)
    return set(session.scalars(sent.where(JobEvent.eseq.between(first, last))))


def _set_points(session: Session, job_id: str, points: Sequence[Point]) -> None:
    rows = [
        {"job_id": job_id, "name": point.name, "step": point.step, "value": float(point.value), "tokens": point.tokens}
        for point in points
    ]
    upsert(session, JobMetric, rows, key=("job_id", "name", "step"))


def clean(value: Any) -> Any:
    """JSON values that both databases take: text without NUL or lone surrogates."""
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(key)): clean(item) for key, item in value.items()}
        case list() | tuple():
            return [clean(item) for item in value]
        case _:
            return value


# --- read by the api


def after(job_id: str, seq: int, limit: int) -> Select[JobEvent]:
    """The events after number `seq`, at most `limit`, in order."""
    return select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq).order_by(JobEvent.seq).limit(limit)


def newest(job_id: str, before: int | None, limit: int) -> Select[JobEvent]:
    """The events before number `before`, or the last ones, at most `limit`, newest first."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq.desc()).limit(limit)
    return statement if before is None else statement.where(JobEvent.seq < before)


def newest_of(job_id: str, kinds: Sequence[str], before: int | None, limit: int) -> Select[JobEvent]:
    """As `newest`, of these kinds alone."""
    return newest(job_id, before, limit).where(JobEvent.kind.in_(kinds))


def of_kinds(job_ids: Sequence[str], *kinds: str) -> Select[JobEvent]:
    """The events of these kinds, by job in order."""
    return (
        select(JobEvent)
        .where(JobEvent.job_id.in_(job_ids), JobEvent.kind.in_(kinds))
        .order_by(JobEvent.job_id, JobEvent.seq)
    )


def of_tenant(tenant_id: str, job_ids: Sequence[str], *kinds: str) -> Select[JobEvent]:
    """The same, of those jobs that are the tenant's."""
    own = select(Job.id).where(Job.tenant_id == tenant_id, Job.id.in_(job_ids))
    return of_kinds(job_ids, *kinds).where(JobEvent.job_id.in_(own))


def series(job_id: str, name: str | None) -> Select[str, int, float, datetime]:
    """(name, step, value, at) of one series, or of every one, by name and step."""
    points = select(JobMetric.name, JobMetric.step, JobMetric.value, JobMetric.at).where(JobMetric.job_id == job_id)
    if name is not None:
        points = points.where(JobMetric.name == name)
    return points.order_by(JobMetric.name, JobMetric.step)


def last_steps(job_ids: Sequence[str], name: str) -> Select[str, int | None]:
    """(job, the last step of its series `name`), each by one look into the index."""
    last = select(func.max(JobMetric.step)).where(JobMetric.job_id == Job.id, JobMetric.name == name)
    return select(Job.id, last.correlate(Job).scalar_subquery()).where(Job.id.in_(job_ids))


def values_at(name: str, places: Sequence[tuple[str, int]]) -> Select[str, float]:
    """(job, value) of the series `name` at (job, step), by job in order of steps."""
    return (
        select(JobMetric.job_id, JobMetric.value)
        .where(JobMetric.name == name, tuple_(JobMetric.job_id, JobMetric.step).in_(places))
        .order_by(JobMetric.job_id, JobMetric.step)
    )


def sums(job_ids: Sequence[str], names: Sequence[str]) -> Select[str, str, float, int]:
    """(job, series, sum of its values, their number). A step that was taken again counts once."""
    columns: tuple[Any, ...] = (
        JobMetric.job_id,
        JobMetric.name,
        func.sum(JobMetric.value).label("total"),
        func.count().label("steps"),
    )
    of_them = select(*columns).where(JobMetric.job_id.in_(job_ids), JobMetric.name.in_(names))
    return of_them.group_by(JobMetric.job_id, JobMetric.name)


def standing(job_id: str) -> Select[str, int]:
    """(state, last_seq) of a job, whoever's it is."""
    return select(Job.state, Job.last_seq).where(Job.id == job_id)
