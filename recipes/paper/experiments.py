"""The paper's experiments as experiments.yaml declares them, expanded to job specs and to comparison specs. Torch-free."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cpd_engine.config import RunConfig
from cpd_engine.notation import parse_yaml

HERE = Path(__file__).parent
# What a comparison takes as a label.
Label = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]
SPLITS = ("train", "validation", "test")
# Unions of unlike things: half of one model and half of another would be neither.
_WHOLE = frozenset({"teacher", "student"})
_UPLOADED = "ds_"
Found = TypeVar("Found")


class UnknownExperiment(LookupError):
    """No such experiment, member or variation; the message lists those there are."""


class Variation(BaseModel):
    """What a member, or all jobs of a comparison, set differently from the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    label: Label
    set: dict[str, Any]


class Experiment(BaseModel):
    """Variations of one recipe. `apart`: those that no single comparison may hold; `baseline`: the label that others are held against."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    paper: str
    base: str
    members: Annotated[tuple[Variation, ...], Field(min_length=1)]
    apart: tuple[Variation, ...] = ()
    baseline: Label

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> Experiment:
        for labels in ([one.label for one in self.members], [one.label for one in self.apart]):
            if len(set(labels)) < len(labels):
                raise ValueError(f"{self.name}: each label once")
        if self.baseline not in {one.label for one in self.members}:
            raise ValueError(f"{self.name}: the baseline {self.baseline!r} is none of its members")
        return self

    def labels(self) -> Iterator[str]:
        """Of every job: LABEL, or LABEL@VARIATION where variations are kept apart."""
        for variation in self.apart or (None,):
            for member in self.members:
                yield member.label if variation is None else f"{member.label}@{variation.label}"


def bases() -> tuple[str, ...]:
    """The recipes, by the names of their files."""
    return tuple(sorted(path.stem for path in HERE.glob("*.yaml") if path.stem not in {"experiments", "suites"}))


def recipe(base: str) -> dict[str, Any]:
    """A recipe with its benchmarks, its paths relative to this folder."""
    spec: dict[str, Any] = _read(f"{base}.yaml")
    return merged(spec, {"evaluation": {"suites": _read("suites.yaml")[base]}})


def experiments() -> dict[str, Experiment]:
    """All of experiments.yaml, by name."""
    declared = _read("experiments.yaml")
    methods: Mapping[str, Mapping[str, Any]] = declared["methods"]
    return {name: _experiment(name, dict(fields), methods) for name, fields in declared["experiments"].items()}


def experiment(name: str) -> Experiment:
    """Raises UnknownExperiment."""
    return _named(name, experiments(), "experiment")


def job(asked: Experiment, label: str) -> dict[str, Any]:
    """The job spec of one member. Raises UnknownExperiment."""
    named, _, apart = label.partition("@")
    member = _named(named, {one.label: one for one in asked.members}, f"member of {asked.name}")
    spec = merged(_base(asked, apart or None), member.set)
    return {
        **spec,
        "name": f"{asked.name}: {label}",
        "metadata": {"paper": asked.paper, "experiment": asked.name, "label": label},
    }


def comparison(asked: Experiment, apart: str | None = None) -> dict[str, Any]:
    """A comparison's spec: all members of the experiment, and as many steps for each as the baseline's epochs over all samples take.

    Raises UnknownExperiment.
    """
    base = _base(asked, apart)
    base.pop("name", None)
    baseline = next(one for one in asked.members if one.label == asked.baseline)
    epochs = RunConfig.model_validate_json(json.dumps(merged(base, baseline.set))).resolved().epochs
    return {
        "name": asked.name if apart is None else f"{asked.name}: {apart}",
        "metadata": {"paper": asked.paper},
        "base": base,
        "members": [{"label": one.label, "set": one.set} for one in asked.members],
        "baseline": asked.baseline,
        "seeds": [0],
        "budget": {"unit": "steps", "epochs": float(epochs or 1)},
    }


def merged(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with `changes`: objects field by field, anything else, and whole models, replaced."""
    made = dict(spec)
    for name, value in changes.items():
        before = made.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and name not in _WHOLE:
            made[name] = merged(before, value)
        else:
            made[name] = value
    return made


def placed(spec: Mapping[str, Any], folder: Path, uploaded: Mapping[str, str]) -> dict[str, Any]:
    """The spec with its files as seen from `folder`, and `uploaded` data sets (or files of one's own) in the place of its splits."""
    dataset = {key: _seen(value, folder) if key in SPLITS else value for key, value in spec["dataset"].items()}
    evaluation = dict(spec["evaluation"])
    if "suites" in evaluation:
        evaluation["suites"] = [
            {key: _seen(value, folder) if key in ("data", "examples") else value for key, value in suite.items()}
            for suite in evaluation["suites"]
        ]
    return {**spec, "dataset": {**dataset, **uploaded}, "evaluation": evaluation}


def _seen(path: str, folder: Path) -> str:
    return path if path.startswith(_UPLOADED) else Path(os.path.relpath(HERE / path, folder)).as_posix()


def _base(asked: Experiment, apart: str | None) -> dict[str, Any]:
    """The recipe, changed by the variation that is kept apart; which is named exactly where there are any."""
    known = {one.label: one for one in asked.apart}
    if apart is None and not known:
        return recipe(asked.base)
    return merged(recipe(asked.base), _named(apart or "", known, f"variation of {asked.name}").set)


def _experiment(name: str, fields: dict[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> Experiment:
    crossed = fields.pop("cross", None) or [fields.pop("members")]
    factors = [[_variation(one, methods) for one in factor] for factor in crossed]
    members = tuple(reduce(_joined, combination) for combination in product(*factors))
    return Experiment.model_validate({"name": name, "members": members, **fields})


def _variation(given: str | Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> Variation:
    if isinstance(given, str):
        return Variation(label=given, set=dict(methods[given]))
    return Variation.model_validate(given)


def _joined(left: Variation, right: Variation) -> Variation:
    return Variation(label=f"{left.label}-{right.label}", set=merged(left.set, right.set))


def _named(name: str, known: Mapping[str, Found], what: str) -> Found:
    if name not in known:
        raise UnknownExperiment(f"no {what} {name!r}; there is {', '.join(known) or 'none'}")
    return known[name]


def _read(file: str) -> Any:
    return parse_yaml((HERE / file).read_text(encoding="utf-8"))
