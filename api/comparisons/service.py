"""What people do with comparisons. Every function takes the tenant; a comparison of another answers like one that is not there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from api.comparisons import queries
from api.comparisons.ending import queue_table
from api.comparisons.schemas import ComparisonPage, ComparisonSpec, ComparisonView, SubmittedComparison
from api.comparisons.specs import Run, budget_of, pointing, runs_of
from api.comparisons.states import comparison_state
from api.comparisons.tables import Comparison, ComparisonMember
from api.comparisons.views import line_of, states_of, view_of
from api.core.errors import ComparisonAlreadyFinished, NotFound, TableNotDue, ValidationFailed
from api.core.settings import Settings
from api.jobs import idempotency, transitions
from api.jobs.admission import check
from api.jobs.quotas import make_room
from api.jobs.schemas import Remark
from api.jobs.states import TERMINAL, JobState
from api.pages import Cursor, cut, encode, older
from cpd_engine.remarks import NOT_IN_FORECAST

CREATE_ROUTE = "POST /v1/comparisons"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A comparison as it was sent: its spec, the hash of the body, and the Idempotency-Key if there is one."""

    spec: ComparisonSpec
    sha256: bytes
    key: str | None


def submit(session: Session, tenant_id: str, submission: Submission, settings: Settings) -> SubmittedComparison:
    """Store a comparison with all its jobs, once for each Idempotency-Key; the bell rings when the transaction has committed.

    Raises ValidationFailed, QuotaExceeded, IdempotencyKeyReused and IdempotencyInFlight.
    """
    request = None
    if submission.key is not None:
        request = idempotency.Request(
            tenant_id=tenant_id, route=CREATE_ROUTE, key=submission.key, body_sha256=submission.sha256
        )
        known = idempotency.replayed(session, request, keep_s=settings.idempotency_keep_s)
        if known is not None:
            return _submitted(get(session, tenant_id, known), [])
    spec, budget = submission.spec, budget_of(submission.spec)
    runs = runs_of(spec, budget)
    warnings = _check(session, tenant_id, spec, runs, settings)
    make_room(session, tenant_id, settings, jobs=len(runs))
    comparison_id = f"cmp_{uuid.uuid4().hex}"
    values = {
        "id": comparison_id,
        "tenant_id": tenant_id,
        "name": spec.name,
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "baseline": spec.baseline_label,
        "budget": budget.model_dump(mode="json"),
    }
    session.execute(insert(Comparison).values(**values))
    for run in runs:
        _submit_run(session, tenant_id, comparison_id, run)
    if request is not None:
        idempotency.answer(session, request, comparison_id)
    return _submitted(get(session, tenant_id, comparison_id), warnings)


def get(session: Session, tenant_id: str, comparison_id: str) -> ComparisonView:
    """One comparison. Raises NotFound."""
    return view_of(session, find(session, tenant_id, comparison_id))


