"""Fine-tuning jobs: the jobs of this service, told as OpenAI's API tells its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from api.artifacts.tables import Artifact
from api.bodies import Sent
from api.core.db import utc_now
from api.core.errors import NotFound, ValidationFailed
from api.core.settings import Settings
from api.events import queries as event_queries
from api.jobs import service
from api.jobs.schemas import JobView
from api.jobs.states import JobKind, JobState
from api.openai import queries, repeats
from api.openai.creation import multiplier, run_config, theirs
from api.openai.names import called, made
from api.openai.schemas import CreateJob, Failure, FineTuningJob, MethodSettingsView, MethodView, Page, Status, Taken
from api.pages import Cursor, encode

# A strict client has no word for a pause: to it the job waits, as it does, and `distillation.state` says for what.
STATUS: Mapping[JobState, Status] = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.PAUSED: "queued",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
TOKENS = "student/processed_tokens"


def create(
    session: Session,
    tenant_id: str,
    sent: Sent[CreateJob],
    settings: Settings,
    *,
    key: str | None,
    attempt: repeats.Try,
) -> FineTuningJob:
    """Queue a job, once however often it is sent: by its key, else by the client's own count of tries.

    Raises what `api.jobs.service.submit` does, with fields under OpenAI's names.
    """
    spec = run_config(sent.value, settings)
    submission = service.Submission(
        kind=JobKind.DISTILLATION, spec=spec, sha256=sent.sha256, key=key, route=repeats.ROUTE
    )
    known = None if key is not None else repeats.earlier(session, attempt, keep_s=settings.idempotency_keep_s)
    if known is not None:
        return get(session, tenant_id, known)
    try:
        job = service.submit(session, tenant_id, submission, settings)
    except ValidationFailed as error:
        raise theirs(error) from error
    if key is None:
        repeats.remember(session, attempt, job.id)
    return told(session, tenant_id, [job])[0]


def get(session: Session, tenant_id: str, job_id: str) -> FineTuningJob:
    """One job. Raises NotFound."""
    return told(session, tenant_id, [known(session, tenant_id, job_id)])[0]


def known(session: Session, tenant_id: str, job_id: str) -> JobView:
    """The job, unless it is a forecast or a table, which this door does not show. Raises NotFound."""
    if queries.ID.fullmatch(job_id) is None:
        raise NotFound("There is no such job.")
    view = service.get(session, tenant_id, job_id)
    if view.kind is not JobKind.DISTILLATION:
        raise NotFound("There is no such job.")
    return view


def page(
    session: Session, tenant_id: str, *, after: str | None, limit: int, metadata: Mapping[str, str]
) -> Page[FineTuningJob]:
    """A page of the tenant's jobs, newest first. Raises ValidationFailed for an `after` that is no job."""
    cursor = None
    if after is not None:
        try:
            cursor = encode(Cursor(known(session, tenant_id, after).created_at, after))
        except NotFound:
            raise ValidationFailed("after: there is no such job", param="after") from None
    found = service.page(
        session, tenant_id, state=None, limit=limit, cursor=cursor, kind=JobKind.DISTILLATION, metadata=metadata
    )
    data = told(session, tenant_id, found.data)
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=data, first_id=first, last_id=last, has_more=found.has_more)


def told(session: Session, tenant_id: str, views: Sequence[JobView]) -> list[FineTuningJob]:
    """The jobs as OpenAI's API has them, with their results."""
    ids = [view.id for view in views]
    results: dict[str, list[Artifact]] = {job_id: [] for job_id in ids}
    for row in session.scalars(queries.results(ids)):
        results[row.job_id].append(row)
    tokens = {row.job_id: int(row.total) for row in session.execute(event_queries.sums(ids, [TOKENS]))}
    clock = utc_now(session)
    return [_told(view, tenant_id, clock, results[view.id], tokens.get(view.id)) for view in views]


def _told(
    view: JobView, tenant_id: str, clock: datetime, results: Sequence[Artifact], tokens: int | None
) -> FineTuningJob:
    resolved = view.resolved
    weights = [row.name for row in results if row.role == "export"]
    eta_s = view.progress.eta_s if view.state is JobState.RUNNING else None
    taken = Taken(
        n_epochs=resolved["epochs"] or "auto",
        batch_size=resolved["optimizer"]["batch_size"],
        learning_rate_multiplier=multiplier(resolved),
    )
    succeeded = view.state is JobState.SUCCEEDED
    return FineTuningJob(
        id=view.id,
        created_at=int(view.created_at.timestamp()),
        finished_at=None if view.finished_at is None else int(view.finished_at.timestamp()),
        estimated_finish=None if eta_s is None else int(clock.timestamp() + eta_s),
        status=STATUS[view.state],
        model=called(resolved["student"]),
        teacher=called(resolved["teacher"]),
        fine_tuned_model=made(view.id, weights[-1]) if succeeded and weights else None,
        organization_id=tenant_id,
        training_file=_training_file(resolved["dataset"]),
        validation_file=resolved["dataset"]["validation"],
        result_files=[row.id for row in results],
        trained_tokens=tokens,
        hyperparameters=taken,
        method=MethodView(supervised=MethodSettingsView(hyperparameters=taken)),
        seed=resolved["seed"],
        error=None if view.failure is None else Failure(code=view.failure.code, message=view.failure.message),
        metadata=view.metadata,
        distillation=view,
    )


def _training_file(dataset: Mapping[str, Any]) -> str:
    """A job from elsewhere may have no file: then where its rows come from."""
    return str(dataset["train"] or dataset["hub"] or "synthetic")
