"""What the table of a comparison is made of: members with their runs, and where the rows of each lie. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cpd_engine.config import BudgetSpec, Frozen, Suites

SAMPLES = "samples.jsonl"
# Whose scores a table tells.
SUBJECTS = ("student", "teacher", "untouched")
Amount = Annotated[int, Field(ge=0)]
Duration = Annotated[float, Field(ge=0.0)]


class MemberRun(Frozen):
    """One run of a member. `folder`, relative to the table's spec, holds its report's rows, `samples.jsonl` and those of the suites,
    whole or as `bare` leaves them; None where it ended without any.

    `ended` is "succeeded", or why it gave nothing. Steps and tokens of the student's training, the seconds they took, and all
    seconds on a worker, as far as they are known.
    """

    seed: Amount
    folder: str | None
    ended: str
    steps: Amount | None = None
    supervised_tokens: Amount | None = None
    processed_tokens: Amount | None = None
    train_s: Duration | None = None
    worker_s: Duration | None = None


class Member(Frozen):
    """A method, student or setting that is compared, by its label."""

    label: Annotated[str, Field(min_length=1, max_length=64)]
    runs: Annotated[tuple[MemberRun, ...], Field(strict=False, min_length=1)]


class TableSpec(Frozen):
    """What `python -m cpd_engine table` reads. `baseline` is the label of the member that the others are held against; `suites` are
    those that all members have answered, `judged` the titles of those whose answers a judge was asked about.
    """

    kind: Literal["table"] = "table"
    members: Annotated[tuple[Member, ...], Field(strict=False, min_length=1)]
    baseline: str
    budget: BudgetSpec
    suites: Suites = ()
    judged: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seed: Amount = 0


def rows_of_suite(title: str) -> str:
    """Where a report keeps the rows of a suite."""
    return f"suites/{title}.jsonl"


def bare(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a report's rows without its texts: the numbers of whom a table tells, and a hash of what was asked."""
    return {
        "row": line["row"],
        "asked": asked_in(line),
        "answers": {subject: _numbers(line["answers"][subject]) for subject in SUBJECTS},
    }


def asked_in(line: Mapping[str, Any]) -> str:
    """A hash of what a line, whole or bare, was asked and is held against: rows without ids of their own are called by their place, so
    that other rows of another revision may have the same names.
    """
    if "asked" in line:
        return str(line["asked"])
    told = json.dumps([line.get(name) for name in ("instruction", "input", "references")])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _numbers(answer: Mapping[str, Any]) -> dict[str, Any]:
    if "generations" in answer:
        return {"generations": [_numbers(one) for one in answer["generations"]]}
    return {name: value for name, value in answer.items() if isinstance(value, int | float)}


def budget_in_words(budget: BudgetSpec) -> str:
    """`as many optimizer steps as 3 passes over all samples take`."""
    what = {"steps": "optimizer steps", "tokens": "supervised tokens"}[budget.unit]
    if budget.amount is not None:
        return f"{budget.amount:,} {what}"
    passes = "one pass" if budget.epochs == 1 else f"{budget.epochs:g} passes"
    return f"as many {what} as {passes} over all samples take"
