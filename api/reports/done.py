"""What a job did: models, rows, method and budget. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.quantities import count
from api.quantities import size as size_in_words
from api.reports.blocks import Block, Code, Facts, Paragraph, Picture, Section, Tile, Words
from api.reports.job_facts import JobFacts
from api.reports.methods import explained, model
from api.reports.words import large, percent
from cpd_engine.config import BudgetSpec, HubModel, LocalModel, RunConfig, StudentFromTeacher, StudentRef, TeacherRef


def teacher(facts: JobFacts) -> str:
    """The teacher by name."""
    return model(facts.config.teacher)


def student(facts: JobFacts) -> str:
    """The student by name."""
    return model(facts.config.student)


def size(facts: JobFacts) -> list[Tile]:
    """How much smaller than its teacher the student is."""
    parameters, whole = _parameters(facts.lineage, "teacher"), facts.exported
    if whole is None:
        return []
    weight = f"{large(whole.parameters)} parameters, {size_in_words(whole.size_bytes)} to download"
    if parameters is None:
        return [Tile(label="Size", value=large(whole.parameters), note=weight)]
    note = f"{weight}; teacher {large(parameters)}"
    return [Tile(label="Size, of the teacher's", value=percent(whole.parameters / parameters), note=note)]


def section(facts: JobFacts, pictures: Sequence[Picture]) -> Section:
    """The section with the method in plain words."""
    config = facts.config
    rows: list[tuple[str, Words]] = [
        ("Teacher", _model(config.teacher, facts.lineage, "teacher")),
        ("Student before training", _model(config.student, facts.lineage, "student")),
        ("Data", _data(facts)),
        ("Method", _preset(config)),
        ("Budget", _budget(facts)),
        ("Seeds", _seeds(config)),
    ]
    licences = _licences(facts)
    if licences:
        rows.append(("Licences", licences))
    blocks: list[Block] = [Facts(rows=rows), Paragraph(words=explained(config)), *pictures]
    return Section(title="What was done", anchor="done", blocks=blocks)


def _preset(config: RunConfig) -> Words:
    return (
        Code(config.preset),
        ": divergence ",
        Code(str(config.divergence)),
        ", curriculum ",
        Code(str(config.curriculum)),
        ", difficulty ",
        Code(str(config.difficulty)),
    )


def _model(ref: TeacherRef | StudentRef, lineage: Mapping[str, Any] | None, name: str) -> Words:
    found = (lineage or {}).get(name, {})
    parameters = f", {count(found['parameters'])} parameters" if "parameters" in found else ""
    match ref:
        case HubModel():
            return (Code(ref.hub), " at ", Code(str(found.get("revision") or ref.revision)), parameters)
        case LocalModel():
            return (Code(ref.local), parameters)
        case _:
            return f"{model(ref)}{parameters}"


def _data(facts: JobFacts) -> Words:
    spec = facts.config.dataset
    if spec.synthetic is not None:
        source: tuple[str | Code, ...] = ("the project's own synthetic tasks",)
    elif spec.hub is not None:
        source = (Code(spec.hub), " at ", Code(str(_data_of(facts.lineage).get("revision") or spec.revision)))
    else:
        source = (Code(str(spec.train)),)
    if facts.data is None:
        return source
    split = ", ".join(f"{count(amount)} {name}" for name, amount in facts.data.rows.items())
    dropped = sum(facts.data.dropped.values())
    left_out = f"; {count(dropped)} left out" if dropped else ""
    return (*source, f"; rows: {split}{left_out}; sha256 of the normalised rows ", Code(facts.data.sha256))


def _budget(facts: JobFacts) -> Words:
    planned, config = facts.planned, facts.config
    asked = f"{count(config.epochs)} epochs"
    if isinstance(config.budget, BudgetSpec):
        amount = config.budget.amount
        as_much = count(amount) if amount is not None else f"what {config.budget.epochs:g} passes take in"
        asked += f", as long as {as_much} {config.budget.unit}"
    if planned is None:
        return asked
    share = planned.epochs[0].subset_size / planned.samples if planned.epochs and planned.samples else 1.0
    first = f"; the first epoch shows {percent(share)} of the samples" if share < 1.0 else ""
    return f"{asked}, {count(planned.total_iterations)} optimizer steps of {count(planned.batch_size)} samples{first}"


def _seeds(config: RunConfig) -> Words:
    own = "" if config.student_seed is None else f"; student {config.student_seed}"
    return f"{config.seed}{own}"


def _licences(facts: JobFacts) -> str:
    if facts.lineage is None:
        return ""
    config, told = facts.config, []
    for name, ref in (("teacher", config.teacher), ("student", config.student)):
        if isinstance(ref, HubModel | LocalModel):
            told.append(f"{name}: {facts.lineage[name].get('licence') or 'not stated'}")
        elif isinstance(ref, StudentFromTeacher):
            told.append(f"{name}: the teacher's")
    if config.dataset.synthetic is None:
        told.append(f"rows: {_data_of(facts.lineage).get('licence') or 'not stated'}")
    return "; ".join(told)


def _data_of(lineage: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found = (lineage or {}).get("data", {})
    assert isinstance(found, Mapping)
    return found


def _parameters(lineage: Mapping[str, Any] | None, name: str) -> int | None:
    found = (lineage or {}).get(name, {}).get("parameters")
    return found if isinstance(found, int) else None
