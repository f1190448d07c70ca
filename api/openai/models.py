"""Models: the weights that jobs have made, and those in the operator's folders, which a job may name."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.artifacts import service as artifact_service
from api.artifacts.tables import Artifact
from api.core.errors import ArtifactExpired, NotFound
from api.core.settings import Settings
from api.openai import queries
from api.openai.names import MADE, local_models, made
from api.openai.schemas import Model, ModelList

# The list has no pages.
LISTED = 1000


def every(session: Session, tenant_id: str, settings: Settings) -> ModelList:
    """The newest weights of the tenant's jobs, then the operator's models."""
    own = [_made(row, tenant_id) for row in session.scalars(queries.weights(tenant_id, LISTED))]
    return ModelList(data=[*own, *_operators(settings)])


def get(session: Session, tenant_id: str, name: str, settings: Settings) -> Model:
    """One model, checkpoints of the tenant's jobs included. Raises NotFound."""
    unknown = NotFound("There is no such model.")
    if named := MADE.fullmatch(name):
        try:
            row = artifact_service.find(session, tenant_id, named["job"], named["checkpoint"])
        except (NotFound, ArtifactExpired):
            raise unknown from None
        return _made(row, tenant_id)
    found = next((model for model in _operators(settings) if model.id == name), None)
    if found is None:
        raise unknown
    return found


def _made(row: Artifact, tenant_id: str) -> Model:
    return Model(id=made(row.job_id, row.name), created=int(row.created_at.timestamp()), owned_by=tenant_id)


def _operators(settings: Settings) -> list[Model]:
    found = {name: int(at) for name, at in reversed(list(local_models(settings.model_roots)))}
    return [Model(id=name, created=at, owned_by="operator") for name, at in sorted(found.items())][:LISTED]
