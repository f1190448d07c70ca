"""The shapes of OpenAI's published API that this door speaks. Times are seconds since 1970; what is ours rides along in own fields."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from api.datasets.schemas import DatasetView
from api.jobs.schemas import JobView, SubmittedJob
from cpd_engine.config import MetadataKey, MetadataValue, Seed

Auto = Literal["auto"]
Purpose = Literal["fine-tune", "fine-tune-results"]
Item = TypeVar("Item")


class Sent(BaseModel):
    """Base of the bodies: a field that we do not know is refused, not passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class ExpiresAfter(Sent):
    """When a file goes by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateUpload(Sent):
    """A file that will come in parts; `bytes` is what they come to. Whatever its `mime_type`, it is read as JSON lines."""

    bytes: Annotated[int, Field(ge=1, le=2**50)]
    filename: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
    mime_type: Annotated[str, Field(max_length=200)]
    purpose: Literal["fine-tune"]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Sent):
    """The parts in the order of the file."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=1000)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class Hyperparameters(Sent):
    """`learning_rate_multiplier` × 5e-4 is the learning rate; "auto" leaves a value to the preset or the operator."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=65536)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0.0, le=2000.0)] | None = None


class MethodSettings(Sent):
    """What a method is given."""

    hyperparameters: Hyperparameters | None = None


class Method(Sent):
    """Either way the job is a distillation; `supervised` is taken for clients that know no other word."""

    type: Literal["supervised", "distillation"]
    supervised: MethodSettings | None = None
    distillation: MethodSettings | None = None


class CreateJob(Sent):
    """A job as OpenAI's clients send it; `teacher` and `distillation` are ours and travel in `extra_body`."""

    model: Annotated[str, Field(min_length=1, max_length=400)]
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    seed: Seed | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    teacher: Annotated[str, Field(min_length=1, max_length=400)] | dict[str, Any] | None = None
    distillation: dict[str, Any] = {}


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class Page(Frozen, Generic[Item]):
    """A page; the next one begins `after` its `last_id`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileObject(Frozen):
    """A data set, or a result of a job. `dataset` is our report on the rows of a data set."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    dataset: DatasetView | None = None


class Deleted(Frozen):
    """What is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class DeletedModel(Frozen):
    """What is gone."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class Upload(Frozen):
    """A file that comes in parts; `file` once they are joined."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None


class Part(Frozen):
    """A part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class Taken(Frozen):
    """The hyperparameters a job runs with; `n_epochs` is "auto" where another budget decides."""

    n_epochs: Auto | int
    batch_size: int
    learning_rate_multiplier: float


class MethodSettingsView(Frozen):
    """What the method was given."""

    hyperparameters: Taken


class MethodView(Frozen):
    """Always `supervised`: strict clients know no word for a distillation."""

    type: Literal["supervised"] = "supervised"
    supervised: MethodSettingsView


class Failure(Frozen):
    """Why a job failed."""

    code: str
    message: str
    param: None = None


Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class FineTuningJob(Frozen):
    """A job. `distillation` is the same job as GET /v1/jobs/{id} tells it: phase, progress, scores and, where it pauses, that state."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: Status
    model: str
    teacher: str
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: Taken
    method: MethodView
    seed: int
    error: Failure | None
    metadata: dict[str, str]
    integrations: list[Any] = []
    distillation: SubmittedJob | JobView


class Event(Frozen):
    """An event. `data` holds ours: `seq`, `kind`, `attempt` and the fields of the kind."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class Checkpoint(Frozen):
    """A checkpoint; `metrics` carries our scores under our names."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]


class Model(Frozen):
    """A model that a job has made, or one of the operator's that a job may name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Frozen):
    """Every model there is to name."""

    object: Literal["list"] = "list"
    data: list[Model]
