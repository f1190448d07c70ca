"""What the service answers, as frozen values. Fields that a newer service adds are ignored, so an older client goes on working."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from api.jobs.states import TERMINAL, JobKind, JobState
from cpd_engine.events import Forecasted, SealedFile

T = TypeVar("T")


class Answer(BaseModel):
    """Frozen, lenient towards new fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Page(Answer, Generic[T]):
    """One page of a list; `next_cursor` leads to the next."""

    data: tuple[T, ...]
    has_more: bool = False
    next_cursor: str | None = None


class BadRow(Answer):
    """A line that was skipped, why, and what would mend it."""

    line: int
    column: int | None = None
    reason: str
    suggestion: str = ""


class RowReport(Answer):
    """The first bad rows of an upload; `truncated` when there were more."""

    bad_rows: tuple[BadRow, ...] = ()
    truncated: bool = False


class Dataset(Answer):
    """An uploaded data set."""

    id: str
    name: str
    format: str
    rows: int
    bad_rows: int
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    report: RowReport = RowReport()


class Progress(Answer):
    """Where a job stands, at a glance. What does not apply in its phase is None."""

    phase_index: int | None = None
    phases: int | None = None
    trained: str | None = None
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


class Failure(Answer):
    """Why a job failed; `code` is stable."""

    code: str
    message: str


class Remark(Answer):
    """Something to know before a job is paid for; `code` is stable."""

    code: str
    message: str


class Job(Answer):
    """A job as the service last knew it."""

    id: str
    kind: JobKind = JobKind.DISTILLATION
    name: str | None = None
    metadata: dict[str, str] = {}
    state: JobState
    requested: str = "none"
    phase: str | None = None
    progress: Progress = Progress()
    queue_position: int | None = None
    attempt: int = 0
    heartbeat_age_s: float | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: Failure | None = None
    spec: dict[str, Any] = {}
    resolved: dict[str, Any] = {}
    scores: dict[str, dict[str, float]] | None = None
    forecast: Forecasted | None = None
    # Only in the answer to a submission: what the plan warns of.
    warnings: tuple[Remark, ...] = ()

    @property
    def is_over(self) -> bool:
        """True in a state that never changes again."""
        return self.state in TERMINAL


class Event(Answer):
    """One numbered event of a job: `data` is the engine's event, or the service's own such as state_changed."""

    seq: int
    kind: str
    at: datetime
    attempt: int = 0
    data: dict[str, Any]

    @property
    def new_state(self) -> JobState | None:
        """The state that this event brought the job into, if it is a change of state."""
        return JobState(self.data["to"]) if self.kind == "state_changed" else None


class Point(Answer):
    """One value of a series."""

    step: int
    value: float
    at: datetime | None = None


class Series(Answer):
    """A metric over steps, thinned by the service so that extremes stay."""

    name: str
    last_step: int | None = None
    points: tuple[Point, ...]


class Checkpoint(Answer):
    """A sealed directory that can be downloaded."""

    name: str
    role: str
    step: int | None = None
    epoch: int | None = None
    metrics: dict[str, float] = {}
    size_bytes: int
    files: tuple[SealedFile, ...]
    manifest_sha256: str
    formats: tuple[str, ...] = ()
    created_at: datetime


class Usage(Answer):
    """What the tenant has taken beside what it may take; None: no limit."""

    queued_jobs: int
    queued_jobs_max: int
    running_jobs: int
    running_jobs_max: int | None = None
    gpu_hours: float
    gpu_hours_max: float | None = None
    gpu_hours_days: int
    stored_bytes: int
    stored_bytes_max: int


class EpochEstimate(Answer):
    """One epoch of a plan; `dead` where nothing is distilled."""

    epoch: int
    subset_size: int
    iterations: int
    temperature: float
    mixing: float
    alpha: float
    dead: bool = False


class Bounds(Answer):
    """The least and the most that it can be."""

    least: int
    most: int


class Cost(Answer):
    """What a job will take; the true duration lies within a factor `error_factor` of `duration_s`. None where it is not known."""

    teacher_parameters: int | None = None
    student_parameters: int | None = None
    tokens: int
    tokens_per_s: float | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    disk_bytes: int | None = None
    duration_s: float | None = None
    error_factor: float
    assumptions: tuple[str, ...] = ()
    money: float | None = None


class Price(Answer):
    """What the operator counts for an hour of a GPU, and how many the job holds."""

    per_gpu_hour: float
    currency: str
    gpus: int

    def of(self, duration_s: float) -> float:
        """What so many seconds of the job cost."""
        return duration_s / 3600.0 * self.gpus * self.per_gpu_hour


class Estimate(Answer):
    """The plan of a job and its warnings. What depends on data that has not been read is None."""

    samples: int | None = None
    batch_size: int
    exact: bool
    floor: int | None = None
    total_iterations: int | None = None
    iterations: Bounds | None = None
    epochs: tuple[EpochEstimate, ...] = ()
    cost: Cost | None = None
    price: Price | None = None
    warnings: tuple[Remark, ...] = ()
