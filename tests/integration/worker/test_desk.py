"""A worker's desk as a process of its own: what it leaves behind when it is killed, and when it is told to go."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import select

from api.completions import queries
from api.completions.tables import Completion
from api.core.db import now, reading, transaction
from cpd_engine.conversation import Ask
from tests.backends import TENANT, Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet

STUB = Path(__file__).parents[2] / "model_stub.py"


def asked(backend: Backend, prompt: str) -> str:
    """The id of a new question to the operator's model."""
    completion_id = f"cmpl_{uuid4().hex}"
    with transaction(backend.make) as session:
        session.add(
            Completion(
                id=completion_id,
                tenant_id=TENANT,
                source={"local": "plain", "template": "auto"},
                ask=asdict(Ask(prompt=prompt, max_tokens=20)),
                state="queued",
                expires_at=now(60.0),
            )
        )
    return completion_id


def row(backend: Backend, completion_id: str) -> Completion:
    with reading(backend.make) as session:
        return session.scalars(select(Completion).where(Completion.id == completion_id)).one()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_model_goes_with_its_worker_and_the_next_worker_answers(
    fleet: Fleet, backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "models" / "plain").mkdir(parents=True)
    (tmp_path / "models" / "plain" / "config.json").write_text("{}")
    fleet.engine = (sys.executable, str(STUB))
    settings = {"model_roots": str(tmp_path / "models"), "engine_command": json.dumps(fleet.engine)}
    worker = fleet.start(**settings)
    with reading(backend.make) as session:
        assert session.scalars(queries.servers(60.0)).one() in (0, 1)
    first = asked(backend, "forever")
    eventually(lambda: row(backend, first).text, within_s=60, what="the first words")
    (child,) = [one for one in psutil.Process(worker.pid).children() if str(STUB) in one.cmdline()]

    worker.send_signal(number)
    worker.wait(30)

    assert not psutil.wait_procs([child], timeout=10)[1]
    serving = tmp_path / "scratch" / "serving"
    if number == signal.SIGTERM:
        assert not list(serving.glob("*/*"))
    assert row(backend, first).state == "running"
    second = asked(backend, "say on")
    fleet.start(**settings)
    eventually(lambda: row(backend, second).state == "done", within_s=60, what="the second worker's answer")
    assert row(backend, second).text == "on"
    assert row(backend, first).state == "running"
