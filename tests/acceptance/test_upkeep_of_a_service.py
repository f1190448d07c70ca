"""What docs/operations.md tells an operator to do with a service that has work: back it up and restore it elsewhere, and upgrade it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from sqlalchemy import make_url, select

from api.core.db import connect, reading, sessions
from api.jobs.tables import JobAttempt
from migrations.apply import downgrade
from tests.acceptance.conftest import CPD, Service, gone
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import STAND_IN

ENGINE = json.dumps([sys.executable, str(STAND_IN)])
STEPS = 20


def unbroken_weights() -> str:
    """The stand-in's chain of hashes after all steps, without a break."""
    state = "start"
    for step in range(1, STEPS + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
    return state


def submit(service: Service, tmp_path: Path, **metadata: str) -> str:
    spec = tmp_path / f"{uuid4().hex}.json"
    models = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}
    spec.write_text(json.dumps({**models, "metadata": {"steps": str(STEPS), **metadata}}))
    return str(service.cpd_json("submit", spec)["id"])


def ends(service: Service, job: str) -> None:
    """Returns once it has succeeded."""
    with service.client() as client:
        eventually(lambda: client.job(job).state == "succeeded", within_s=60, what=f"the end of {job}")


def keeps(service: Service, job: str, checkpoint: str) -> None:
    """Returns once the checkpoint is in the store."""
    with service.client() as client:
        eventually(lambda: checkpoint in {one.name for one in client.checkpoints(job)}, within_s=30, what=checkpoint)


def weights(service: Service, job: str, folder: Path) -> str:
    downloaded = service.cpd("download", job, "--out", folder / job)
    assert downloaded.returncode == 0, downloaded.stderr
    return (folder / job / "model.safetensors").read_text()


def outcomes(backend: Backend, job: str) -> list[str | None]:
    """Of its attempts, in their order."""
    with reading(backend.make) as session:
        return list(
            session.scalars(select(JobAttempt.outcome).where(JobAttempt.job_id == job).order_by(JobAttempt.fence))
        )


def numbers(service: Service, job: str) -> list[int]:
    """Of its events."""
    with service.client() as client:
        return [event.seq for event in client.events(job)]


def backed_up(backend: Backend, into: Path) -> None:
    """Database first, then the store, both while the service works; and the key that clients of this machine use."""
    into.mkdir()
    url = make_url(backend.settings.database_url)
    if backend.name == "sqlite":
        with (
            closing(sqlite3.connect(str(url.database))) as live,
            closing(sqlite3.connect(into / "cpd.sqlite3")) as copy,
        ):
            live.backup(copy)
    else:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        dump = ["pg_dump", "--format=custom", f"--file={into / 'cpd.dump'}", plain]
        subprocess.run(dump, check=True, timeout=60)
    shutil.copytree(backend.settings.store_dir, into / "store", ignore=shutil.ignore_patterns(".*"))
    shutil.copy2(backend.settings.key_file, into / "key")


def restored(backend: Backend, backup: Path, into: Path) -> Backend:
    """The same on a database and in a folder that there were not before."""
    into.mkdir()
    shutil.copytree(backup / "store", into / "store")
    shutil.copy2(backup / "key", into / "key")
    if backend.name == "sqlite":
        shutil.copy2(backup / "cpd.sqlite3", into / "cpd.sqlite3")
        database_url = f"sqlite:///{into / 'cpd.sqlite3'}"
    else:
        fresh = f"restored_{uuid4().hex[:12]}"
        url = make_url(backend.settings.database_url).set(database=fresh)
        with psycopg.connect(_plain(backend.settings.database_url), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{fresh}"'.encode())
        restore = ["pg_restore", "--no-owner", f"--dbname={_plain(url.render_as_string(hide_password=False))}"]
        subprocess.run([*restore, str(backup / "cpd.dump")], check=True, timeout=60)
        database_url = url.render_as_string(hide_password=False)
    settings = backend.with_settings(data_dir=into, scratch_dir=into / "scratch", database_url=database_url).settings
    engine = connect(database_url)
    return replace(backend, settings=settings, engine=engine, make=sessions(engine))


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_a_backup_of_a_working_service_goes_on_somewhere_else(
    start: Callable[..., Service], backend: Backend, tmp_path: Path
) -> None:
    if backend.name == "postgres" and shutil.which("pg_dump") is None:
        pytest.skip("needs pg_dump, of Debian's postgresql-client")
    gate, note = tmp_path / "gate", tmp_path / "note"
    service = start(backend, engine_command=ENGINE)
    done = submit(service, tmp_path)
    ends(service, done)
    running = submit(service, tmp_path, gate=str(gate), gate_step="13", note=str(note))
    eventually(lambda: note.exists() and note.read_text() == "12", within_s=60, what="the job's twelfth step")
    keeps(service, running, "step-000010")

    backed_up(backend, tmp_path / "backup")
    if backend.name == "sqlite":
        # As if newer training states had been sealed, and these removed, between the database's copy and the store's.
        for state in (tmp_path / "backup" / "store" / "jobs" / running).glob("*/step-*"):
            shutil.rmtree(state)
    below = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    service.process.wait()
    gone(below)
    # Whatever is not in the backup is lost with the machine.
    shutil.rmtree(backend.settings.data_dir)
    gate.touch()
    elsewhere = restored(backend, tmp_path / "backup", tmp_path / "elsewhere")
    again = start(elsewhere, engine_command=ENGINE)

    ends(again, running)
    assert weights(again, done, tmp_path / "out") == unbroken_weights()
    assert weights(again, running, tmp_path / "out") == unbroken_weights()
    assert outcomes(elsewhere, running) == ["lost", "succeeded"]
    elsewhere.engine.dispose()
    assert numbers(again, running) == [*range(1, len(numbers(again, running)) + 1)]


def test_an_upgrade_hands_a_running_job_back_and_goes_on_with_it(
    start: Callable[..., Service], backend: Backend, tmp_path: Path
) -> None:
    gate, note = tmp_path / "gate", tmp_path / "note"
    service = start(backend, engine_command=ENGINE)
    running = submit(service, tmp_path, gate=str(gate), gate_step="13", note=str(note))
    eventually(lambda: note.exists() and note.read_text() == "12", within_s=60, what="the job's twelfth step")

    assert service.stop() == 0
    # An older version's schema, as the upgrade finds it.
    downgrade(backend.settings.database_url, "-1")
    doctor = subprocess.run([CPD, "doctor"], env=service.environment, capture_output=True, text=True, timeout=200)
    migrated = subprocess.run([CPD, "migrate"], env=service.environment, capture_output=True, text=True, timeout=60)
    gate.touch()
    again = start(backend, engine_command=ENGINE)

    ends(again, running)
    assert (doctor.returncode, migrated.returncode) == (4, 0)
    assert "cpd migrate" in doctor.stdout
    assert weights(again, running, tmp_path / "out") == unbroken_weights()
    assert outcomes(backend, running) == ["drained", "succeeded"]
    assert numbers(again, running) == [*range(1, len(numbers(again, running)) + 1)]
