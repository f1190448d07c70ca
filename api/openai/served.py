"""Which weights a name means to whoever wants to ask the model, and in which template it is asked."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from api.artifacts import service as artifact_service
from api.artifacts.tables import Artifact
from api.core.errors import ArtifactExpired, NotFound
from api.core.settings import Settings
from api.jobs import service as job_service
from api.openai import models
from api.openai.names import MADE, local_models
from api.openai.schemas import Model
from cpd_engine.conversation import Template

TEACHER = "teacher"
# As it taught: tuned on the job's rows, else made for the job.
_TEACHERS = ("teacher", "base-teacher")


def source(session: Session, tenant_id: str, name: str, settings: Settings) -> dict[str, Any]:
    """Where the model's weights lie, as a question's row says it.

    A job's export, `ft:JOB:teacher`, or a model of the operator's. Raises NotFound for any other.
    """
    if named := MADE.fullmatch(name):
        if named["checkpoint"] == TEACHER:
            return _teacher(session, tenant_id, named["job"], settings)
        row = models.find(session, tenant_id, named)
        if not _runs(row):
            raise NotFound("This checkpoint is a state to go on from, and no model to ask.", param="model")
        return _artifact(row, job_service.get(session, tenant_id, row.job_id).resolved["template"])
    return _local(name, "auto", settings)


def described(session: Session, tenant_id: str, name: str, settings: Settings) -> Model:
    """A model by a name that may be asked: those that are listed, checkpoints, and teachers. Raises NotFound."""
    named = MADE.fullmatch(name)
    if named is None or named["checkpoint"] != TEACHER:
        return models.get(session, tenant_id, name, settings)
    source(session, tenant_id, name, settings)
    job = job_service.get(session, tenant_id, named["job"])
    return Model(id=name, created=int(job.created_at.timestamp()), owned_by=tenant_id)


def _teacher(session: Session, tenant_id: str, job_id: str, settings: Settings) -> dict[str, Any]:
    resolved = job_service.get(session, tenant_id, job_id).resolved
    template: Template = resolved["template"]
    for name in _TEACHERS:
        try:
            row = artifact_service.find(session, tenant_id, job_id, name)
        except (NotFound, ArtifactExpired):
            continue
        if _runs(row):
            return _artifact(row, template)
    teacher = resolved["teacher"]
    if "local" in teacher:
        return _local(teacher["local"], template, settings)
    raise NotFound("The job's teacher is not kept here: it is a model of the hub, or was not made yet.", param="model")


def _local(name: str, template: Template, settings: Settings) -> dict[str, Any]:
    if not any(name == known for known, _ in local_models(settings.model_roots)):
        raise NotFound("There is no such model.", param="model")
    return {"local": name, "template": template}


def _artifact(row: Artifact, template: Template) -> dict[str, Any]:
    return {"artifact": row.id, "template": template}


def _runs(row: Artifact) -> bool:
    """Whether it is a whole model: configuration, weights and tokenizer."""
    paths = {str(file["path"]) for file in row.files}
    weights = any("/" not in path and path.endswith(".safetensors") for path in paths)
    return weights and {"config.json", "tokenizer.json"} <= paths
