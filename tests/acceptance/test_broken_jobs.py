"""Jobs that are broken off in the middle end in the weights of an unbroken run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from api.client import Client
from api.jobs.states import JobState
from api.remote.answers import Job
from api.terminal.specs import read_spec
from tests.acceptance.conftest import Service, gone
from tests.backends import Backend
from tests.deadline import eventually


def submitted(client: Client, recipe: Path) -> Job:
    spec = read_spec(recipe, {})
    ids = {split: client.upload_dataset(file).id for split, file in spec.files.items()}
    return client.submit(spec.with_datasets(ids))


def until_a_training_checkpoint(client: Client, job: Job, service: Service) -> None:
    """Return as soon as the student's training has sealed a state that is stored."""
    for event in client.follow(job.id):
        if event.kind == "checkpointed" and event.data["role"] == "training" and event.data["name"].startswith("step-"):
            return
    raise AssertionError(f"the job ended before its first checkpoint\n{service.tail()}")


def finished(client: Client, job: Job, service: Service) -> Job:
    events = list(client.follow(job.id))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.new_state for event in events].count(JobState.SUCCEEDED) == 1, service.tail()
    return client.job(job.id)


def weights(client: Client, job: Job) -> dict[str, str]:
    """sha256 of the student's weights and of every score, as exported."""
    files = {file.path: file.sha256 for file in client.checkpoint(job.id).files}
    return {name: files[name] for name in files if name.endswith(".safetensors")}


def test_killing_the_engine_and_the_worker_changes_no_weight(
    start: Callable[..., Service], backend: Backend, recipe: Path
) -> None:
    service = start(backend)
    with service.client() as client:
        unbroken = finished(client, submitted(client, recipe), service)
        assert unbroken.attempt == 1

        job = submitted(client, recipe)
        until_a_training_checkpoint(client, job, service)
        [engine] = service.processes("cpd_engine")
        os.kill(engine.pid, signal.SIGKILL)
        broken = finished(client, job, service)
        assert broken.attempt == 2
        assert weights(client, broken) == weights(client, unbroken)
        assert broken.scores == unbroken.scores

        job = submitted(client, recipe)
        until_a_training_checkpoint(client, job, service)
        [engine], [worker] = service.processes("cpd_engine"), service.processes("worker")
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda: not engine.is_running(), within_s=5, what="the end of the engine without its worker")
        broken = finished(client, job, service)
        assert broken.attempt == 2
        assert weights(client, broken) == weights(client, unbroken)
        assert broken.scores == unbroken.scores


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_service_that_is_stopped_gives_its_job_back_and_the_next_one_finishes_it(
    start: Callable[..., Service], backend: Backend, recipe: Path
) -> None:
    service = start(backend)
    with service.client() as client:
        unbroken = finished(client, submitted(client, recipe), service)
        job = submitted(client, recipe)
        until_a_training_checkpoint(client, job, service)
    below = psutil.Process(service.process.pid).children(recursive=True)
    assert service.stop() == 0
    assert psutil.wait_procs(below, 5)[1] == []

    service = start(backend)
    with service.client() as client:
        resumed = finished(client, job, service)
        assert weights(client, resumed) == weights(client, unbroken)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_service_that_is_killed_leaves_nothing_running(
    start: Callable[..., Service], backend: Backend, recipe: Path
) -> None:
    service = start(backend)
    with service.client() as client:
        until_a_training_checkpoint(client, submitted(client, recipe), service)
    below = psutil.Process(service.process.pid).children(recursive=True)
    assert {name for process in below for name in ("worker", "cpd_engine") if name in process.cmdline()} == {
        "worker",
        "cpd_engine",
    }
    service.process.kill()
    service.process.wait()
    gone(below)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_job_is_paused_resumed_and_cancelled_from_the_command_line(
    start: Callable[..., Service], backend: Backend, recipe: Path
) -> None:
    service = start(backend)
    with service.client() as client:
        job = submitted(client, recipe)
        until_a_training_checkpoint(client, job, service)
        assert service.cpd_json("pause", job.id)["requested"] == "pause"
        assert service.cpd("watch", job.id, "--exit-status").returncode == 5
        assert client.job(job.id).state == "paused"
        assert service.cpd_json("resume", job.id)["state"] == "queued"
        assert service.cpd("cancel", job.id).returncode == 0
        watched = service.cpd("watch", job.id, "--exit-status")
        assert (watched.returncode, client.job(job.id).state) == (5, "cancelled"), watched.stdout
        # What is over is over, and says so.
        assert service.cpd("resume", job.id).returncode == 6
