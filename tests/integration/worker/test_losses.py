"""Workers that die, freeze or race, doorbells that are lost or rung a hundred times, a database that goes away."""

from __future__ import annotations

import signal

import psutil

from api.core.queue import celery_app, depth, ring
from api.jobs.bell import Backoff, Bell
from api.jobs.states import JobState
from tests.backends import STORES
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, assert_as_unbroken, engine_of, gone


@STORES
def test_a_killed_worker_takes_its_engine_along_and_another_goes_on(fleet: Fleet) -> None:
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="20", gate_step="13", gate=str(gate), deaf="yes")
    fleet.start()
    fleet.wait_sealed(job_id, "step-000010")
    engine = engine_of(fleet.workers[0])
    fleet.start()
    fleet.workers[0].kill()
    eventually(lambda: gone(engine.pid), within_s=1.0, what="the engine's end")
    eventually(lambda: fleet.job(job_id).fence == 2, within_s=30, what="the second claim")
    gate.touch()
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
    assert (job.attempt, [attempt.outcome for attempt in fleet.attempts(job_id)]) == (2, ["lost", "succeeded"])
    resumed = [event for event in fleet.events(job_id) if event.fence == 2 and event.kind == "measured"]
    assert resumed[0].data["step"] == 11


def test_a_job_that_loses_every_worker_fails(fleet: Fleet) -> None:
    job_id = fleet.submit(gate_step="1", gate=str(fleet.folder / "never"))
    fleet.start(loss_budget="1")
    engine_of(fleet.workers[0])
    fleet.start(loss_budget="1")
    fleet.workers[0].kill()
    assert fleet.wait_state(job_id, JobState.FAILED).failure_code == "worker_lost"


def test_a_worker_that_wakes_too_late_writes_nothing_more_and_kills_its_engine(fleet: Fleet) -> None:
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="250", step_s="0.03", every="25", gate_step="200", gate=str(gate))
    fleet.start()
    # Whichever: on a busy machine the engine has replaced one before its worker could store it.
    stored = lambda: [row for row in fleet.artifacts(job_id) if row.role == "training"]  # noqa: E731 - a condition
    eventually(stored, within_s=60, what="a stored state")
    engine = engine_of(fleet.workers[0])
    fleet.freeze(fleet.workers[0], job_id)
    fleet.start()
    eventually(lambda: fleet.job(job_id).fence == 2, within_s=30, what="the second claim")
    # The frozen worker's engine has gone on meanwhile; its lines are waiting in the pipe.
    assert not gone(engine.pid)
    fleet.workers[0].send_signal(signal.SIGCONT)
    eventually(lambda: gone(engine.pid), within_s=10, what="the stale engine's end")
    gate.touch()
    fleet.wait_state(job_id, JobState.SUCCEEDED, within_s=120)
    assert_as_unbroken(fleet, job_id, 250)
    events = fleet.events(job_id)
    claimed = next(event.seq for event in events if event.fence == 2 and event.data.get("to") == "running")
    assert {event.fence for event in events if event.seq >= claimed} == {2}
    last_of_first = max(row.created_at for row in fleet.artifacts(job_id) if row.fence == 1)
    assert last_of_first < next(event.at for event in events if event.seq == claimed)


def test_a_hundred_rings_and_two_workers_run_a_job_once(fleet: Fleet) -> None:
    app = celery_app(fleet.backend.settings)
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="20", gate_step="3", gate=str(gate))
    for _ in range(100):
        ring(app, job_id)

    def all_heard() -> bool:
        with app.connection_for_read() as connection:
            return depth(connection) == 0

    # They hear nothing but the bell; one is at the gate while the other hears the rest.
    for _ in range(2):
        fleet.start(idle_claim_s="3600")
    eventually(all_heard, within_s=60, what="the last ring")
    gate.touch()
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert fleet.job(job_id).attempt == 1
    assert_as_unbroken(fleet, job_id, 20)


def test_a_ring_for_a_job_that_does_not_exist_is_nothing(fleet: Fleet) -> None:
    app = celery_app(fleet.backend.settings)
    fleet.start(idle_claim_s="3600")
    eventually(lambda: "ready" in fleet.logs(), within_s=30, what="the worker's start")
    ring(app, "job_none")
    job_id = fleet.submit()
    ring(app, job_id)
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert fleet.workers[0].poll() is None


def test_a_job_whose_ring_was_lost_is_rung_for_again(fleet: Fleet) -> None:
    app = celery_app(fleet.backend.settings)
    fleet.start(idle_claim_s="3600")
    eventually(lambda: "ready" in fleet.logs(), within_s=30, what="the worker's start")
    job_id = fleet.submit()
    bell = Bell(fleet.backend.make, app, Backoff(first_s=0.2, last_s=0.5), tick_s=0.05)
    bell.start()
    try:
        fleet.wait_state(job_id, JobState.SUCCEEDED)
    finally:
        bell.stop()


def test_a_worker_finds_what_waits_without_any_bell(fleet: Fleet) -> None:
    jobs = [fleet.submit(steps="2") for _ in range(3)]
    fleet.start()
    for job_id in jobs:
        fleet.wait_state(job_id, JobState.SUCCEEDED)
    later = fleet.submit(steps="2")
    fleet.wait_state(later, JobState.SUCCEEDED)


def test_leftovers_of_a_killed_worker_are_swept(fleet: Fleet) -> None:
    leftover = fleet.folder / "scratch" / "job_gone" / "1"
    leftover.mkdir(parents=True)
    fleet.start()
    eventually(lambda: not leftover.parent.exists(), within_s=30, what="the sweep")


def test_two_workers_share_what_waits(fleet: Fleet) -> None:
    jobs = [fleet.submit(steps="4", step_s="0.1") for _ in range(4)]
    for _ in range(2):
        fleet.start()
    for job_id in jobs:
        fleet.wait_state(job_id, JobState.SUCCEEDED)
    workers = {attempt.worker_id for job_id in jobs for attempt in fleet.attempts(job_id)}
    assert len(workers) == 2
    assert all(len(fleet.attempts(job_id)) == 1 for job_id in jobs)
    assert all(psutil.Process(worker.pid).is_running() for worker in fleet.workers)
