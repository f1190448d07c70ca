"""Models: the weights that jobs have made, and those in the operator's folders, which a job may name."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session, sessionmaker

from api.artifacts import service as artifact_service
from api.artifacts.tables import Artifact
from api.core import db
from api.core.errors import ArtifactExpired, ArtifactNotReady, NotFound, ValidationFailed
from api.core.settings import Settings
from api.core.storage import Store, discard
from api.leftovers import queries as leftovers
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
    if named := MADE.fullmatch(name):
        return _made(find(session, tenant_id, named), tenant_id)
    found = next((model for model in _operators(settings) if model.id == name), None)
    if found is None:
        raise NotFound("There is no such model.")
    return found


def delete(make: sessionmaker[Session], store: Store, tenant_id: str, name: str) -> None:
    """Remove the weights of a finished job: every copy of that checkpoint.

    Raises NotFound, ValidationFailed for a model of the operator's, and ArtifactNotReady while the job may need it.
    """
    named = MADE.fullmatch(name)
    if named is None:
        raise ValidationFailed("model: only what a job has made can be deleted", param="model")
    with db.transaction(make) as session:
        find(session, tenant_id, named)
        if session.scalar(queries.finished(tenant_id, named["job"])) is None:
            raise ArtifactNotReady("The job has not finished and may need this; cancel it or wait for its end.")
        prefixes = session.scalars(queries.expire(named["job"], named["checkpoint"])).all()
        leftovers.let_go(session, prefixes)
    # After the commit: files without a row are waste, a row without files would be a lie.
    for prefix in prefixes:
        discard(store, prefix)


def find(session: Session, tenant_id: str, named: re.Match[str]) -> Artifact:
    """The newest copy of a job's weights that MADE has taken apart. Raises NotFound."""
    unknown = NotFound("There is no such model.")
    try:
        row = artifact_service.find(session, tenant_id, named["job"], named["checkpoint"])
    except (NotFound, ArtifactExpired):
        raise unknown from None
    if row.role not in queries.WEIGHTS:
        raise unknown
    return row


def _made(row: Artifact, tenant_id: str) -> Model:
    return Model(id=made(row.job_id, row.name), created=int(row.created_at.timestamp()), owned_by=tenant_id)


def _operators(settings: Settings) -> list[Model]:
    found = {name: int(at) for name, at in reversed(list(local_models(settings.model_roots)))}
    return [Model(id=name, created=at, owned_by="operator") for name, at in sorted(found.items())][:LISTED]
