"""Jobs on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.jobs.states import JobKind, JobState, Requested
from cpd_engine.events import Forecasted

HOUR_S = 3600.0


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class Progress(Frozen):
    """Where the run is; a field that does not apply to the phase at hand is null. `loss` in nats per supervised token."""

    phase_index: int | None = None
    phases: int | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    subset_size: int | None = None
    samples: int | None = None
    loss: float | None = None
    temperature: float | None = None
    mixing: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    label: str | None = None
    done: int | None = None
    total: int | None = None
    trained: str | None = None


class FailureView(Frozen):
    """Why a job failed: a stable code, and a message for people."""

    code: str
    message: str


class Remark(Frozen):
    """Something to know before the run is paid for; `code` is stable."""

    code: str
    message: str


class Usage(Frozen):
    """What a tenant has taken beside what it may take; a limit is null where the operator has set none. Data sets alone count as stored."""

    object: Literal["usage"] = "usage"
    queued_jobs: int
    queued_jobs_max: int
    running_jobs: int
    running_jobs_max: int | None
    gpu_hours: Annotated[
        float,
        Field(
            description="Time of all attempts times their GPUs (on the CPU: processes), within the last `gpu_hours_days`."
        ),
    ]
    gpu_hours_max: float | None
    gpu_hours_days: int
    stored_bytes: int
    stored_bytes_max: int


class MemberOf(Frozen):
    """Of which comparison a job is a member, under which label and seed."""

    comparison: str
    label: str
    seed: int


class JobView(Frozen):
    """A job. `spec` is the RunConfig as it was sent, `resolved` the same with the preset's values filled in.

    `forecast` is what the job was last seen to take as a whole, once a few of its steps have been timed; null for a short one.
    """

    id: str
    object: Literal["job"] = "job"
    kind: JobKind
    name: str | None
    metadata: dict[str, str]
    state: JobState
    requested: Requested
    phase: str | None
    progress: Progress
    queue_position: int | None
    attempt: int
    heartbeat_age_s: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    failure: FailureView | None
    spec: dict[str, Any]
    resolved: dict[str, Any]
    scores: dict[str, dict[str, float]] | None
    forecast: Forecasted | None
    member_of: MemberOf | None


class SubmittedJob(JobView):
    """A job just submitted, with what the plan warns of."""

    warnings: list[Remark]


class JobPage(Frozen):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobView]
    has_more: bool
    next_cursor: str | None


class EpochEstimate(Frozen):
    """One epoch of the plan: k_e of N samples, iterations (optimizer steps), τ_e, t_e, α_e; `dead` where nothing is distilled."""

    epoch: int
    subset_size: int
    iterations: int
    temperature: float
    mixing: float
    alpha: float
    dead: bool


class Bounds(Frozen):
    """The least and the most that it can be."""

    least: int
    most: int


class Price(Frozen):
    """What the operator charges or pays for an hour of a GPU, and how many the run holds."""

    per_gpu_hour: float
    currency: str
    gpus: int

    def of(self, duration_s: float) -> float:
        """What so many seconds of the run cost."""
        return duration_s / HOUR_S * self.gpus * self.per_gpu_hour


class Cost(Frozen):
    """What the run will take, from shapes alone; POST /v1/jobs/probe measures it. Null where a model is known only to the hub.

    `tokens` go through the student at `tokens_per_s`; `cache_bytes` is what the teacher's states take, 0 where none are kept.
    The true duration lies between `duration_s` / `error_factor` and `duration_s` × `error_factor`; `assumptions` say what it rests on.
    `money` is the duration at the estimate's `price`.
    """

    teacher_parameters: int | None
    student_parameters: int | None
    tokens: int
    tokens_per_s: float | None
    memory_bytes: int | None
    cache_bytes: int | None
    disk_bytes: int | None
    duration_s: float | None
    error_factor: float
    assumptions: tuple[str, ...]
    money: float | None = None


class Estimate(Frozen):
    """The plan of a run before anything is spent.

    A calibrated curriculum waits for the difficulty profile, and how many rows survive is known once they are tokenised: then
    `exact` is false, `total_iterations` assumes a difficulty that grows evenly, and the true number lies within `iterations`.
    Everything that depends on the data is null where its size is not known beforehand (a hub data set without `max_rows`).
    `price` is null where the operator has named none.
    """

    object: Literal["estimate"] = "estimate"
    samples: int | None
    batch_size: int
    exact: bool
    floor: int | None
    total_iterations: int | None
    iterations: Bounds | None
    epochs: list[EpochEstimate]
    cost: Cost | None
    price: Price | None = None
    warnings: list[Remark]
