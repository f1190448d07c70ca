"""A whole service for acceptance tests: `cpd serve` as its own process, with its worker and engines, on either set of servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from api.client import Client
from api.remote.find import DEFAULT_DATA_DIR
from tests.backends import Backend, backend, broker_server, postgres_server, sqlite_template, worker_number
from tests.deadline import eventually

__all__ = ["backend", "broker_server", "postgres_server", "sqlite_template", "worker_number"]

CPD = Path(sys.executable).with_name("cpd")
# Short, so that a worker that is killed is missed within seconds; everything else as in production.
PACE = {"lease_s": "3", "heartbeat_s": "0.5", "reaper_s": "0.5", "retry_delay_s": "0.1", "cancel_grace_s": "20"}


@dataclass(kw_only=True)
class Service:
    """A running `cpd serve`, and how to speak to it."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    url: str
    log: Path

    def cpd(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command line against this service."""
        return subprocess.run(
            [CPD, *words], env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )

    def cpd_json(self, *words: str | Path) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self.cpd(*words, "--json")
        assert done.returncode == 0, done.stderr + self.tail()
        return json.loads(done.stdout)

    def client(self) -> Client:
        """The typed client."""
        return Client(self.url, self.environment["CPD_API_KEY"])

    def processes(self, module: str) -> list[psutil.Process]:
        """What runs below the service as `python -m <module>`."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if runs(process, module)]

    def stop(self) -> int:
        """SIGTERM, as an operator does; returns the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def tail(self) -> str:
        """The end of the service's log, for a test that fails."""
        return self.log.read_text(errors="replace")[-6000:]


def runs(process: psutil.Process, module: str) -> bool:
    """True where the process is `python -m <module>`."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "-m" in words and words[words.index("-m") + 1] == module


def gone(processes: list[psutil.Process]) -> None:
    """Returns when none of them runs any more."""
    eventually(lambda: not psutil.wait_procs(processes, 0)[1], within_s=30, what="the end of worker and engine")


@dataclass
class Starter:
    """Starts services and stops whatever a test leaves running."""

    folder: Path
    started: list[Service] = field(default_factory=list)

    def __call__(self, backend: Backend, *options: str | Path, **settings: str) -> Service:
        """`cpd serve` on a free port, ready."""
        environment = backend.environment(**(PACE | settings))
        log = self.folder / f"service-{len(self.started)}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [CPD, "serve", "--port", "0", "--watchdog", "--json", *options],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        ready = json.loads(line)
        key = Path(ready["key_file"]).read_text().strip()
        service = Service(
            process=process,
            environment=environment | {"CPD_URL": ready["url"], "CPD_API_KEY": key, "COLUMNS": "200"},
            url=ready["url"],
            log=log,
        )
        self.started.append(service)
        return service

    def stop_all(self) -> None:
        """End every service; their workers and engines go with them."""
        for service in self.started:
            below = (
                psutil.Process(service.process.pid).children(recursive=True) if service.process.poll() is None else []
            )
            service.process.kill()
            service.process.wait()
            for pipe in (service.process.stdin, service.process.stdout):
                if pipe is not None:
                    pipe.close()
            gone(below)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services: `start(backend)`."""
    starter = Starter(tmp_path)
    yield starter
    starter.stop_all()


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, validation and test.jsonl of the project's synthetic tasks."""
    folder = tmp_path_factory.mktemp("rows")
    command = [sys.executable, "-m", "cpd_engine", "synthesize", "--rows", "200", "--seed", "1", "--out", str(folder)]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "CPD_DATA_DIR": DEFAULT_DATA_DIR})
    return folder


@pytest.fixture
def recipe(tmp_path: Path, rows: Path) -> Path:
    """A job of seconds, as a recipe whose data lies in `rows`."""
    spec = {
        "name": "small",
        "teacher": {"tiny": "gpt2", "layers": 2, "hidden": 64, "heads": 2, "vocabulary": 512},
        "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 512},
        "dataset": {split: str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")},
        "epochs": 4,
        "max_length": 160,
        "seed": 7,
        "threads": 1,
        "optimizer": {"learning_rate": 3e-3, "batch_size": 8},
        "teacher_sft": {"epochs": 2, "optimizer": {"learning_rate": 3e-3, "batch_size": 8}},
        "evaluation": {
            "validation_rows": 8,
            "test_rows": 12,
            "baselines": ["sft"],
            "generation": {"max_new_tokens": 8, "batch_size": 12},
        },
        "checkpoints": {"every_steps": 10, "keep": 2},
    }
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(spec))
    return file
