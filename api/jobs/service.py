"""What people do with jobs. Every function takes the tenant; a job of another answers like one that is not there."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api.comparisons.tables import ComparisonMember
from api.core.errors import NotFound
from api.core.settings import Settings
from api.events import queries as event_queries
from api.jobs import idempotency, queries, transitions
from api.jobs.admission import admit, warnings_again
from api.jobs.schemas import FailureView, JobPage, JobView, MemberOf, Progress, Remark, SubmittedJob
from api.jobs.states import JobKind, JobState, Requested
from api.jobs.tables import Job
from api.pages import Cursor, cut, encode, older
from cpd_engine.config import RunConfig
from cpd_engine.events import Forecasted

CREATE_ROUTES = {JobKind.DISTILLATION: "POST /v1/jobs", JobKind.PROBE: "POST /v1/jobs/probe"}
_FORECAST: TypeAdapter[Forecasted] = TypeAdapter(Forecasted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job as it was sent: its spec, the hash of the body, and the Idempotency-Key if there is one."""

    kind: JobKind
    spec: RunConfig
    sha256: bytes
    key: str | None
    route: str | None = None
    """Under which name the key is kept; None: that of the kind."""


def submit(session: Session, tenant_id: str, submission: Submission, settings: Settings) -> SubmittedJob:
    """Store a job, once for each Idempotency-Key; the bell rings when the transaction has committed.

    Raises ValidationFailed, QuotaExceeded, IdempotencyKeyReused and IdempotencyInFlight.
    """
    request = None
    if submission.key is not None:
        route = submission.route or CREATE_ROUTES[submission.kind]
        request = idempotency.Request(
            tenant_id=tenant_id, route=route, key=submission.key, body_sha256=submission.sha256
        )
        known = idempotency.replayed(session, request, keep_s=settings.idempotency_keep_s)
        if known is not None:
            return _submitted(get(session, tenant_id, known), warnings_again(submission.spec))
    warnings = admit(session, tenant_id, submission.spec, settings)
    job_id = f"job_{uuid.uuid4().hex}"
    transitions.submit(
        session,
        job_id=job_id,
        tenant_id=tenant_id,
        spec=submission.spec.model_dump(mode="json", exclude_unset=True),
        resolved=submission.spec.resolved().model_dump(mode="json"),
        name=submission.spec.name,
        kind=submission.kind,
    )
    if request is not None:
        idempotency.answer(session, request, job_id)
    return _submitted(get(session, tenant_id, job_id), warnings)


def get(session: Session, tenant_id: str, job_id: str) -> JobView:
    """One job. Raises NotFound."""
    row = session.execute(queries.jobs(tenant_id).where(Job.id == job_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such job.")
    return _views(session, [row])[0]


def several(session: Session, tenant_id: str, job_ids: Collection[str]) -> dict[str, JobView]:
    """Those of the tenant's jobs, by id."""
    rows = session.execute(queries.jobs(tenant_id).where(Job.id.in_(job_ids))).all()
    return {view.id: view for view in _views(session, rows)}


def page(
    session: Session,
    tenant_id: str,
    *,
    state: JobState | None,
    limit: int,
    cursor: str | None,
    kind: JobKind | None = None,
    metadata: Mapping[str, str] | None = None,
    name: str | None = None,
    preset: str | None = None,
) -> JobPage:
    """A page of the tenant's jobs, newest first: of a state, kind or preset, with these values in their metadata, `name` in their name."""
    statement = queries.jobs(tenant_id)
    if state is not None:
        statement = statement.where(Job.state == state)
    if kind is not None:
        statement = statement.where(Job.kind == kind)
    for key, value in (metadata or {}).items():
        statement = statement.where(Job.spec["metadata"][key].as_string() == value)
    if name is not None:
        statement = statement.where(Job.name.icontains(name, autoescape=True))
    if preset is not None:
        statement = statement.where(Job.resolved["preset"].as_string() == preset)
    if cursor is not None:
        statement = statement.where(older(Job.created_at, Job.id, cursor))
    rows, more = cut(session.execute(statement.limit(limit + 1)).all(), limit)
    last = rows[-1][0] if more else None
    return JobPage(
        data=_views(session, rows),
        has_more=more,
        next_cursor=encode(Cursor(last.created_at, last.id)) if last else None,
    )


def cancel(session: Session, tenant_id: str, job_id: str) -> JobView:
    """Cancel at once what does not run, ask the worker of what does. Raises NotFound, JobAlreadyFinished."""
    transitions.request_cancel(session, job_id, tenant_id=tenant_id)
    return get(session, tenant_id, job_id)


def pause(session: Session, tenant_id: str, job_id: str) -> JobView:
    """Pause, after a checkpoint where it runs. Raises NotFound, JobAlreadyFinished, JobBeingCancelled."""
    transitions.request_pause(session, job_id, tenant_id=tenant_id)
    return get(session, tenant_id, job_id)


def resume(session: Session, tenant_id: str, job_id: str) -> JobView:
    """Queue a paused job again. Raises NotFound, JobAlreadyFinished, JobBeingCancelled."""
    transitions.resume(session, job_id, tenant_id=tenant_id)
    return get(session, tenant_id, job_id)


def last_seq(session: Session, tenant_id: str, job_id: str) -> int:
    """The number of the job's newest event. Raises NotFound."""
    row = session.execute(queries.standing(tenant_id, job_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such job.")
    return int(row.last_seq)


def _submitted(view: JobView, warnings: list[Remark]) -> SubmittedJob:
    fields: dict[str, Any] = {name: getattr(view, name) for name in JobView.model_fields}
    return SubmittedJob(**fields, warnings=warnings)


def _views(session: Session, rows: Sequence[Row[Job, datetime, int | None, ComparisonMember | None]]) -> list[JobView]:
    results = _results(session, [row[0] for row in rows])
    return [_view(job, clock, place, member, results) for job, clock, place, member in rows]


def _results(session: Session, jobs: list[Job]) -> dict[tuple[str, str], dict[str, Any]]:
    """The newest table and the newest forecast, by job and kind of event."""
    told = event_queries.of_kinds([job.id for job in jobs if job.last_seq > 1], "reported", "forecasted")
    return {(event.job_id, event.kind): event.data for event in session.scalars(told)}


def _view(
    job: Job,
    clock: datetime,
    place: int | None,
    member: ComparisonMember | None,
    results: dict[tuple[str, str], dict[str, Any]],
) -> JobView:
    beat = job.heartbeat_at
    failure = FailureView(code=job.failure_code, message=job.failure_message or "") if job.failure_code else None
    forecast = results.get((job.id, "forecasted"))
    return JobView(
        id=job.id,
        kind=JobKind(job.kind),
        name=job.name,
        metadata=job.spec.get("metadata", {}),
        state=JobState(job.state),
        requested=Requested(job.requested),
        phase=job.phase,
        progress=Progress.model_validate(job.progress),
        queue_position=place,
        attempt=job.attempt,
        heartbeat_age_s=None if beat is None else max(0.0, round((clock - beat).total_seconds(), 3)),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        failure=failure,
        spec=job.spec,
        resolved=job.resolved,
        scores=results.get((job.id, "reported"), {}).get("scores"),
        forecast=None if forecast is None else _FORECAST.validate_python(forecast),
        member_of=None if member is None else _member_of(member),
    )


def _member_of(member: ComparisonMember) -> MemberOf:
    return MemberOf(comparison=member.comparison_id, label=member.label, seed=member.seed)
