"""What a plan will cost, as far as the models' shapes are known here: from the spec itself, or from a local model's config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.orm import Session

from api.core.settings import Settings
from api.datasets.tables import Dataset
from api.jobs import queries
from api.jobs.schemas import Cost, Price
from cpd_engine.config import LocalModel, ResourceSpec, RunConfig, StudentFromTeacher, StudentRef, TeacherRef, TinyModel
from cpd_engine.events import Planned
from cpd_engine.forecast import forecast, keeps_states, step_flops
from cpd_engine.shapes import Shape, shape_of, tiny_shape, without_layers

# Means of a synthetic row: instruction, input and output together, and the output alone; tests/unit/test_forecast.py counts them.
SYNTHETIC_CHARACTERS = 52
SYNTHETIC_RESPONSE_CHARACTERS = 8
CONFIG_LIMIT_BYTES = 1 << 20


def cost(
    session: Session,
    tenant_id: str,
    spec: RunConfig,
    planned: Planned,
    data: Mapping[str, Dataset],
    settings: Settings,
) -> Cost | None:
    """The forecast of `planned`; None where only the hub knows how long the rows are."""
    counted = _characters(spec, planned.samples, data)
    if counted is None:
        return None
    characters, response_characters = counted
    teacher, student = _shapes(spec, settings)
    made = forecast(
        spec,
        planned,
        teacher=teacher,
        student=student,
        characters=characters,
        response_characters=response_characters,
        flops_per_s=_reached(session, tenant_id, settings),
    )
    price = price_of(spec.resources, settings)
    money = price.of(made.duration_s) if price is not None and made.duration_s is not None else None
    return Cost(**{name: getattr(made, name) for name in Cost.model_fields if name != "money"}, money=money)


def price_of(resources: ResourceSpec, settings: Settings) -> Price | None:
    """What a run on these costs by the hour; None where the operator has named no price."""
    if settings.gpu_hour_price is None:
        return None
    return Price(
        per_gpu_hour=settings.gpu_hour_price, currency=settings.currency, gpus=resources.gpus * resources.nodes
    )


def _characters(spec: RunConfig, samples: int, data: Mapping[str, Dataset]) -> tuple[int, int] | None:
    """Text of `samples` training rows, and of their responses alone."""
    if spec.dataset.synthetic is not None:
        return SYNTHETIC_CHARACTERS * samples, SYNTHETIC_RESPONSE_CHARACTERS * samples
    if "train" not in data:
        return None
    train = data["train"]
    counted = train.report["characters"]
    share = samples / max(train.rows, 1)
    return round((counted["prompt"] + counted["response"]) * share), round(counted["response"] * share)


def _shapes(spec: RunConfig, settings: Settings) -> tuple[Shape | None, Shape | None]:
    positions = spec.max_length + spec.evaluation.generation.max_new_tokens
    teacher = _shape(spec.teacher, settings, positions)
    if isinstance(spec.student, StudentFromTeacher):
        return teacher, without_layers(teacher, spec.student.drop_layers) if teacher else None
    return teacher, _shape(spec.student, settings, positions)


def _shape(reference: TeacherRef | StudentRef, settings: Settings, positions: int) -> Shape | None:
    match reference:
        case TinyModel():
            return tiny_shape(reference, positions)
        case LocalModel(local=name):
            return next((shape for root in settings.model_roots if (shape := _read_shape(root, name))), None)
        case _:
            return None


def _read_shape(root: Path, name: str) -> Shape | None:
    """Of the model `name` under `root`; None where there is none, it is not under the root, or it cannot be read."""
    path = (root / name / "config.json").resolve()
    if not path.is_relative_to(root.resolve()):
        return None
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(CONFIG_LIMIT_BYTES))
    except (OSError, ValueError):
        return None
    return shape_of(found) if isinstance(found, dict) else None


def _reached(session: Session, tenant_id: str, settings: Settings) -> float | None:
    """Operations per second of the student's steps in the tenant's newest job that succeeded and whose models' shapes are known."""
    row = session.execute(queries.newest_pace(tenant_id)).first()
    if row is None:
        return None
    spec = RunConfig.model_validate_json(json.dumps(row.resolved))
    teacher, student = _shapes(spec, settings)
    if teacher is None or student is None:
        return None
    return float(row.tokens_per_s) * step_flops(teacher, student, kept=keeps_states(spec))
