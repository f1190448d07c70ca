"""What the pages of jobs ask the database for, beside the jobs themselves. Every function takes the tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.core.settings import Settings
from api.events import queries
from api.jobs import service
from api.jobs.schemas import JobView
from api.jobs.states import JobState
from api.remarks import remark
from api.web.job_views import Line, pulse, steps, told_gap
from api.web.sparklines import Sparkline, sampled_steps, sparkline

JOBS_A_PAGE = 25
EVENTS_A_PAGE = 40
_LOSS = "student/loss"
# The kinds of event that are worth a line.
_TOLD = (
    "state_changed",
    "phase_finished",
    "data_ready",
    "planned",
    "forecasted",
    "profile_ready",
    "teacher_states_planned",
    "recalled",
    "evaluated",
    "warned",
    "exported",
    "failed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs are listed; None: whatever they have."""

    state: JobState | None
    name: str | None
    preset: str | None

    def given(self) -> dict[str, str]:
        """Those that are set, as an address has them."""
        every = {"state": self.state and self.state.value, "name": self.name, "preset": self.preset}
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """An event as a person reads it."""

    seq: int
    kind: str
    at: datetime
    attempt: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A page of events, newest first; `before` leads to the next. `warnings` are all that the job gave, without their repeats."""

    lines: list[LogLine]
    before: int | None
    warnings: list[str]


def lines(
    session: Session, tenant_id: str, filters: Filters, *, cursor: str | None, settings: Settings
) -> tuple[list[Line], str | None]:
    """A page of jobs with their losses and gaps, and the cursor of the next."""
    found = service.page(
        session,
        tenant_id,
        state=filters.state,
        limit=JOBS_A_PAGE,
        cursor=cursor,
        name=filters.name,
        preset=filters.preset,
    )
    return _lines(session, found.data, settings), found.next_cursor


def comparable(session: Session, tenant_id: str, job_ids: Sequence[str], settings: Settings) -> list[Line]:
    """Those of the jobs that are the tenant's, in the order asked for."""
    found = service.several(session, tenant_id, job_ids)
    return _lines(session, [found[job_id] for job_id in dict.fromkeys(job_ids) if job_id in found], settings)


def _lines(session: Session, jobs: Sequence[JobView], settings: Settings) -> list[Line]:
    job_ids = [job.id for job in jobs]
    losses = _losses(session, job_ids)
    reported = session.scalars(queries.of_kinds(job_ids, "reported"))
    gaps = {event.job_id: told_gap(event.data["gap_closed"]) for event in reported}
    return [
        Line(
            job=job,
            steps=steps(job),
            loss=losses.get(job.id),
            gap=gaps.get(job.id),
            pulse=pulse(job, heartbeat_s=settings.heartbeat_s, lease_s=settings.lease_s),
        )
        for job in jobs
    ]


def _losses(session: Session, job_ids: Sequence[str]) -> dict[str, Sparkline | None]:
    last = session.execute(queries.last_steps(job_ids, _LOSS)).all()
    places = [(job_id, step) for job_id, newest in last if newest is not None for step in sampled_steps(newest)]
    values: defaultdict[str, list[float]] = defaultdict(list)
    for job_id, value in session.execute(queries.values_at(_LOSS, places)) if places else ():
        values[job_id].append(value)
    return {job_id: sparkline(found) for job_id, found in values.items()}


def log(session: Session, tenant_id: str, job_id: str, *, before: int | None) -> Log:
    """What the job said. Raises NotFound."""
    service.last_seq(session, tenant_id, job_id)
    rows = session.scalars(queries.newest_of(job_id, _TOLD, before, EVENTS_A_PAGE + 1)).all()
    warned = session.scalars(queries.of_kinds([job_id], "warned"))
    return Log(
        lines=[
            LogLine(
                seq=row.seq, kind=row.kind, at=row.at, attempt=row.fence, text=remark(row.kind, row.data) or row.kind
            )
            for row in rows[:EVENTS_A_PAGE]
        ],
        before=rows[EVENTS_A_PAGE - 1].seq if len(rows) > EVENTS_A_PAGE else None,
        warnings=list(dict.fromkeys(str(event.data["message"]) for event in warned)),
    )
