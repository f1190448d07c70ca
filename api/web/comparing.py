"""The page that makes a comparison: methods to tick and seeds, over a base that a job may lend."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request, Response

from api.bodies import validate
from api.comparisons import service as comparisons
from api.comparisons.schemas import ComparisonSpec
from api.core.errors import QuotaExceeded, ServiceError, ValidationFailed
from api.deps import Known
from api.jobs import service
from api.web import spec_forms
from api.web.pages import PageRoute, page, redirect
from api.web.sessions import Visit
from api.web.visits import Actor, SentForm, Visitor
from cpd_engine.presets import PRESETS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

BASE, SEEDS, BASELINE, NAME = "base", "seeds", "baseline", "name"
# What people compare first: without a teacher, the plain divergence, the paper's method.
TICKED = ("sft", "kld", "cpd")
# Of a job's spec what a comparison decides itself.
_OWN = frozenset({"name", "metadata", "preset", "budget", "student_seed"})
Job = Annotated[str | None, Query(max_length=40, pattern=r"^[A-Za-z0-9_]+$")]


@router.get("/comparisons/new")
def show_form(request: Request, visit: Visitor, known: Known, job: Job = None) -> Response:
    """A form, with what a job of the tenant's was told as its base."""
    fields = {BASE: "", SEEDS: "0, 1, 2", BASELINE: TICKED[0], NAME: ""}
    ticked: tuple[str, ...] = TICKED
    if job is not None:
        with known.reading() as session:
            found = service.get(session, visit.identity.tenant_id, job)
        lent = {name: value for name, value in (found.spec or {}).items() if name not in _OWN}
        fields |= {BASE: yaml.safe_dump(lent, sort_keys=False, allow_unicode=True), NAME: found.name or ""}
        ticked = tuple(dict.fromkeys((*TICKED, str(found.resolved.get("preset", TICKED[0])))))
    return _form(request, visit, fields, ticked, None)


@router.post("/comparisons/new")
def send_form(request: Request, visit: Actor, known: Known, form: SentForm) -> Response:
    """Queue every method under every seed. A button that is pressed twice makes one comparison."""
    fields = {name: form.get(name, "") for name in (BASE, SEEDS, BASELINE, NAME)}
    ticked = tuple(name for name in PRESETS if form.get(f"method-{name}"))
    try:
        spec = spec_of(fields, ticked, max_depth=known.settings.json_max_depth)
        sent = json.dumps(spec.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=True).encode()
        once = hashlib.sha256(form.get("once", "").encode() + b"\0" + sent).hexdigest()
        submission = comparisons.Submission(spec=spec, sha256=hashlib.sha256(sent).digest(), key=f"page-{once}")
        with known.queueing() as session:
            made = comparisons.submit(session, visit.identity.tenant_id, submission, known.settings)
    except (ValidationFailed, QuotaExceeded) as refusal:
        return _form(request, visit, fields, ticked, refusal)
    return redirect(f"/comparisons/{made.id}")


def spec_of(fields: Mapping[str, str], methods: tuple[str, ...], *, max_depth: int) -> ComparisonSpec:
    """What a filled-in form asks for. Raises ValidationFailed."""
    if not methods:
        raise ValidationFailed("members: tick two methods or more", param="members")
    asked: dict[str, Any] = {
        "base": spec_forms.mapping(fields[BASE], max_depth=max_depth),
        "members": [{"label": name, "set": {"preset": name}} for name in methods],
        "seeds": [_seed(text) for text in re.split(r"[\s,]+", fields[SEEDS].strip()) if text],
    }
    asked |= {name: text for name in (NAME, BASELINE) if (text := fields[name].strip())}
    return validate(ComparisonSpec, asked)


def _seed(text: str) -> int | str:
    """What is no number is left for the schema to refuse, with its path."""
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else text


def _form(
    request: Request, visit: Visit, fields: dict[str, str], ticked: tuple[str, ...], refusal: ServiceError | None
) -> Response:
    return page(
        request,
        "compare_methods.html",
        visit=visit,
        status=200 if refusal is None else refusal.status,
        fields=fields,
        ticked=ticked,
        presets=tuple(PRESETS),
        refusal=refusal,
        at=None if refusal is None else field_at(refusal.param),
        once=uuid.uuid4().hex,
    )


def field_at(param: str | None) -> str:
    """The field of the form at which a refusal is told."""
    first = (param or "").split(".")[0]
    if first == "members":
        return "members"
    return first if first in (SEEDS, BASELINE, NAME) else BASE
