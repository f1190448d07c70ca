"""Comparisons on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.jobs.schemas import FailureView, Progress, Remark
from api.jobs.states import JobState, Requested
from cpd_engine.config import BudgetSpec, MetadataKey, MetadataValue, Name, RunConfig
from cpd_engine.config import Frozen as Wire
from cpd_engine.errors import FieldRefused
from cpd_engine.events import Compared

MAX_JOBS = 200
Label = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Asked(BaseModel):
    """Base of what is sent: no unknown field, no coercion, no NaN. A field's docstring is its description."""

    model_config = Wire.model_config


class MemberSpec(Asked):
    """A method, student or setting: what it sets differently from the base.

    Objects are merged field by field, anything else, `teacher` and `student` too, is replaced. A member that sets `preset` gets that
    preset's method: what the base says of it (all that presets decide but `epochs`) does not apply.
    """

    label: Label
    """What the member is called in the table."""
    set: dict[str, Any] = {}
    """Fields of a job spec, but for `dataset` and `evaluation`, which all share, and `budget`, seeds, `name` and `metadata`, which the
    comparison decides."""


class ComparisonSpec(Asked):
    """Members × seeds, each an ordinary job on the base's data, teacher, evaluation and the same budget."""

    base: RunConfig
    """A job spec, which every member starts from."""
    members: Annotated[tuple[MemberSpec, ...], Field(strict=False, min_length=1, max_length=MAX_JOBS)]
    """What is compared. Members × seeds are 200 jobs at most."""
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=MAX_JOBS)] = (0,)
    """The students' own (`student_seed`): rows and teacher stay those of `base.seed`."""
    baseline: Label | None = None
    """The label that the others are held against. None: the first member's."""
    budget: BudgetSpec | None = None
    """What every student may spend. None: as many optimizer steps as the baseline's epochs over all samples take."""
    name: Name | None = None
    """What it is called in lists; of no effect."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = {}
    """Up to 16 texts of one's own; of no effect."""

    @property
    def baseline_label(self) -> str:
        """The member that the others are held against."""
        return self.baseline or self.members[0].label

    @model_validator(mode="after")
    def _labels_and_seeds_differ(self) -> ComparisonSpec:
        labels = [member.label for member in self.members]
        if len(set(labels)) < len(labels):
            raise FieldRefused("members", "each label once")
        if len(set(self.seeds)) < len(self.seeds):
            raise FieldRefused("seeds", "each seed once")
        if self.baseline_label not in labels:
            raise FieldRefused("baseline", "it is none of the members' labels")
        return self

    @model_validator(mode="after")
    def _jobs_are_not_too_many(self) -> ComparisonSpec:
        if (jobs := len(self.members) * len(self.seeds)) > MAX_JOBS:
            raise FieldRefused("seeds", f"members × seeds are {jobs} jobs; at most {MAX_JOBS}")
        return self


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class BudgetView(Frozen):
    """What every member's student may spend: so much (`amount`), or what so many passes over all samples take (`epochs`)."""

    unit: Literal["steps", "tokens"]
    amount: int | None
    epochs: float | None


class RunView(Frozen):
    """A member's job, `/v1/jobs/{job}`, at a glance. `scores` are its student's on the test rows once it has evaluated."""

    job: str
    seed: int
    state: JobState
    requested: Requested
    phase: str | None
    progress: Progress
    queue_position: int | None
    started_at: datetime | None
    finished_at: datetime | None
    failure: FailureView | None
    scores: dict[str, float] | None


class MemberView(Frozen):
    """A member with its jobs by seed. `scores` are means over the jobs that have evaluated so far; the table has their intervals."""

    label: str
    set: dict[str, Any]
    runs: list[RunView]
    scores: dict[str, float] | None


class ComparisonView(Frozen):
    """A comparison. `state` follows from its jobs' and its table's: `succeeded` once the table is there.

    `table` is made by a job of its own (`table_job`) when the last member has ended; `failure` says why there is none. Where that
    job failed, `POST …/table` has another one try.
    """

    id: str
    object: Literal["comparison"] = "comparison"
    name: str | None
    metadata: dict[str, str]
    state: JobState
    requested: Requested
    baseline: str
    budget: BudgetView
    seeds: list[int]
    created_at: datetime
    members: list[MemberView]
    table_job: str | None
    table: Compared | None
    failure: FailureView | None


class SubmittedComparison(ComparisonView):
    """A comparison just submitted, with what the members' plans warn of."""

    warnings: list[Remark]


class ComparisonLine(Frozen):
    """A comparison in a list; `jobs` counts its members' jobs by state."""

    id: str
    object: Literal["comparison"] = "comparison"
    name: str | None
    state: JobState
    requested: Requested
    baseline: str
    members: list[str]
    seeds: list[int]
    jobs: dict[JobState, int]
    created_at: datetime


class ComparisonPage(Frozen):
    """A page of comparisons, newest first."""

    object: Literal["list"] = "list"
    data: list[ComparisonLine]
    has_more: bool
    next_cursor: str | None
