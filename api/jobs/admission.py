"""What a job must meet beyond its schema before it is queued: its data exists, its models can be had, it can learn, there is room."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sqlalchemy.orm import Session

from api.core.errors import NotFound, ValidationFailed
from api.core.settings import Settings
from api.datasets import queries as dataset_queries
from api.datasets.tables import Dataset
from api.jobs import queries
from api.jobs.costs import cost, price_of
from api.jobs.quotas import crowded, make_room
from api.jobs.schemas import Bounds, Cost, EpochEstimate, Estimate, Remark
from cpd_engine import plan
from cpd_engine.config import CODE_TASKS, HubModel, LocalModel, RunConfig, StudentRef, TeacherRef
from cpd_engine.errors import ConfigInvalid, NothingToLearn
from cpd_engine.events import Planned, Warned
from cpd_engine.remarks import left_out

# Of the synthetic rows the engine keeps one share each for validation and test (cpd_engine.data.synthetic, which needs numpy).
SYNTHETIC_SHARES = 12
# A worker not seen for so long is not counted on.
SEEN_S = 60.0
DATASET_ID = re.compile(r"ds_[A-Za-z0-9]{8,40}")


def admit(session: Session, tenant_id: str, spec: RunConfig, settings: Settings) -> list[Remark]:
    """Check a new job; returns what its plan warns of.

    The data sets it names stay locked against deletion, and the tenant against a second submission, until the transaction ends.
    Raises ValidationFailed and QuotaExceeded.
    """
    warnings = check(session, tenant_id, spec, settings)
    make_room(session, tenant_id, settings)
    return warnings


def check(session: Session, tenant_id: str, spec: RunConfig, settings: Settings) -> list[Remark]:
    """What a new job's plan warns of. Its data sets stay locked against deletion. Raises ValidationFailed."""
    estimated = _estimate(session, tenant_id, spec, settings, hold=True)
    return [*estimated.warnings, *_too_large(session, spec), *crowded(session, tenant_id, settings)]


def _too_large(session: Session, spec: RunConfig) -> list[Remark]:
    """What there is to say where no worker that is up has the devices: such a job waits, perhaps for ever."""
    most, asked = session.scalar(queries.most_devices(SEEN_S)), spec.resources.gpus
    if most is None or asked <= most:
        return []
    told = (
        f"resources.gpus: {asked} asked, and the largest worker that is up has {most}; the job waits for a larger one"
    )
    return [Remark(code="no_worker_large_enough", message=told)]


def estimate(session: Session, tenant_id: str, spec: RunConfig, settings: Settings) -> Estimate:
    """The plan of a run on the data it names; only reads. Raises ValidationFailed as `admit` does."""
    return _estimate(session, tenant_id, spec, settings, hold=False)


def _estimate(session: Session, tenant_id: str, spec: RunConfig, settings: Settings, *, hold: bool) -> Estimate:
    _check_models(spec, settings)
    data = _datasets(session, tenant_id, spec, hold=hold)
    apart = left_out(spec.evaluation, _suite_rows(session, tenant_id, spec, hold=hold))
    samples = _samples(spec, data)
    resolved = spec.resolved()

    def price(planned: Planned) -> Cost | None:
        return None if hold else cost(session, tenant_id, resolved, planned, data, settings)

    try:
        made = _planned(resolved, samples, price)
    except (ConfigInvalid, NothingToLearn) as error:
        raise ValidationFailed(str(error), param=error.field) from error
    told = {"price": price_of(resolved.resources, settings), "warnings": [*made.warnings, *map(_remark, apart)]}
    return made.model_copy(update=told)


def warnings_again(spec: RunConfig) -> list[Remark]:
    """What the plan warns of whatever the data, for a job that was admitted before."""
    resolved = spec.resolved()
    return _remarks(plan.plan(resolved, samples=_stand_in(resolved)))


def _check_models(spec: RunConfig, settings: Settings) -> None:
    for field, reference in (("teacher", spec.teacher), ("student", spec.student)):
        _check_model(field, reference, settings)
    if spec.dataset.hub is not None and settings.hub_endpoint is None:
        raise ValidationFailed("dataset.hub: the operator has named no hub; upload the data set", param="dataset.hub")
    if spec.difficulty == "tests" and settings.code_execution == "off":
        raise ValidationFailed(
            "difficulty: 'tests' runs programs that a model has written, which the operator has not allowed",
            param="difficulty",
        )
    if spec.evaluation.judge is not None and settings.judge_url is None:
        raise ValidationFailed("evaluation.judge: the operator has set no judge", param="evaluation.judge")
    for number, suite in enumerate(spec.evaluation.suites):
        at = f"evaluation.suites.{number}"
        if suite.hub is not None and settings.hub_endpoint is None:
            raise ValidationFailed(f"{at}.hub: the operator has named no hub; upload the data set", param=f"{at}.hub")
        if suite.task in CODE_TASKS and settings.code_execution == "off":
            raise ValidationFailed(
                f"{at}.task: {suite.task} runs programs that a model has written, which the operator has not allowed",
                param=f"{at}.task",
            )


