"""A job's events, series and results as a person asks for them. Every function takes the tenant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import anyio
from pydantic import TypeAdapter
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import reading
from api.core.errors import ArtifactNotReady
from api.events import queries
from api.events.schemas import Evaluation, EventView, PointView, SeriesList, SeriesView
from api.events.series import Point, thinned
from api.events.stream import Load, Page
from api.events.tables import JobEvent
from api.jobs.service import last_seq
from api.jobs.states import TERMINAL
from cpd_engine.events import EpochStarted, Evaluated, ProfileReady, Reported, SuiteScored

_EPOCH_STARTED: TypeAdapter[EpochStarted] = TypeAdapter(EpochStarted)
_EVALUATED: TypeAdapter[Evaluated] = TypeAdapter(Evaluated)
_PROFILE: TypeAdapter[ProfileReady] = TypeAdapter(ProfileReady)
_REPORTED: TypeAdapter[Reported] = TypeAdapter(Reported)
_SUITE_SCORED: TypeAdapter[SuiteScored] = TypeAdapter(SuiteScored)


def page(session: Session, tenant_id: str, job_id: str, *, after: int, limit: int) -> tuple[list[EventView], bool]:
    """At most `limit` events after number `after`, and whether there are more. Raises NotFound."""
    newest = last_seq(session, tenant_id, job_id)
    found = views(session.scalars(queries.after(job_id, after, limit)).all())
    return found, bool(found) and found[-1].seq < newest


def views(rows: Sequence[JobEvent]) -> list[EventView]:
    """Rows as they go over the wire. A fence counts the job's claims, so it is the attempt's number."""
    return [EventView(seq=row.seq, kind=row.kind, at=row.at, attempt=row.fence, data=row.data) for row in rows]


def loader(make: sessionmaker[Session]) -> Load:
    """How feeds read: in a thread, one short session a page, whatever tenant; who may follow is asked before."""

    async def load(job_id: str, after: int, limit: int) -> Page:
        return await anyio.to_thread.run_sync(partial(_load, make, job_id, after, limit))

    return load


def _load(make: sessionmaker[Session], job_id: str, after: int, limit: int) -> Page:
    with reading(make) as session:
        row = session.execute(queries.standing(job_id)).one_or_none()
        if row is None:
            return Page(events=[], last_seq=0, over=True)
        # The usual case of a poll: nothing new, and one look at the job's row says so.
        rows = session.scalars(queries.after(job_id, after, limit)).all() if row.last_seq > after else []
        return Page(events=views(rows), last_seq=row.last_seq, over=row.state in TERMINAL)


def series(session: Session, tenant_id: str, job_id: str, *, name: str | None, points: int | None) -> SeriesList:
    """One series or all of them, each thinned to `points` (None: every one). Raises NotFound."""
    last_seq(session, tenant_id, job_id)
    rows = session.execute(queries.series(job_id, name))
    found = []
    for series_name, group in groupby(rows, key=itemgetter(0)):
        every = [Point(step, value, at) for _, step, value, at in group]
        shown = [PointView(step=p.step, value=p.value, at=p.at) for p in (thinned(every, points) if points else every)]
        found.append(SeriesView(name=series_name, last_step=every[-1].step, points=shown))
    return SeriesList(data=found)


def difficulty(session: Session, tenant_id: str, job_id: str) -> ProfileReady:
    """The difficulty profile. Raises NotFound, and ArtifactNotReady before the profile phase."""
    found = _data(session, tenant_id, job_id, "profile_ready")
    if not found:
        raise ArtifactNotReady("The job has not scored its samples yet; the profile comes after that.")
    return _PROFILE.validate_python(found[-1])


def evaluation(session: Session, tenant_id: str, job_id: str) -> Evaluation:
    """Scores so far and the final table. An attempt that repeats an evaluation replaces the earlier one's. Raises NotFound."""
    latest: dict[tuple[object, ...], Evaluated] = {}
    for data in _data(session, tenant_id, job_id, "evaluated"):
        scored = _EVALUATED.validate_python(data)
        latest[scored.subject, scored.split, scored.epoch, scored.step] = scored
    suites: dict[tuple[object, ...], SuiteScored] = {}
    for data in _data(session, tenant_id, job_id, "suite_scored"):
        part = _SUITE_SCORED.validate_python(data)
        suites[part.suite, part.subject, part.seed] = part
    reported = _data(session, tenant_id, job_id, "reported")
    return Evaluation(
        scores=list(latest.values()),
        suites=list(suites.values()),
        report=_REPORTED.validate_python(reported[-1]) if reported else None,
    )


def parameters(session: Session, tenant_id: str, job_ids: Sequence[str]) -> dict[str, int]:
    """How large the exported student of each job is, of those of the tenant that have one."""
    told = session.scalars(queries.of_tenant(tenant_id, job_ids, "exported"))
    return {event.job_id: int(event.data["parameters"]) for event in told}


def epochs(session: Session, tenant_id: str, job_id: str) -> list[EpochStarted]:
    """The student's epochs that have begun, in order; of one that an attempt began again the latest. Raises NotFound."""
    begun = (_EPOCH_STARTED.validate_python(data) for data in _data(session, tenant_id, job_id, "epoch_started"))
    latest = {epoch.epoch: epoch for epoch in begun if epoch.trained == "student"}
    return [latest[number] for number in sorted(latest)]


def _data(session: Session, tenant_id: str, job_id: str, kind: str) -> list[dict[str, Any]]:
    last_seq(session, tenant_id, job_id)
    return [event.data for event in session.scalars(queries.of_kinds([job_id], kind))]
