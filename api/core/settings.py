"""Everything an operator may set: environment variables CPD_…, read once where a process starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.core.addresses import Broker, Bucket, Database, Endpoint, JudgeEndpoint

Seconds = Annotated[float, Field(gt=0.0, le=7 * 86_400.0)]
Bytes = Annotated[int, Field(ge=1, le=2**50)]
Price = Annotated[float, Field(ge=0.0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _default_database(data: dict[str, Any]) -> str:
    return f"sqlite:///{data['data_dir']}/cpd.sqlite3" if "data_dir" in data else ""


def _default_scratch(data: dict[str, Any]) -> Path:
    return Path(data.get("data_dir", "")) / "scratch"


def _default_state_cache(data: dict[str, Any]) -> Path:
    return Path(data.get("scratch_dir", "")) / "states"


class Settings(BaseSettings):
    """The service's settings. Durations are seconds; every one can be made short for tests."""

    # An empty variable is one that is not set: compose files pass on what .env leaves empty.
    model_config = SettingsConfigDict(
        env_prefix="CPD_", env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Path("cpd-data")
    """Where the embedded service keeps its database, broker folder, artifacts, scratch and first key."""
    scratch_dir: Path = Field(default_factory=_default_scratch)
    """Attempts work in `<scratch_dir>/<job>/<fence>/`; fast and roomy, and may be wiped while no worker runs."""
    state_cache_dir: Path = Field(default_factory=_default_state_cache)
    """Teachers' states, kept once for all jobs of this machine; fast, local to it, and may be wiped while no worker runs."""
    state_cache_bytes: Bytes = 64 * 2**30
    """Their size at most; the least recently used go first."""
    # Both may hold a password, which no repr shows.
    database_url: Database = Field(default_factory=_default_database, repr=False)
    broker_url: Broker = Field(default="filesystem://", repr=False)

    store_url: Bucket | None = None
    """Where data sets and artifacts lie: s3://BUCKET or s3://BUCKET/PREFIX; None: in `<data_dir>/store`.

    Who may use the bucket is told as to every client of AWS, by AWS_ACCESS_KEY_ID and the like, a profile or a role.
    """
    s3_endpoint: Endpoint | None = None
    """Of a server that speaks as S3 does; None: AWS."""
    s3_region: str | None = None
    downloads: Literal["proxied", "presigned"] = "proxied"
    """Whether single files come through the api, or it sends their reader to the bucket."""
    download_link_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 300
    """For so long may a download be begun by an address that the api has given."""
    s3_public_endpoint: Endpoint | None = None
    """Where readers reach the bucket, if not at `s3_endpoint`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_key: SecretStr | None = None
    """What the client sends; the service itself does not read it."""

    model_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders whose models a job may name as {local: …}; separated like PATH."""
    hub_endpoint: str | None = None
    """The only hub that is spoken to, e.g. https://huggingface.co; None: jobs cannot name hub models."""
    hub_cache: Path | None = None

    pool_size: Annotated[int, Field(ge=1, le=200)] = 10

    lease_s: Seconds = 60.0
    heartbeat_s: Seconds = 10.0
    reaper_s: Seconds = 10.0
    reaper_hold_leases: Annotated[float, Field(ge=0.0, le=100.0)] = 1.5
    """After an outage of the database the reaper waits this many leases, so that live workers beat first."""
    cancel_grace_s: Seconds = 60.0
    """From SIGTERM to SIGKILL of an engine that is to stop."""
    outage_s: Seconds = 1800.0
    """How long an engine runs on without the database."""
    stall_s: Seconds = 3600.0
    """An engine that says nothing for this long is stalled."""
    crash_budget: Annotated[int, Field(ge=1, le=100)] = 3
    loss_budget: Annotated[int, Field(ge=1, le=100)] = 5
    retry_delay_s: Seconds = 5.0
    """Before the first retry after a crash; doubles with each crash without progress."""
    retry_delay_max_s: Seconds = 300.0
    record_s: Annotated[float, Field(gt=0.0, le=5.0)] = 0.25
    """Events of the engine reach the database in batches at most this far apart."""
    idle_claim_s: Seconds = 5.0
    """How often an idle worker looks for a queued job by itself, should the bell be broken."""
    embedded_workers: Annotated[int, Field(ge=0, le=64)] = 1

    bell_s: Seconds = 1.0
    """How often the dispatcher looks for jobs to ring."""
    ring_first_s: Seconds = 30.0
    ring_last_s: Seconds = 600.0
    broker_connect_s: Seconds = 3.0
    broker_socket_s: Seconds = 5.0
    broker_health_s: Annotated[int, Field(ge=1, le=3600)] = 25

    upkeep_s: Seconds = 60.0
    """How often the api removes what is past its time."""
    body_max_bytes: Bytes = 2**20
    head_timeout_s: Seconds = 30.0
    """From the start of a connection, or the first byte of its next request, to the end of the request's head."""
    body_timeout_s: Seconds = 30.0
    json_max_depth: Annotated[int, Field(ge=1, le=128)] = 16
    upload_max_bytes: Bytes = 10 * 2**30
    upload_timeout_s: Seconds = 3600.0
    page_max: Annotated[int, Field(ge=1, le=1000)] = 100
    stream_poll_s: Seconds = 0.5
    stream_ping_s: Seconds = 15.0
    idempotency_keep_s: Seconds = 86_400.0
    queued_max: Count = 1000
    running_max: Count | None = None
    """Jobs of a tenant that run at once; None: as many as there are workers for."""
    gpu_hours_max: Annotated[float, Field(gt=0.0, le=1e9)] | None = None
    """Of a tenant's attempts within the last `gpu_hours_days`; None: no limit."""
    gpu_hours_days: Annotated[int, Field(ge=1, le=366)] = 30
    stored_max_bytes: Bytes = 2**44
    rate_per_minute: Count = 6000

    webhooks: Literal["off", "public", "any"] = "off"
    """Whether ends of jobs are told to webhooks: at public https addresses only, or at any, this machine's network too."""
    webhook_attempts: Annotated[int, Field(ge=1, le=100)] = 14
    webhook_first_s: Seconds = 10.0
    """From an attempt that failed to the next; doubles with each."""
    webhook_last_s: Seconds = 14_400.0
    webhook_timeout_s: Seconds = 10.0
    """For an endpoint to answer, from the first byte to the last that is read."""
    serving: Literal["on", "off"] = "on"
    """Whether a worker answers questions to finished models, beside its jobs."""
    serving_device: Literal["cpu", "gpu"] = "cpu"
    serving_threads: Annotated[int, Field(ge=1, le=1024)] = 2
    serving_models: Annotated[int, Field(ge=1, le=64)] = 2
    """So many models a worker keeps loaded, each in a process of its own."""
    serving_idle_s: Seconds = 300.0
    """A model that nobody has asked for so long is let go."""
    serving_max_bytes: Bytes = 8 * 2**30
    serving_poll_s: Annotated[float, Field(gt=0.0, le=5.0)] = 0.15
    """Between looks for a question, of workers that have a model loaded, and for more of its answer."""
    serving_timeout_s: Seconds = 120.0
    """From a question to the end of its answer."""
    serving_max_tokens: Annotated[int, Field(ge=1, le=8192)] = 1024
    serving_queue: Count = 64
    """Questions that may be open at once."""
    serving_queue_tenant: Count = 8
    openai_teacher: str | None = None
    """The teacher of jobs that come through the OpenAI-compatible door and name none; called as they would call it."""
    openai_defaults: dict[str, Any] = {}
    """Fields of a job, as JSON, for those that come through that door and do not name them."""
    devices: Annotated[int, Field(ge=1, le=1024)] | None = None
    """A worker takes jobs of at most so many GPUs a machine, or CPU processes where there is none; None: as many as it is shown."""
    code_execution: Literal["off", "bubblewrap"] = "off"
    """Whether engines may run programs that a model has written; in a sandbox of bubblewrap, or not at all."""
    judge_url: JudgeEndpoint | None = None
    """Base of an OpenAI-compatible endpoint, e.g. https://api.example.com/v1; None: jobs have no judge."""
    judge_model: str | None = None
    judge_api_key: SecretStr | None = None
    judge_prompt_price: Price | None = None
    """Per million tokens; with the other one, the evaluation tells what the judge cost."""
    judge_completion_price: Price | None = None
    judge_concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    gpu_hour_price: Price | None = None
    """What an hour of one GPU costs, so that plans and comparisons tell money; None: they tell time."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """In which that is counted."""
    engine_command: tuple[str, ...] = (sys.executable, "-m", "cpd_engine")
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("data_dir", "scratch_dir", "state_cache_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # Children of the supervisor run in other directories and must mean the same folder.
        return value.expanduser().absolute()

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _presigned(self) -> Settings:
        if self.downloads == "presigned" and self.store_url is None:
            raise ValueError(
                "CPD_DOWNLOADS=presigned wants a bucket in CPD_STORE_URL: a folder has no addresses to give"
            )
        return self

    @model_validator(mode="after")
    def _judge(self) -> Settings:
        if (self.judge_url is None) != (self.judge_model is None):
            raise ValueError("CPD_JUDGE_URL and CPD_JUDGE_MODEL are set together, or neither")
        return self

    @property
    def broker_dir(self) -> Path:
        """Where the messages of filesystem:// lie."""
        return self.data_dir / "broker"

    @property
    def store_dir(self) -> Path:
        """Where the local artifact store keeps its files."""
        return self.data_dir / "store"

    @property
    def key_file(self) -> Path:
        """Where `cpd serve` leaves the first key for the client on the same machine."""
        return self.data_dir / "key"
