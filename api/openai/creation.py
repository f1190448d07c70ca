"""From a job as OpenAI's clients send it to the spec of one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.bodies import validate
from api.core.errors import ValidationFailed
from api.core.settings import Settings
from api.openai.names import called, reference
from api.openai.schemas import CreateJob, Hyperparameters
from cpd_engine.config import OptimizerSpec, RunConfig

# What `learning_rate_multiplier` multiplies, so that the same number always means the same rate.
LEARNING_RATE = OptimizerSpec().learning_rate
# Fields of our spec that OpenAI's request has a name for.
THEIRS = {
    "teacher": "teacher",
    "student": "model",
    "dataset.train": "training_file",
    "dataset.validation": "validation_file",
    "name": "suffix",
    "seed": "seed",
    "metadata": "metadata",
}
_ELSEWHERE = ("teacher", "name", "seed", "metadata")


class BadDefaults(ValueError):
    """CPD_OPENAI_DEFAULTS are not fields of a job."""


def check_defaults(settings: Settings) -> None:
    """See, where the process starts, that the operator's defaults make a job. Raises BadDefaults."""
    whole = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}
    if fixed := sorted(settings.openai_defaults.keys() & {*whole, *_ELSEWHERE}):
        raise BadDefaults(f"CPD_OPENAI_DEFAULTS: {', '.join(fixed)} cannot be a default")
    try:
        RunConfig.model_validate(whole | settings.openai_defaults)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        raise BadDefaults(f"CPD_OPENAI_DEFAULTS: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def run_config(sent: CreateJob, settings: Settings) -> RunConfig:
    """The spec of the job. Raises ValidationFailed with the field as the client knows it."""
    given = sent.distillation
    for field in _ELSEWHERE:
        if field in given:
            raise ValidationFailed(
                f"distillation.{field}: write it as {THEIRS[field]}, beside distillation", param=field
            )
    spec: dict[str, Any] = settings.openai_defaults | given
    spec["teacher"] = _teacher(sent, settings)
    spec["student"] = given.get("student") or reference(sent.model, settings.model_roots)
    spec["dataset"] = _dataset(sent)
    spec |= {
        name: value
        for name, value in (("name", sent.suffix), ("seed", sent.seed), ("metadata", sent.metadata))
        if value is not None
    }
    _put_hyperparameters(spec, given, _hyperparameters(sent))
    try:
        made = validate(RunConfig, spec)
    except ValidationFailed as error:
        raise theirs(error) from error
    if "student" in given and called(made.student.model_dump(mode="json")) != sent.model:
        raise ValidationFailed(
            "model: it names another student than distillation.student; leave that out, or name it here as answers do",
            param="model",
        )
    return made


def theirs(error: ValidationFailed) -> ValidationFailed:
    """The same refusal with the field under the name that OpenAI's request has for it."""
    if error.param is None:
        return error
    for ours, name in THEIRS.items():
        if error.param == ours or error.param.startswith(f"{ours}."):
            return ValidationFailed(error.message, param=name)
    return ValidationFailed(error.message, param=f"distillation.{error.param}")


def multiplier(resolved: Mapping[str, Any]) -> float:
    """The inverse of what the rate of a resolved spec came from."""
    return float(f"{resolved['optimizer']['learning_rate'] / LEARNING_RATE:.12g}")


def _teacher(sent: CreateJob, settings: Settings) -> dict[str, Any]:
    if isinstance(sent.teacher, dict):
        return sent.teacher
    name = sent.teacher or settings.openai_teacher
    if name is None:
        raise ValidationFailed(
            'teacher: the operator has set none; name one, as extra_body={"teacher": "org/name"}', param="teacher"
        )
    return reference(name, settings.model_roots)


def _dataset(sent: CreateJob) -> Any:
    dataset = sent.distillation.get("dataset", {})
    if not isinstance(dataset, dict):
        return dataset
    for split, name in (("train", "training_file"), ("validation", "validation_file")):
        if split in dataset:
            raise ValidationFailed(f"distillation.dataset.{split}: write it as {name}", param=name)
    named = {"train": sent.training_file}
    if sent.validation_file is not None:
        named["validation"] = sent.validation_file
    return dataset | named


def _hyperparameters(sent: CreateJob) -> Hyperparameters:
    method = sent.method
    within = None
    if method is not None:
        other = method.supervised if method.type == "distillation" else method.distillation
        if other is not None:
            raise ValidationFailed(f"method: its type is {method.type}; give that one's settings only", param="method")
        chosen = method.distillation if method.type == "distillation" else method.supervised
        within = chosen.hyperparameters if chosen is not None else None
    if within is not None and sent.hyperparameters is not None:
        raise ValidationFailed("hyperparameters: name them once, here or in method", param="hyperparameters")
    return within or sent.hyperparameters or Hyperparameters()


def _put_hyperparameters(spec: dict[str, Any], given: Mapping[str, Any], sent: Hyperparameters) -> None:
    """Over the operator's defaults; a value that the request names in our words too is refused, whichever was meant."""
    own = given.get("optimizer", {})
    if sent.n_epochs not in (None, "auto"):
        _once(given, "epochs", "n_epochs")
        spec["epochs"] = sent.n_epochs
    if not isinstance(own, dict):
        return
    optimizer = dict(spec.get("optimizer", {}))
    if sent.batch_size not in (None, "auto"):
        _once(own, "batch_size", "batch_size")
        optimizer["batch_size"] = sent.batch_size
    if isinstance(sent.learning_rate_multiplier, float | int):
        _once(own, "learning_rate", "learning_rate_multiplier")
        optimizer["learning_rate"] = sent.learning_rate_multiplier * LEARNING_RATE
    if optimizer:
        spec["optimizer"] = optimizer


def _once(given: Mapping[str, Any], ours: str, name: str) -> None:
    if ours in given:
        raise ValidationFailed(
            f"hyperparameters.{name}: distillation names it as {ours} too; name it once",
            param=f"hyperparameters.{name}",
        )
