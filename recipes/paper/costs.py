"""What the recipes plan and cost, by arithmetic from facts: the tables of README.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cpd_engine.config import HubModel, HubTeacher, RunConfig
from cpd_engine.forecast import forecast
from cpd_engine.plan import Plan, plan
from cpd_engine.shapes import Shape, adapter_parameters
from recipes.paper.architectures import shape
from recipes.paper.experiments import Experiment, bases, experiment, experiments, job, recipe

# One GPU at about a third of an A100's 312 TFLOP/s in bf16. A stated speed and no measurement.
FLOPS_PER_S = 1e14
_GIB = 1 << 30
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A training set: rows, and characters of a row's prompt and response on average."""

    rows: int
    prompt: float
    response: float


# Dolly counted; the others assumed, as their rows are not here: a little more than GSM8K's 235 and 287, and what code takes.
TEXTS: Mapping[str, Text] = {
    "dolly": Text(rows=11_435, prompt=171.18, response=357.65),
    "metamath": Text(rows=20_000, prompt=320.0, response=600.0),
    "evol": Text(rows=20_000, prompt=500.0, response=1300.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A job, its plan before the profile, and the forecast of that at `FLOPS_PER_S`."""

    config: RunConfig
    teacher: Shape
    student: Shape
    plan: Plan
    tokens: int
    memory_bytes: int
    cache_bytes: int
    disk_bytes: int
    duration_s: float

    @property
    def trained(self) -> int:
        """Weights that the student's training changes."""
        lora = self.config.lora
        return self.student.parameters if lora is None else adapter_parameters(self.student, lora)


def resolved(spec: Mapping[str, Any]) -> RunConfig:
    """The run of a spec, read as the service reads it."""
    return RunConfig.model_validate_json(json.dumps(spec)).resolved()


def text_of(config: RunConfig) -> Text:
    """The training set of a recipe, as large as the job takes it."""
    name = str(config.dataset.train).split("/")[-2]
    rows = min(TEXTS[name].rows, config.dataset.max_rows or TEXTS[name].rows)
    return Text(rows=rows, prompt=TEXTS[name].prompt, response=TEXTS[name].response)


def priced(config: RunConfig) -> Priced:
    """What a resolved recipe plans and costs on one GPU."""
    assert isinstance(config.teacher, HubTeacher)
    assert isinstance(config.student, HubModel)
    text, teacher, student = text_of(config), shape(config.teacher.hub), shape(config.student.hub)
    planned = plan(config, samples=text.rows)
    made = forecast(
        config,
        planned.planned,
        teacher=teacher,
        student=student,
        characters=round(text.rows * (text.prompt + text.response)),
        response_characters=round(text.rows * text.response),
        flops_per_s=FLOPS_PER_S,
    )
    return Priced(
        config=config,
        teacher=teacher,
        student=student,
        plan=planned,
        tokens=made.tokens,
        memory_bytes=_known(made.memory_bytes),
        cache_bytes=_known(made.cache_bytes),
        disk_bytes=_known(made.disk_bytes),
        duration_s=_known(made.duration_s),
    )


def _known(figure: Number | None) -> Number:
    """A figure that a forecast has wherever both shapes are known."""
    assert figure is not None
    return figure


def tables() -> dict[str, str]:
    """The generated parts of README.md, by name."""
    return {"experiments": _experiments(), "steps": _steps(), "costs": _costs()}


def _experiments() -> str:
    return _table(("paper", "experiment", "recipe", "jobs", "command"), (_row(one) for one in experiments().values()))


def _row(one: Experiment) -> tuple[str, ...]:
    labels = list(one.labels())
    return (
        one.paper,
        f"`{one.name}`",
        f"[{one.base}]({one.base}.yaml)",
        str(len(labels)),
        f"`python -m recipes.paper show {one.name} {labels[-1]}`",
    )


def _steps() -> str:
    """Of every kind of schedule: those of one experiment that differ, and the paper's word."""
    rows = []
    for name, label, printed in (
        ("table6-gpt2", "KLD", "28,588 (Table 5)"),
        ("table6-gpt2", "KLD+POCL", "as the baselines (A.4.3); 28,588 (Table 5, BSS)"),
        ("table6-gpt2", "DA-KD", "52.5 % (A.4.3)"),
        ("table6-gpt2", "CPD", "23,517 (Table 5), 82.3 % (A.4.3)"),
        ("table5b-gpt2", "BSS", "28,588 (Table 5)"),
        ("table5b-gpt2", "LS", "15,008 (Table 5)"),
        ("table5b-gpt2", "CS", "24,299 (Table 5)"),
        ("table2-math", "KLD", "–"),
        ("table2-math", "KLD+POCL", "–"),
        ("table2-math", "DA-KD", "–"),
        ("table2-math", "CPD", '"to align iteration counts with baselines" (A.4.3)'),
    ):
        found = priced(resolved(job(experiment(name), label))).plan
        whole = priced(resolved(job(experiment("table6-gpt2" if "gpt2" in name else name), "KLD"))).plan
        share = f"{found.planned.total_iterations / whole.planned.total_iterations:.1%}".replace("%", " %")
        steps = f"{found.planned.total_iterations:,}" if found.exact else "{:,} to {:,}".format(*found.bounds)
        rows.append((f"`{name}`", label, steps, share if found.exact else "by the profile", printed))
    return _table(("experiment", "member", "steps", "of the baselines'", "printed"), rows)


def _costs() -> str:
    rows = []
    for base in bases():
        made = priced(resolved(recipe(base)))
        rows.append(
            (
                f"[{base}]({base}.yaml)",
                f"{made.teacher.parameters / 1e6:,.1f}",
                f"{made.student.parameters / 1e6:,.1f}",
                f"{made.trained / 1e6:,.1f}",
                f"{made.tokens / 1e6:,.0f}",
                f"{made.memory_bytes / _GIB:,.0f}",
                f"{made.cache_bytes / _GIB:,.1f}",
                f"{made.disk_bytes / _GIB:,.0f}",
                f"{made.duration_s / 3600:,.1f}",
            )
        )
    heads = (
        "recipe",
        "teacher, M",
        "student, M",
        "trained, M",
        "tokens, M",
        "memory, GiB",
        "teacher's states, GiB",
        "disk, GiB",
        "hours",
    )
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
