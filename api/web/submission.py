"""The page that makes a job: a form, the plan of what it asks for, and then the job or a probe of it."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api.core.errors import QuotaExceeded, ServiceError, ValidationFailed
from api.core.settings import Settings
from api.datasets import service as datasets
from api.deps import Known, Resources
from api.jobs import admission, service
from api.jobs.schemas import Estimate
from api.jobs.states import JobKind
from api.openai.names import local_models
from api.web import spec_forms
from api.web.pages import PageRoute, page, redirect
from api.web.sessions import Visit
from api.web.visits import Actor, SentForm, Visitor
from cpd_engine.config import RunConfig
from cpd_engine.presets import PRESETS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# Data sets to choose from; others are named by their id among the further fields.
CHOICES = 100
DEFAULT_PRESET: str = RunConfig.model_fields["preset"].default
ACTIONS = {"submit": JobKind.DISTILLATION, "probe": JobKind.PROBE}
Name = Annotated[str | None, Query(max_length=40, pattern=r"^[A-Za-z0-9_]+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A form as it is shown: its fields, what is wrong with one of them, and the plan where nothing is."""

    fields: dict[str, str]
    refusal: ServiceError | None = None
    plan: Estimate | None = None


@router.get("/submit")
def show_form(request: Request, visit: Visitor, known: Known, clone: Name = None, train: Name = None) -> Response:
    """An empty form, or that of a job of the tenant's, or one for a data set."""
    fields = dict.fromkeys(spec_forms.NAMES, "") | {"preset": DEFAULT_PRESET, "train": train or ""}
    if clone is not None:
        with known.reading() as session:
            spec = service.get(session, visit.identity.tenant_id, clone).spec
        fields = spec_forms.fields_of(spec, known.settings.model_roots)
    return _form(request, visit, known, Filled(fields=fields))


@router.post("/submit")
def send_form(request: Request, visit: Actor, known: Known, form: SentForm) -> Response:
    """Show the plan of what is filled in, or queue it where the button says so."""
    fields = {name: form.get(name, "") for name in spec_forms.NAMES}
    kind = ACTIONS.get(form.get("action", ""))
    try:
        spec = spec_forms.config_of(fields, known.settings.model_roots, max_depth=known.settings.json_max_depth)
        if kind is not None:
            with known.queueing() as session:
                job = _submit(session, visit, spec, kind, form.get("once", ""), known.settings)
            return redirect(f"/jobs/{job}")
        with known.reading() as session:
            plan = admission.estimate(session, visit.identity.tenant_id, spec, known.settings)
    except (ValidationFailed, QuotaExceeded) as refusal:
        return _form(request, visit, known, Filled(fields=fields, refusal=refusal))
    return _form(request, visit, known, Filled(fields=fields, plan=plan))


def _submit(session: Session, visit: Visit, spec: RunConfig, kind: JobKind, once: str, settings: Settings) -> str:
    """The job's id. A button that is pressed twice makes one job: the same form with the same contents is the same request."""
    sent = json.dumps(spec.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=True).encode()
    digest = hashlib.sha256(once.encode() + b"\0" + sent)
    submission = service.Submission(
        kind=kind, spec=spec, sha256=hashlib.sha256(sent).digest(), key=f"page-{digest.hexdigest()}"
    )
    return service.submit(session, visit.identity.tenant_id, submission, settings).id


def _form(request: Request, visit: Visit, known: Resources, filled: Filled) -> Response:
    with known.reading() as session:
        choices = datasets.page(session, visit.identity.tenant_id, limit=CHOICES, cursor=None)
    refusal = filled.refusal
    return page(
        request,
        "submit.html",
        visit=visit,
        status=200 if refusal is None else refusal.status,
        fields=filled.fields,
        plan=filled.plan,
        refusal=refusal,
        at=None if refusal is None else spec_forms.field_at(refusal.param),
        presets=tuple(PRESETS),
        datasets=choices.data,
        local=[name for name, _ in local_models(known.settings.model_roots)],
        hub=known.settings.hub_endpoint is not None,
        once=uuid.uuid4().hex,
    )
