"""A job on several processes under a real worker: it succeeds, it drains, and nothing of it outlives its worker."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest

from api.jobs.states import JobState
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, engine_of, gone

SPEC: dict[str, Any] = {
    "teacher": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400},
    "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400, "seed": 1},
    "dataset": {"synthetic": {"rows": 360}},
    "epochs": 2,
    "threads": 1,
    "optimizer": {"batch_size": 4},
    "max_length": 128,
    "evaluation": {"validation_rows": 4, "test_rows": 4, "generation": {"max_new_tokens": 4}},
    "checkpoints": {"every_steps": 5, "keep": 100},
    "resources": {"gpus": 2},
}


def sealed_by(fleet: Fleet, job_id: str, fence: int) -> None:
    """Until the attempt with this fence has sealed a state."""

    def found() -> bool:
        return any(row.fence == fence and row.role == "training" for row in fleet.artifacts(job_id))

    eventually(found, within_s=120, what=f"a state of attempt {fence}: {fleet.logs()}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_workers_may_be_killed_or_drained_and_the_job_succeeds_on_all_its_ranks(backend: Backend, fleet: Fleet) -> None:
    fleet.engine = (sys.executable, "-m", "cpd_engine")
    job_id = fleet.submit_spec(SPEC)
    fleet.start(devices="2")

    sealed_by(fleet, job_id, 1)
    engine = engine_of(fleet.workers[0])
    ranks = engine.children()
    assert len(ranks) == 2
    fleet.workers[0].kill()
    for process in (engine, *ranks):
        eventually(partial(gone, process.pid), within_s=1.0, what="the end of engine and ranks")

    fleet.start(devices="2")
    sealed_by(fleet, job_id, 2)
    fleet.workers[1].terminate()
    fleet.workers[1].wait()
    assert fleet.job(job_id).state == JobState.QUEUED

    fleet.start(devices="2")
    fleet.wait_state(job_id, JobState.SUCCEEDED, within_s=240)
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["lost", "drained", "succeeded"]
    assert [e.data["processes"] for e in fleet.events(job_id) if e.kind == "run_started"] == [2, 2, 2]
    losses = fleet.series(job_id, "student/loss")
    assert list(losses) == list(range(1, len(losses) + 1))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_job_that_wants_more_than_a_worker_has_waits_for_another(backend: Backend, fleet: Fleet) -> None:
    large = fleet.submit_spec({"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}},
                               "resources": {"gpus": 2}})  # fmt: skip
    small = fleet.submit()
    fleet.start(devices="1")
    fleet.wait_state(small, JobState.SUCCEEDED)
    assert fleet.job(large).state == JobState.QUEUED
    fleet.start(devices="2")
    fleet.wait_state(large, JobState.SUCCEEDED)
