"""What a job has said and kept: its events, and its checkpoints with their scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy.orm import Session

from api.artifacts import queries as artifact_queries
from api.artifacts.tables import Artifact
from api.core.errors import ValidationFailed
from api.events import queries as event_queries
from api.events.tables import JobEvent
from api.openai import queries
from api.openai.jobs import known
from api.openai.names import made
from api.openai.schemas import Checkpoint, Event, Page
from api.pages import Cursor, cut, encode, older

Level = Literal["info", "warn", "error"]
LEVELS: Mapping[str, Level] = {"warned": "warn", "failed": "error"}
METRICS = frozenset({"measured", "evaluated", "suite_scored", "reported"})
_EVENT = re.compile(r"evt_(?P<job>[a-z0-9]{1,36})_(?P<seq>[0-9]{1,9})")


def events(session: Session, tenant_id: str, job_id: str, *, after: str | None, limit: int) -> Page[Event]:
    """A page of a job's events, newest first. Raises NotFound, and ValidationFailed for an `after` that is none of them."""
    known(session, tenant_id, job_id)
    before = None
    if after is not None:
        named = _EVENT.fullmatch(after)
        if named is None or f"job_{named['job']}" != job_id:
            raise ValidationFailed("after: the job has no such event", param="after")
        before = int(named["seq"])
    rows, more = cut(session.scalars(event_queries.newest(job_id, before, limit + 1)).all(), limit)
    data = [_event(row) for row in rows]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=data, first_id=first, last_id=last, has_more=more)


def checkpoints(session: Session, tenant_id: str, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
    """A page of the checkpoints of the student that still stand, newest first. Raises NotFound and ValidationFailed."""
    known(session, tenant_id, job_id)
    statement = artifact_queries.of_job(job_id).where(Artifact.step.is_not(None))
    if after is not None:
        row = session.scalar(statement.where(Artifact.id == after)) if queries.ID.fullmatch(after) else None
        if row is None:
            raise ValidationFailed("after: the job has no such checkpoint", param="after")
        statement = statement.where(older(Artifact.created_at, Artifact.id, encode(Cursor(row.created_at, row.id))))
    rows, more = cut(session.scalars(statement.limit(limit + 1)).all(), limit)
    data = [_checkpoint(row) for row in rows]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=data, first_id=first, last_id=last, has_more=more)


def _event(row: JobEvent) -> Event:
    return Event(
        id=f"evt_{row.job_id.removeprefix('job_')}_{row.seq}",
        created_at=int(row.at.timestamp()),
        level=LEVELS.get(row.kind, "info"),
        message=_message(row.kind, row.data),
        type="metrics" if row.kind in METRICS else "message",
        data={"seq": row.seq, "attempt": row.fence, **row.data, "kind": row.kind},
    )


def _message(kind: str, data: Mapping[str, Any]) -> str:
    """A sentence for people; programs read `data`."""
    match kind, data:
        case "state_changed", {"to": state, "reason": str(reason)}:
            return f"The job is {state} ({reason})."
        case (("warned" | "failed"), {"message": message}):
            return str(message)
        case "phase_started", {"phase": phase}:
            return f"Phase {phase} began."
        case "phase_finished", {"phase": phase}:
            return f"Phase {phase} is done."
        case "measured", {"step": step, "total_steps": total, "trained": trained, "values": {"loss": float(loss)}}:
            return f"Step {step}/{total} of {trained}: training loss={loss:.4f}"
        case "evaluated", {"subject": subject, "split": split, "metrics": dict(scores)}:
            return (
                f"Scores of {subject} on {split}: {', '.join(f'{name}={value:.4g}' for name, value in scores.items())}"
            )
        case "checkpointed", {"name": name}:
            return f"Checkpoint {name} was kept."
        case _:
            return f"{kind.replace('_', ' ').capitalize()}."


def _checkpoint(row: Artifact) -> Checkpoint:
    step = row.step or 0
    return Checkpoint(
        id=row.id,
        created_at=int(row.created_at.timestamp()),
        fine_tuned_model_checkpoint=made(row.job_id, row.name),
        fine_tuning_job_id=row.job_id,
        step_number=step,
        metrics={"step": float(step), **row.metrics},
    )