def _check_model(field: str, reference: TeacherRef | StudentRef, settings: Settings) -> None:
    if isinstance(reference, HubModel) and settings.hub_endpoint is None:
        raise ValidationFailed(f"{field}.hub: the operator has named no hub", param=f"{field}.hub")
    if isinstance(reference, LocalModel) and not settings.model_roots:
        raise ValidationFailed(f"{field}.local: the operator has named no model folders", param=f"{field}.local")


def _datasets(session: Session, tenant_id: str, spec: RunConfig, *, hold: bool) -> dict[str, Dataset]:
    """The uploaded data sets by split; with `hold` kept from being deleted until the transaction ends."""
    named = {split: getattr(spec.dataset, split) for split in dataset_queries.SPLITS}
    return {
        split: _dataset(session, tenant_id, dataset_id, f"dataset.{split}", hold=hold)
        for split, dataset_id in named.items()
        if dataset_id is not None
    }


def _suite_rows(session: Session, tenant_id: str, spec: RunConfig, *, hold: bool) -> dict[str, int | None]:
    """About how many rows each suite has, by title; None where only the hub knows. Its data sets are seen to be there, as `_datasets`'."""
    rows: dict[str, int | None] = {}
    for number, suite in enumerate(spec.evaluation.suites):
        of_fields = {
            field: _dataset(session, tenant_id, dataset_id, f"evaluation.suites.{number}.{field}", hold=hold).rows
            for field, dataset_id in suite.files.items()
        }
        held = of_fields.get("data")
        rows[suite.title] = held if held is None else min(held, suite.rows or held)
    return rows


def _dataset(session: Session, tenant_id: str, dataset_id: str, param: str, *, hold: bool) -> Dataset:
    refusal = f"{param}: there is no such data set; upload it and name it by its id, ds_…"
    if DATASET_ID.fullmatch(dataset_id) is None:
        raise ValidationFailed(refusal, param=param)
    try:
        return (_held if hold else _read)(session, tenant_id, dataset_id)
    except NotFound as error:
        raise ValidationFailed(refusal, param=param) from error


def _held(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    return dataset_queries.hold_datasets(session, [dataset_id], tenant_id=tenant_id)[dataset_id]


def _read(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    row = session.scalar(dataset_queries.one(tenant_id, dataset_id))
    if row is None:
        raise NotFound
    return row


def _samples(spec: RunConfig, data: dict[str, Dataset]) -> int | None:
    """About how many training rows there are before any proves too long; None where only the hub knows."""
    most = spec.dataset.max_rows
    if spec.dataset.synthetic is not None:
        rows = spec.dataset.synthetic.rows
        held_out = 2 * (rows // SYNTHETIC_SHARES)
    elif spec.dataset.train is not None:
        rows = data["train"].rows
        cuts = {"validation": spec.dataset.validation_fraction, "test": spec.dataset.test_fraction}
        held_out = sum(math.ceil(rows * share) for split, share in cuts.items() if split not in data)
    else:
        return most
    return max(1, min(rows - held_out, most or rows))


def _stand_in(resolved: RunConfig) -> int:
    """Samples of a data set that no budget in passes is too small for: every epoch of the curriculum gets a step of it."""
    passes = resolved.budget.epochs if resolved.budget is not None else None
    return resolved.optimizer.batch_size * math.ceil((resolved.epochs or 1) / min(1.0, passes or 1.0))


def _planned(resolved: RunConfig, samples: int | None, price: Callable[[Planned], Cost | None]) -> Estimate:
    batch = resolved.optimizer.batch_size
    # Without a size only what holds for any is told; some batches stand in, and all that would depend on them is left out.
    made = plan.plan(resolved, samples=samples or _stand_in(resolved))
    warnings = _remarks(made)
    if samples is None:
        warnings.append(
            Remark(code="unknown_size", message="The size of a hub data set is known once the job reads it.")
        )
        return Estimate(
            samples=None, batch_size=batch, exact=False, floor=None, total_iterations=None, iterations=None, epochs=[],
            cost=None, warnings=warnings,
        )  # fmt: skip
    least, most = made.bounds
    return Estimate(
        samples=made.planned.samples,
        batch_size=batch,
        exact=made.exact,
        floor=made.floor,
        total_iterations=made.planned.total_iterations,
        iterations=Bounds(least=least, most=most),
        epochs=[
            EpochEstimate(**{name: getattr(epoch, name) for name in EpochEstimate.model_fields})
            for epoch in made.planned.epochs
        ],
        cost=price(made.planned),
        warnings=warnings,
    )


def _remarks(made: plan.Plan) -> list[Remark]:
    return [_remark(warned) for warned in made.warnings]


def _remark(warned: Warned) -> Remark:
    return Remark(code=warned.code, message=warned.message)
