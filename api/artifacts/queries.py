"""Statements over sealed directories in the store."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from api.artifacts.tables import Artifact
from api.core.db import now
from api.jobs.lease import Hold, holds, lock
from api.jobs.tables import Job
from api.leftovers import queries as leftovers

# --- written by the worker's recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A sealed directory whose files are all in the store under `storage_prefix`."""

    id: str
    name: str
    role: str
    path: str
    storage_prefix: str
    files: Sequence[Mapping[str, Any]]
    manifest_sha256: str
    size_bytes: int
    step: int | None = None
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def add(session: Session, hold: Hold, sealed: Sealed) -> bool:
    """Make a sealed directory known; False where this attempt had done so already. Raises LeaseLost.

    One that the job never had before is progress: the budgets of crashes and lost workers are whole again.
    """
    lock(session, hold)
    leftovers.forget(session, sealed.storage_prefix)
    named = (Artifact.job_id == hold.job_id, Artifact.name == sealed.name)
    earlier = session.scalars(select(Artifact.fence).where(*named)).all()
    if hold.fence in earlier:
        return False
    values = {
        "id": sealed.id,
        "job_id": hold.job_id,
        "fence": hold.fence,
        "name": sealed.name,
        "role": sealed.role,
        "path": sealed.path,
        "storage_prefix": sealed.storage_prefix,
        "files": [dict(file) for file in sealed.files],
        "manifest_sha256": sealed.manifest_sha256,
        "size_bytes": sealed.size_bytes,
        "step": sealed.step,
        "epoch": sealed.epoch,
        "metrics": dict(sealed.metrics),
    }
    session.execute(insert(Artifact).values(**values))
    if not earlier:
        session.execute(update(Job).where(*holds(hold)).values(crashes=0, losses=0))
    return True


def replace(session: Session, hold: Hold, sealed: Sealed) -> str | None:
    """Point this attempt's own row of that name at newer contents, as `best` is whenever a better one is found.

    Returns the storage prefix that no row names any more: the old one, or where the contents are the same already, the new one. None
    where this was done before. Raises LeaseLost.
    """
    lock(session, hold)
    own = (Artifact.job_id == hold.job_id, Artifact.fence == hold.fence, Artifact.name == sealed.name)
    standing = session.scalars(select(Artifact).where(*own)).one()
    if standing.storage_prefix == sealed.storage_prefix:
        return None
    if standing.manifest_sha256 == sealed.manifest_sha256:
        leftovers.let_go(session, [sealed.storage_prefix])
        return sealed.storage_prefix
    before = standing.storage_prefix
    leftovers.let_go(session, [before])
    values = {
        "storage_prefix": sealed.storage_prefix,
        "files": [dict(file) for file in sealed.files],
        "manifest_sha256": sealed.manifest_sha256,
        "size_bytes": sealed.size_bytes,
        "step": sealed.step,
        "epoch": sealed.epoch,
        "metrics": dict(sealed.metrics),
    }
    session.execute(update(Artifact).where(*own).values(**values, created_at=now(), expired_at=None))
    return before


def family(name: str) -> str:
    """What a checkpoint's name says beside its step: `sft-step-000200` and `sft-step-000400` are of one family."""
    return re.sub(r"\d+$", "", name)


def expire(session: Session, hold: Hold, *, name: str, role: str, retained: Collection[str]) -> list[str]:
    """Mark what `name` replaced: older copies of it, and checkpoints of its role and family that are not `retained`.

    Returns their storage prefixes, whose files may be removed after the commit. Raises LeaseLost.
    """
    lock(session, hold)
    live = (Artifact.job_id == hold.job_id, Artifact.role == role, Artifact.expired_at.is_(None))
    rows = session.execute(
        select(Artifact.id, Artifact.name, Artifact.fence, Artifact.storage_prefix).where(*live)
    ).all()
    replaced = [
        row
        for row in rows
        if family(row.name) == family(name)
        and (row.name not in retained if row.name != name else row.fence < hold.fence)
    ]
    if replaced:
        session.execute(update(Artifact).where(Artifact.id.in_([row.id for row in replaced])).values(expired_at=now()))
    leftovers.let_go(session, [row.storage_prefix for row in replaced])
    return [row.storage_prefix for row in replaced]


def restorable(session: Session, job_id: str) -> list[Artifact]:
    """What another attempt starts from: of each path the newest copy that still stands, oldest first."""
    live = (Artifact.job_id == job_id, Artifact.expired_at.is_(None), Artifact.role != "export")
    rows = session.scalars(select(Artifact).where(*live).order_by(Artifact.fence, Artifact.created_at, Artifact.id))
    return list({row.path: row for row in rows}.values())


# --- read by the api

# What a name can look like; anything else is the name of nothing, and never reaches a statement.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def of_job(job_id: str) -> Select[Artifact]:
    """A job's sealed directories that still stand, newest first."""
    live = (Artifact.job_id == job_id, Artifact.expired_at.is_(None))
    return select(Artifact).where(*live).order_by(Artifact.created_at.desc(), Artifact.id.desc())


def named(job_id: str, name: str) -> Select[Artifact]:
    """Every copy of a sealed directory, those that still stand first and of them the newest attempt's."""
    return (
        select(Artifact)
        .where(Artifact.job_id == job_id, Artifact.name == name)
        .order_by(Artifact.expired_at.is_not(None), Artifact.fence.desc())
    )
