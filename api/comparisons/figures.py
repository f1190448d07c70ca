"""The picture of a comparison's table, and its numbers, as the table's job has left them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session

from api.artifacts import service as artifacts
from api.artifacts.tables import Artifact
from api.comparisons import queries
from api.comparisons.service import find
from api.core.errors import ArtifactNotReady, NotFound
from api.core.storage import Store
from api.downloads import Content
from api.jobs.states import JobState

TABLE = "table"


def picture(store: Store, table: Artifact, comparison_id: str) -> Content:
    """A PNG. Raises ArtifactExpired."""
    return _file(store, table, comparison_id, "figure.png", "image/png")


def numbers(store: Store, table: Artifact, comparison_id: str) -> Content:
    """JSON: by metric each member's mean, interval and seeds. Raises ArtifactExpired."""
    return _file(store, table, comparison_id, "figure.json", "application/json")


def find_table(session: Session, tenant_id: str, comparison_id: str) -> Artifact:
    """What the table's job has left. Raises NotFound, ArtifactNotReady and ArtifactExpired."""
    row = find(session, tenant_id, comparison_id)
    not_ready = ArtifactNotReady("The comparison has no table yet; it is made when its last job has ended.")
    # It is sealed before its job has succeeded, and shown with the table, not before it.
    states = [state for _, state in session.execute(queries.states([row.table_job_id or ""]))]
    if row.table_job_id is None or states != [JobState.SUCCEEDED]:
        raise not_ready
    try:
        return artifacts.find(session, tenant_id, row.table_job_id, TABLE)
    except NotFound:
        raise not_ready from None


def _file(store: Store, table: Artifact, comparison_id: str, name: str, media_type: str) -> Content:
    content = artifacts.file_content(store, table, name)
    # Pages show it, and load pictures from here alone.
    return replace(content, filename=f"{comparison_id}-{name}", media_type=media_type, link=None)
