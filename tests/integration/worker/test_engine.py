"""The real engine under a real worker: what is broken off and resumed ends with the very weights of an unbroken run."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from api.jobs.states import JobState
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, engine_of, gone

SPEC: dict[str, Any] = {
    "teacher": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400},
    "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400, "seed": 1},
    # Long enough to be killed twice on the way, and every state kept, so that none is gone before the worker has stored it.
    "dataset": {"synthetic": {"rows": 1200}},
    "epochs": 2,
    "threads": 1,
    "optimizer": {"batch_size": 4},
    "max_length": 128,
    "evaluation": {"validation_rows": 4, "test_rows": 4, "generation": {"max_new_tokens": 4}},
    "checkpoints": {"every_steps": 10, "keep": 100},
}


def trained_weights(fleet: Fleet, job_id: str) -> str:
    (row,) = [row for row in fleet.artifacts(job_id) if row.role == "export"]
    (sha256,) = [file["sha256"] for file in row.files if file["path"] == "model.safetensors"]
    return str(sha256)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_engine_and_the_worker_may_be_killed_and_nothing_shows(backend: Backend, fleet: Fleet) -> None:
    fleet.engine = (sys.executable, "-m", "cpd_engine")
    unbroken, broken = fleet.submit_spec(SPEC), fleet.submit_spec(SPEC)
    fleet.start()
    fleet.wait_state(unbroken, JobState.SUCCEEDED, within_s=240)
    sealed = [row.name for row in fleet.artifacts(unbroken) if row.role == "training"]
    assert len(sealed) > 2

    fleet.wait_sealed(broken, sealed[0])
    engine = engine_of(fleet.workers[0])
    engine.kill()
    eventually(lambda: fleet.job(broken).fence == 2, within_s=60, what="the second claim")
    fleet.wait_sealed(broken, sealed[1])
    second = engine_of(fleet.workers[0])
    fleet.workers[0].kill()
    eventually(lambda: gone(second.pid), within_s=1.0, what="the engine's end")
    fleet.start()
    job = fleet.wait_state(broken, JobState.SUCCEEDED, within_s=240)

    assert [attempt.outcome for attempt in fleet.attempts(broken)] == ["crashed", "lost", "succeeded"]
    assert (job.crashes, job.losses) == (0, 0)
    assert trained_weights(fleet, broken) == trained_weights(fleet, unbroken)
    assert fleet.series(broken, "student/loss") == fleet.series(unbroken, "student/loss")
