"""Comparisons as they are shown: put together from their rows, their jobs' and their table's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from api.comparisons import queries
from api.comparisons.schemas import BudgetView, ComparisonLine, ComparisonView, MemberView, RunView
from api.comparisons.states import comparison_state
from api.comparisons.tables import Comparison, ComparisonMember
from api.events import queries as event_queries
from api.jobs import service as jobs
from api.jobs.schemas import FailureView, JobView
from api.jobs.states import JobState, Requested
from cpd_engine.events import Compared

_COMPARED: TypeAdapter[Compared] = TypeAdapter(Compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """By comparison: its members' states, one a job, and its table's where there is one."""

    members: Mapping[str, Sequence[JobState]]
    tables: Mapping[str, JobState]


def states_of(session: Session, rows: Sequence[Comparison]) -> States:
    """In two statements, however many comparisons."""
    members: dict[str, list[JobState]] = {row.id: [] for row in rows}
    for comparison_id, state in session.execute(queries.member_states(list(members))):
        members[comparison_id].append(JobState(state))
    made = {row.table_job_id: row.id for row in rows if row.table_job_id is not None}
    tables = {made[row.id]: JobState(row.state) for row in session.execute(queries.states(list(made)))} if made else {}
    return States(members=members, tables=tables)


def line_of(row: Comparison, states: States) -> ComparisonLine:
    """A comparison in a list."""
    members, state = states.members[row.id], _state(row, states)
    return ComparisonLine(
        id=row.id,
        name=row.name,
        state=state,
        requested=_requested(row, state),
        baseline=row.baseline,
        members=[member["label"] for member in row.spec["members"]],
        seeds=_seeds(row),
        jobs=dict(Counter(members)),
        created_at=row.created_at,
    )


def view_of(session: Session, row: Comparison) -> ComparisonView:
    """A comparison with its members and, once it is made, its table."""
    # First of all: the jobs, read later, are then at least as far, and what is called finished has its table.
    state = _state(row, states_of(session, [row]))
    found = session.execute(queries.members([row.id])).all()
    wanted = [job.id for _, job in found] + ([row.table_job_id] if row.table_job_id is not None else [])
    shown = jobs.several(session, row.tenant_id, wanted)
    table_job = shown.get(row.table_job_id or "")
    return ComparisonView(
        id=row.id,
        name=row.name,
        metadata=row.spec.get("metadata", {}),
        state=state,
        requested=_requested(row, state),
        baseline=row.baseline,
        budget=BudgetView.model_validate(row.budget),
        seeds=_seeds(row),
        created_at=row.created_at,
        members=_members(row, [member for member, _ in found], shown),
        table_job=row.table_job_id,
        table=_table(session, table_job),
        failure=_failure(state, table_job),
    )


def _members(row: Comparison, found: Sequence[ComparisonMember], shown: Mapping[str, JobView]) -> list[MemberView]:
    made = []
    for position, group in groupby(found, key=lambda member: member.position):
        asked: dict[str, Any] = row.spec["members"][position]
        runs = [_run(member, shown[member.job_id]) for member in group]
        scored = [run.scores for run in runs if run.scores is not None]
        made.append(
            MemberView(label=asked["label"], set=asked.get("set", {}), runs=runs, scores=_means(scored) or None)
        )
    return made


def _run(member: ComparisonMember, job: JobView) -> RunView:
    return RunView(
        job=job.id,
        seed=member.seed,
        state=job.state,
        requested=job.requested,
        phase=job.phase,
        progress=job.progress,
        queue_position=job.queue_position,
        started_at=job.started_at,
        finished_at=job.finished_at,
        failure=job.failure,
        scores=None if job.scores is None else job.scores.get("student"),
    )


def _means(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = scored[0] if scored else ()
    return {name: sum(scores[name] for scores in scored) / len(scored) for name in names}


def _state(row: Comparison, states: States) -> JobState:
    return comparison_state(states.members[row.id], states.tables.get(row.id), cancelled=row.cancelled_at is not None)


def _requested(row: Comparison, state: JobState) -> Requested:
    asked = row.cancelled_at is not None and state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
    return Requested.CANCEL if asked else Requested.NONE


def _seeds(row: Comparison) -> list[int]:
    return list(row.spec.get("seeds", [0]))


def _table(session: Session, job: JobView | None) -> Compared | None:
    """An attempt that made the table again replaces the earlier one's."""
    if job is None or job.state is not JobState.SUCCEEDED:
        return None
    told = session.scalars(event_queries.of_kinds([job.id], "compared")).all()
    return _COMPARED.validate_python(told[-1].data) if told else None


def _failure(state: JobState, table: JobView | None) -> FailureView | None:
    if state is not JobState.FAILED:
        return None
    if table is not None:
        return table.failure
    told = "No job of the comparison came to its end: each of them says why."
    return FailureView(code="no_member_finished", message=told)
