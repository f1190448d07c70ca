"""From a comparison's spec to the job spec of every member, each checked as a job's is, with errors that point at who said it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.bodies import validate
from api.comparisons.schemas import ComparisonSpec
from api.core.errors import ValidationFailed
from cpd_engine.config import BudgetSpec, RunConfig
from cpd_engine.presets import PRESETS

# What all members share, or what the comparison itself decides.
SHARED = ("dataset", "evaluation")
DECIDED = ("budget", "seed", "student_seed", "name", "metadata")
# Unions of unlike things: half of one and half of another would be neither.
_WHOLE = frozenset({"teacher", "student"})
# The length of the schedule stays the comparison's.
_OF_PRESETS = {name for preset in PRESETS.values() for name in preset} - {"epochs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One job of a comparison: its member, by place and label, its seed and its spec."""

    position: int
    label: str
    seed: int
    config: RunConfig


def budget_of(spec: ComparisonSpec) -> BudgetSpec:
    """What every member may spend: as asked, else as many steps as the baseline's epochs over all samples take."""
    if (asked := spec.budget or spec.base.budget) is not None:
        return asked
    at = [member.label for member in spec.members].index(spec.baseline_label)
    epochs = _config(spec, at, {}).resolved().epochs
    return BudgetSpec(unit="steps", epochs=float(epochs or 1))


def runs_of(spec: ComparisonSpec, budget: BudgetSpec) -> list[Run]:
    """The jobs, member by member and seed by seed. Raises ValidationFailed with the path below `members.N.set` or `base`."""
    made = []
    for position, member in enumerate(spec.members):
        for seed in spec.seeds:
            decided = {
                "budget": budget.model_dump(mode="json", exclude_unset=True),
                "student_seed": seed,
                "name": f"{spec.name or 'comparison'}: {member.label}, seed {seed}"[:120],
                "metadata": {**spec.base.metadata, **spec.metadata},
            }
            config = _config(spec, position, decided)
            made.append(Run(position=position, label=member.label, seed=seed, config=config))
    return made


def pointing(refused: ValidationFailed, spec: ComparisonSpec, position: int) -> ValidationFailed:
    """The same refusal of a member's job, with the path in the comparison's spec of whoever set the field at fault."""
    place = f"members.{position}"
    if refused.param is not None:
        place = _said_by(spec, position, refused.param) + refused.param
    label = spec.members[position].label
    return ValidationFailed(f"{place}: member {label}: {refused.message}", param=place)


def _config(spec: ComparisonSpec, position: int, decided: Mapping[str, Any]) -> RunConfig:
    member = spec.members[position]
    for name in (*SHARED, *DECIDED):
        if name in member.set:
            why = "all members share the base's" if name in SHARED else "the comparison decides it"
            param = f"members.{position}.set.{name}"
            raise ValidationFailed(f"{param}: {why}; leave it out", param=param)
    base: dict[str, Any] = json.loads(spec.base.model_dump_json(by_alias=True, exclude_unset=True))
    if "preset" in member.set:
        base = {name: value for name, value in base.items() if name not in _OF_PRESETS}
    try:
        return validate(RunConfig, {**merged(base, member.set), **decided})
    except ValidationFailed as refused:
        raise pointing(refused, spec, position) from refused


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: objects field by field, anything else, and whole models, replaced."""
    made = dict(base)
    for name, value in changes.items():
        before = made.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and name not in _WHOLE:
            value = merged(before, value)
        made[name] = value
    return made


def _said_by(spec: ComparisonSpec, position: int, param: str) -> str:
    """Below what the field was given: the comparison itself decides some, a member sets others, the base has the rest."""
    field = param.split(".")[0]
    if field in spec.members[position].set:
        return f"members.{position}.set."
    if field in DECIDED and (field in spec.model_fields_set or field not in spec.base.model_fields_set):
        return ""
    return "base."
