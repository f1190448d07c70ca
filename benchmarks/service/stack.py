"""The service under load: PostgreSQL and Redis, `cpd serve` and workers, each a process of its own, as in production."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import connect, sessions
from tests.backends import admin
from tests.servers import PostgresServer, postgresql, redis_server

ENGINE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("noop_engine.py")))
SPEC: dict[str, Any] = {
    "teacher": {"tiny": "gpt2"},
    "student": {"tiny": "gpt2"},
    "dataset": {"synthetic": {"rows": 1200}},
}
# One key stands for hundreds of clients here. All else is as it comes.
SETTINGS = {"queued_max": "100000", "rate_per_minute": "1000000", "log_level": "warning"}


@dataclass(kw_only=True)
class Stack:
    """What runs. Workers are there once `start_workers` has been called."""

    folder: Path
    environment: Mapping[str, str]
    database: PostgresServer
    api: psutil.Process
    url: str
    key: str
    engine: Engine
    make: sessionmaker[Session]
    client: httpx.Client
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_workers(self, count: int) -> None:
        """Processes `python -m worker`; each writes a log."""
        for _ in range(count):
            with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
                command = [sys.executable, "-m", "worker", "--watchdog"]
                worker = subprocess.Popen(
                    command, env=dict(self.environment), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
            self.workers.append(worker)

    def stop_workers(self) -> None:
        """SIGTERM, and wait: idle ones go at once."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.communicate()
        self.workers.clear()

    def submit(self, **metadata: str) -> str:
        """The id of a new queued job."""
        answer = self.client.post("/v1/jobs", json={**SPEC, "metadata": metadata}).raise_for_status()
        return str(answer.json()["id"])

    def databases_cpu_s(self) -> float:
        """CPU seconds of PostgreSQL so far, ended connections included."""
        assert self.database.guarded is not None
        return tree_cpu_s(self.database.guarded.pid)


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process, of what runs below it and of what has ended there."""
    spent = 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        try:
            spent += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return spent


@contextmanager
def stack(folder: Path, *, durable: bool, **settings: str) -> Iterator[Stack]:
    """Everything but the workers; all of it is gone at the end of the block. `durable`: commits reach the disk."""
    with ExitStack() as running:
        database = running.enter_context(postgresql(durable=durable, keeps_commits=True))
        broker = running.enter_context(redis_server())
        admin(database, "CREATE DATABASE cpd")
        told = {
            "data_dir": str(folder / "data"),
            "database_url": database.database("cpd"),
            "broker_url": broker.url,
            "engine_command": json.dumps(ENGINE),
            **SETTINGS,
            **settings,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CPD_")}
        environment = kept | {f"CPD_{name.upper()}": value for name, value in told.items()}
        service, ready = running.enter_context(_serving(environment, folder / "api.log"))
        key = Path(ready["key_file"]).read_text(encoding="utf-8").strip()
        engine = connect(database.database("cpd"))
        running.callback(engine.dispose)
        headers = {"authorization": f"Bearer {key}"}
        client = running.enter_context(httpx.Client(base_url=ready["url"], headers=headers, timeout=30.0))
        made = Stack(
            folder=folder,
            environment=environment,
            database=database,
            api=psutil.Process(service.pid),
            url=ready["url"],
            key=key,
            engine=engine,
            make=sessions(engine),
            client=client,
        )
        running.callback(made.stop_workers)
        yield made


@contextmanager
def _serving(environment: Mapping[str, str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    command = [
        str(Path(sys.executable).with_name("cpd")),
        "serve",
        "--port",
        "0",
        "--no-worker",
        "--watchdog",
        "--json",
    ]
    with log.open("wb") as written:
        service = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written
        )
    assert service.stdout is not None
    try:
        yield service, json.loads(service.stdout.readline())
    finally:
        service.terminate()
        service.communicate()