def find(session: Session, tenant_id: str, comparison_id: str) -> Comparison:
    """Its row. Raises NotFound."""
    row = session.scalars(queries.comparisons(tenant_id).where(Comparison.id == comparison_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such comparison.")
    return row


def page(session: Session, tenant_id: str, *, limit: int, cursor: str | None) -> ComparisonPage:
    """A page of the tenant's comparisons, newest first."""
    statement = queries.comparisons(tenant_id)
    if cursor is not None:
        statement = statement.where(older(Comparison.created_at, Comparison.id, cursor))
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    states = states_of(session, rows)
    return ComparisonPage(
        data=[line_of(row, states) for row in rows],
        has_more=more,
        next_cursor=encode(Cursor(rows[-1].created_at, rows[-1].id)) if more else None,
    )


def cancel(session: Session, tenant_id: str, comparison_id: str) -> ComparisonView:
    """Cancel every member that has not ended, and the table. Asking twice is asking once.

    Raises NotFound, and ComparisonAlreadyFinished for one that has its table or failed.
    """
    find(session, tenant_id, comparison_id)
    # Jobs first, as whoever ends one has its row locked when it asks for the comparison's.
    members = session.scalars(queries.locked_members(comparison_id)).all()
    held = queries.held(comparison_id)
    comparison = session.scalars(held, execution_options={"populate_existing": True}).one()
    if comparison.table_job_id is not None:
        # What ends a table wants no other lock: it waits for us, and the state seen below holds until the commit.
        session.scalars(queries.locked(comparison.table_job_id)).all()
    states = states_of(session, [comparison])
    now = comparison_state(
        states.members[comparison_id], states.tables.get(comparison_id), cancelled=comparison.cancelled_at is not None
    )
    if now in TERMINAL and now is not JobState.CANCELLED:
        raise ComparisonAlreadyFinished
    session.execute(queries.cancel(comparison_id))
    live = {job_id for job_id, state in _live(session, members, comparison.table_job_id) if state not in TERMINAL}
    for job_id in [*members, comparison.table_job_id]:
        if job_id in live:
            transitions.request_cancel(session, job_id, tenant_id=tenant_id)
    session.expire(comparison)
    return get(session, tenant_id, comparison_id)


def retable(session: Session, tenant_id: str, comparison_id: str) -> ComparisonView:
    """Have a table that failed, or whose job was cancelled by itself, made again; the bell rings when the transaction has committed.
    One that waits, is being made or is there is left as it is: asking twice is asking once.

    Raises NotFound, TableNotDue while members are at work, and ComparisonAlreadyFinished where there will be no table.
    """
    find(session, tenant_id, comparison_id)
    # Members that have ended change no more; what ends a table asks for no comparison, and is waited for after it.
    held = queries.held(comparison_id)
    comparison = session.scalars(held, execution_options={"populate_existing": True}).one()
    if comparison.table_job_id is not None:
        session.scalars(queries.locked(comparison.table_job_id)).all()
    states = states_of(session, [comparison])
    members, table = set(states.members[comparison_id]), states.tables.get(comparison_id)
    if comparison.cancelled_at is not None:
        raise ComparisonAlreadyFinished("The comparison was cancelled: there will be no table. Submit it again.")
    if not members <= TERMINAL:
        raise TableNotDue
    if JobState.SUCCEEDED not in members:
        raise ComparisonAlreadyFinished("No job of the comparison came to a student: there is nothing to compare.")
    if table in (None, JobState.FAILED, JobState.CANCELLED):
        queue_table(session, comparison)
        session.expire(comparison)
    return get(session, tenant_id, comparison_id)


def _live(session: Session, members: Sequence[str], table: str | None) -> list[tuple[str, JobState]]:
    wanted = [*members, *([] if table is None else [table])]
    return [(row.id, JobState(row.state)) for row in session.execute(queries.states(wanted))]


def _check(
    session: Session, tenant_id: str, spec: ComparisonSpec, runs: Sequence[Run], settings: Settings
) -> list[Remark]:
    """Every member as a job is checked; what their plans warn of, each warning once, by the label of the first it holds for."""
    found: dict[tuple[str, str], Remark] = {}
    for run in runs:
        # Seeds of a member differ in nothing that is looked at here.
        if run.seed != spec.seeds[0]:
            continue
        try:
            warnings = check(session, tenant_id, run.config, settings)
        except ValidationFailed as refused:
            raise pointing(refused, spec, run.position) from refused
        for warning in warnings:
            # Of the evaluation, which all share, and which every job goes through by itself.
            of_all = warning.code in NOT_IN_FORECAST
            who = f"each of the {len(runs)} jobs" if of_all else f"member {run.label}"
            told = Remark(code=warning.code, message=f"{who}: {warning.message}")
            found.setdefault((warning.code, warning.message), told)
    if spec.base.evaluation.baselines:
        twins = "every member trains the twins of evaluation.baselines as well; sft and kld as members cost less"
        found["twins_of_members", twins] = Remark(code="twins_of_members", message=twins)
    return list(found.values())


def _submit_run(session: Session, tenant_id: str, comparison_id: str, run: Run) -> None:
    job_id = f"job_{uuid.uuid4().hex}"
    transitions.submit(
        session,
        job_id=job_id,
        tenant_id=tenant_id,
        spec=run.config.model_dump(mode="json", exclude_unset=True),
        resolved=run.config.resolved().model_dump(mode="json"),
        name=run.config.name,
    )
    values = {
        "job_id": job_id,
        "comparison_id": comparison_id,
        "position": run.position,
        "label": run.label,
        "seed": run.seed,
    }
    session.execute(insert(ComparisonMember).values(**values))


def _submitted(view: ComparisonView, warnings: list[Remark]) -> SubmittedComparison:
    fields: dict[str, Any] = {name: getattr(view, name) for name in ComparisonView.model_fields}
    return SubmittedComparison(**fields, warnings=warnings)
