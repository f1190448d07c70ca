"""What chaos happens to: servers of its own, workers that are replaced when they die, and jobs of the real engine."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
from sqlalchemy import select

from api.core.db import reading
from api.core.settings import Settings
from api.jobs.states import TERMINAL, JobState
from api.jobs.tables import Job
from migrations.apply import upgrade
from tests.backends import Backend, admin, connected
from tests.integration.worker.fleet import SPEC as STAND_IN_SPEC
from tests.integration.worker.fleet import STAND_IN, Fleet
from tests.servers import Guarded, postgresql, redis_server

Kind = Literal["sqlite", "postgres"]
EngineName = Literal["real", "stand-in"]
Picked = TypeVar("Picked")
WORKERS = 2
# Budgets that chaos cannot spend: a job that fails has met something else than what is done to it.
SETTINGS = {"crash_budget": "100", "loss_budget": "100", "retry_delay_max_s": "1", "broker_socket_s": "2"}
ENGINES: dict[EngineName, tuple[tuple[str, ...], dict[str, Any]]] = {
    "real": (
        (sys.executable, "-m", "cpd_engine"),
        {
            "teacher": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400},
            "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400, "seed": 1},
            "dataset": {"synthetic": {"rows": 600}},
            "epochs": 2,
            "threads": 1,
            "optimizer": {"batch_size": 4},
            "max_length": 128,
            "evaluation": {"validation_rows": 4, "test_rows": 4, "generation": {"max_new_tokens": 4}},
            "checkpoints": {"every_steps": 10, "keep": 2},
        },
    ),
    # Starts in a tenth of the time: the same faults fall on the service ten times as often.
    "stand-in": (
        (sys.executable, str(STAND_IN)),
        {**STAND_IN_SPEC, "metadata": {"steps": "60", "every": "5", "step_s": "0.05"}},
    ),
}


@dataclass(kw_only=True)
class World:
    """`database` and `broker` are None where both are files. `meant` are processes of workers that were told or made to end, `away`
    says which servers are; a world whose database is away is not asked for anything, for a frozen one would hold us too.
    """

    backend: Backend
    fleet: Fleet
    spec: dict[str, Any]
    database: Guarded | None
    broker: Guarded | None
    meant: set[int] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    jobs: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)

    def submit(self) -> str:
        """One more job like all others."""
        job_id = self.fleet.submit_spec(self.spec)
        self.jobs.append(job_id)
        return job_id

    def keep_workers(self) -> None:
        """Replace workers that are gone; one that went by itself is a trouble."""
        for worker in self.fleet.workers:
            if worker.poll() is not None and worker.pid not in self.meant:
                self.meant.add(worker.pid)
                self.troubles.append(f"worker {worker.pid} ended by itself with {worker.returncode}")
        for _ in range(WORKERS - len(self.alive())):
            self.fleet.start(**SETTINGS)

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Workers that run or stand still, and were not told to go."""
        return [worker for worker in self.fleet.workers if worker.poll() is None and worker.pid not in self.meant]

    def engines(self) -> list[psutil.Process]:
        """The processes that workers started and that are no zombies."""
        found = []
        for worker in self.fleet.workers:
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(worker.pid).children() if worker.poll() is None else []
                found += [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return found

    def signal(self, pid: int, number: signal.Signals) -> None:
        """To one process, if it is still there."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(number)

    def rows(self) -> list[Job]:
        """The jobs as they are. Raises SQLAlchemyError."""
        with reading(self.backend.make) as session:
            return list(session.scalars(select(Job).where(Job.id.in_(self.jobs)).order_by(Job.id)))

    def unfinished(self) -> list[Job]:
        """Jobs that have not ended. Raises SQLAlchemyError."""
        return [row for row in self.rows() if JobState(row.state) not in TERMINAL]

    def orphans(self) -> list[str]:
        """Command lines of processes that work in this world's folder, its own servers apart."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if str(self.fleet.folder / "scratch") in words and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid}: {words}")
        return found


@contextmanager
def world(kind: Kind, engine: EngineName, folder: Path) -> Iterator[World]:
    """Servers, a migrated database and no worker yet; everything is gone at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "sqlite":
        settings = Settings(data_dir=folder / "data", pool_size=20)
        settings.data_dir.mkdir()
        with _populated(kind, engine, settings, folder, None, None) as made:
            yield made
        return
    with postgresql(keeps_commits=True) as database, redis_server() as broker:
        admin(database, "CREATE DATABASE chaos")
        settings = Settings(
            data_dir=folder / "data", database_url=database.database("chaos"), broker_url=broker.url, pool_size=20
        )
        with _populated(kind, engine, settings, folder, database.guarded, broker.guarded) as made:
            yield made


@contextmanager
def _populated(
    kind: Kind,
    engine: EngineName,
    settings: Settings,
    folder: Path,
    database: Guarded | None,
    broker: Guarded | None,
) -> Iterator[World]:
    upgrade(settings.database_url)
    with connected(kind, settings) as backend:
        command, spec = ENGINES[engine]
        fleet = Fleet(backend=backend, folder=folder, engine=command)
        try:
            yield World(backend=backend, fleet=fleet, spec=spec, database=database, broker=broker)
        finally:
            fleet.close()


def pick(chance: random.Random, among: Sequence[Picked]) -> Picked | None:
    """One of them; None where there is none."""
    return among[chance.randrange(len(among))] if among else None
