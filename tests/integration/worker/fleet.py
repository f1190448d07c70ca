"""Real worker processes on a test's own database and broker, with the stand-in as their engine."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from api.artifacts.tables import Artifact
from api.core.db import now, reading, transaction
from api.core.storage import Store
from api.core.stores import open_store
from api.datasets.tables import Dataset
from api.events.tables import JobEvent, JobMetric
from api.jobs import transitions
from api.jobs.states import TERMINAL, JobKind, JobState
from api.jobs.tables import Job, JobAttempt
from api.jobs.transitions import Claim
from tests.backends import TENANT, Backend
from tests.deadline import eventually
from worker.runner import Bench, run_job

STAND_IN = Path(__file__).with_name("stand_in.py")
SPEC: dict[str, object] = {
    "teacher": {"tiny": "gpt2"},
    "student": {"tiny": "gpt2"},
    "dataset": {"synthetic": {}},
}
# Short enough for tests, long enough that a busy machine does not lose a lease by itself.
TIMES = {
    "lease_s": "3",
    "heartbeat_s": "0.3",
    "reaper_s": "0.2",
    "cancel_grace_s": "10",
    "retry_delay_s": "0.1",
    "idle_claim_s": "0.2",
    "record_s": "0.05",
}


@dataclass(kw_only=True)
class Fleet:
    """Workers of one test; all are gone after `close`."""

    backend: Backend
    folder: Path
    engine: tuple[str, ...] = (sys.executable, str(STAND_IN))
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = open_store(self.backend.settings)
        # As a worker does at its start.
        self.store.check()

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        """A new worker process; its log is `worker-<n>.log`."""
        more = {**TIMES, "engine_command": json.dumps(self.engine), "scratch_dir": str(self.folder / "scratch")}
        environment = self.backend.environment(**(more | settings))
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def freeze(self, worker: subprocess.Popen[bytes], job_id: str) -> None:
        """SIGSTOP between two of its transactions.

        What sleeps within one keeps its locks: on PostgreSQL for a minute, on SQLite, whose one lock is everybody's, until it wakes.
        """
        process = psutil.Process(worker.pid)
        while True:
            worker.send_signal(signal.SIGSTOP)
            eventually(lambda: process.status() == psutil.STATUS_STOPPED, within_s=10, what="the stop")
            if self._unlocked(job_id):
                return
            worker.send_signal(signal.SIGCONT)

    def _unlocked(self, job_id: str) -> bool:
        try:
            if self.backend.name == "sqlite":
                with closing(sqlite3.connect(self.backend.engine.url.database or "", timeout=1.0)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    other.rollback()
            else:
                with transaction(self.backend.make) as session:
                    session.execute(select(Job.id).where(Job.id == job_id).with_for_update(nowait=True))
        except (sqlite3.OperationalError, OperationalError):
            return False
        return True

    def work_here(self, job_id: str, **settings: str) -> Job:
        """Attempts at one job in this very process, until it no longer waits: for what needs no signals. Quicker than a worker."""
        while self.job(job_id).state == JobState.QUEUED:
            if (claimed := self.claim_here(job_id)) is not None:
                self.attempt_here(claimed, **settings)
        return self.job(job_id)

    def claim_here(self, job_id: str) -> Claim | None:
        """This very process takes the job, if it may run now."""
        with transaction(self.backend.make) as session:
            return transitions.claim(session, job_id, worker_id="here", lease_s=60.0)

    def attempt_here(self, claimed: Claim, **settings: str) -> None:
        """One attempt in this very process."""
        values = {"engine_command": self.engine, "scratch_dir": self.folder / "scratch", **TIMES, **settings}
        bench = Bench(
            settings=self.backend.with_settings(**values).settings,
            make=self.backend.make,
            store=self.store,
            draining=threading.Event(),
            new_id=lambda: f"art_{uuid4().hex}",
        )
        run_job(bench, claimed)

    def close(self) -> None:
        """Kill every worker; their engines follow."""
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
        self.store.close()

    def submit(self, **metadata: str) -> str:
        """Queue a job whose metadata tell the stand-in what to do."""
        return self.submit_spec({**SPEC, "metadata": metadata})

    def submit_probe(self, **metadata: str) -> str:
        """Queue a probe."""
        return self.submit_spec({**SPEC, "metadata": metadata}, JobKind.PROBE)

    def submit_spec(self, spec: dict[str, object], kind: JobKind = JobKind.DISTILLATION) -> str:
        """Queue a job."""
        job_id = f"job_{uuid4().hex[:16]}"
        with transaction(self.backend.make) as session:
            transitions.submit(session, job_id=job_id, tenant_id=TENANT, spec=spec, resolved=spec, kind=kind)
        return job_id

    def dataset(self, content: bytes, *, suffix: str = "") -> str:
        """An uploaded data set: its row, and its bytes in the store."""
        dataset_id = f"ds_{uuid4().hex[:16]}"
        key, sha256 = f"datasets/{dataset_id}{suffix}", hashlib.sha256(content).hexdigest()
        with tempfile.NamedTemporaryFile() as source:
            source.write(content)
            source.flush()
            self.store.put(key, Path(source.name), sha256=sha256)
        row = Dataset(
            id=dataset_id,
            tenant_id=TENANT,
            name="train.jsonl",
            format="prompt",
            rows=content.count(b"\n"),
            bad_rows=0,
            size_bytes=len(content),
            sha256=sha256,
            storage_key=key,
            report={},
        )
        with transaction(self.backend.make) as session:
            session.add(row)
        return dataset_id

    def ask(self, what: Callable[..., None], job_id: str) -> None:
        """A person's request, such as transitions.request_pause."""
        with transaction(self.backend.make) as session:
            what(session, job_id, tenant_id=TENANT)

    def job(self, job_id: str) -> Job:
        with reading(self.backend.make) as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    def attempts(self, job_id: str) -> list[JobAttempt]:
        with reading(self.backend.make) as session:
            rows = select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.fence)
            return list(session.scalars(rows))

    def events(self, job_id: str) -> list[JobEvent]:
        """All of the job's events; the numbering is checked to be dense on the way."""
        with reading(self.backend.make) as session:
            events = list(session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    def artifacts(self, job_id: str) -> list[Artifact]:
        with reading(self.backend.make) as session:
            rows = select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.fence, Artifact.created_at)
            return list(session.scalars(rows))

    def series(self, job_id: str, name: str) -> dict[int, float]:
        with reading(self.backend.make) as session:
            rows = session.scalars(select(JobMetric).where(JobMetric.job_id == job_id, JobMetric.name == name))
            return {row.step: row.value for row in rows}

    def expired(self, job_id: str) -> bool:
        """True once the job's lease has run out by the database's clock."""
        with reading(self.backend.make) as session:
            return bool(session.scalar(select(Job.lease_until < now()).where(Job.id == job_id)))

    def step(self, job_id: str) -> int:
        """The last step recorded by the attempt at hand, 0 before its first."""
        return int(self.job(job_id).progress.get("step") or 0)

    def wait_state(self, job_id: str, state: JobState, *, within_s: float = 60.0) -> Job:
        """Until the job is in `state`; fails at once when it can no longer get there."""

        def there() -> Job | None:
            job = self.job(job_id)
            if job.state != state and job.state in TERMINAL:
                raise AssertionError(
                    f"the job is {job.state} ({job.failure_code}: {job.failure_message}): {self.logs()}"
                )
            return job if job.state == state else None

        job = eventually(there, within_s=within_s, what=f"{state} of {job_id}")
        assert job is not None
        return job

    def wait_step(self, job_id: str, step: int) -> None:
        """Until step `step` is recorded."""
        eventually(lambda: self.step(job_id) >= step, within_s=60, what=f"step {step}: {self.logs()}")

    def wait_sealed(self, job_id: str, name: str) -> None:
        """Until the artifact is in the store."""
        named = lambda: [row for row in self.artifacts(job_id) if row.name == name]  # noqa: E731 - a condition
        eventually(named, within_s=60, what=f"{name}: {self.logs()}")

    def exported(self, job_id: str) -> str:
        """The exported weights, as the stand-in writes them."""
        (row,) = [row for row in self.artifacts(job_id) if row.role == "export"]
        return b"".join(self.store.read(f"{row.storage_prefix}/model.safetensors")).decode()

    def logs(self) -> str:
        """What the workers logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))


def engine_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    """The engine that a worker runs now."""
    children = eventually(psutil.Process(worker.pid).children, within_s=30, what="the start of an engine")
    return children[0]


def gone(pid: int) -> bool:
    """True when the process is dead; a zombie that nobody reaps counts as dead."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def weights(steps: int) -> list[str]:
    """The stand-in's weights after each step of an unbroken run."""
    state, states = "start", []
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
        states.append(state)
    return states


def assert_as_unbroken(fleet: Fleet, job_id: str, steps: int) -> None:
    """Weights, every point of the loss and the end are those of a run that nothing broke."""
    states = weights(steps)
    assert fleet.exported(job_id) == states[-1]
    losses = {step: int(state[:8], 16) / 2**32 for step, state in enumerate(states, 1)}
    assert fleet.series(job_id, "student/loss") == losses
    events = fleet.events(job_id)
    terminal = [event for event in events if event.kind == "state_changed" and event.data["to"] in TERMINAL]
    assert [event.data["to"] for event in terminal] == ["succeeded"]
    assert terminal[0] is events[-1]
