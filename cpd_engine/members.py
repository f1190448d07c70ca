"""What the table of a comparison is made of: members with their runs, and where the rows of each lie. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cpd_engine.config import BudgetSpec, Frozen

SAMPLES = "samples.jsonl"
Amount = Annotated[int, Field(ge=0)]
Duration = Annotated[float, Field(ge=0.0)]


class MemberRun(Frozen):
    """One run of a member. `folder` holds its `samples.jsonl`, relative to the table's spec; None where it ended without one.

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
    """What `python -m cpd_engine table` reads. `baseline` is the label of the member that the others are held against."""

    kind: Literal["table"] = "table"
    members: Annotated[tuple[Member, ...], Field(strict=False, min_length=1)]
    baseline: str
    budget: BudgetSpec
    seed: Amount = 0


def budget_in_words(budget: BudgetSpec) -> str:
    """`as many optimizer steps as 3 passes over all samples take`."""
    what = {"steps": "optimizer steps", "tokens": "supervised tokens"}[budget.unit]
    if budget.amount is not None:
        return f"{budget.amount:,} {what}"
    passes = "one pass" if budget.epochs == 1 else f"{budget.epochs:g} passes"
    return f"as many {what} as {passes} over all samples take"
