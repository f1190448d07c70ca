"""Jobs that a person or a deploy stops, with real worker processes."""

from __future__ import annotations

from pathlib import Path

from api.jobs import transitions
from api.jobs.states import TERMINAL, JobState
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, assert_as_unbroken, engine_of, gone


def held_at(fleet: Fleet, step: int, **metadata: str) -> tuple[str, Path]:
    """A job whose engine waits before `step` until the returned file is made."""
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="20", gate_step=str(step), gate=str(gate), **metadata)
    fleet.start()
    fleet.wait_step(job_id, step - 1)
    return job_id, gate


def test_a_running_job_is_cancelled_and_keeps_what_it_made(fleet: Fleet) -> None:
    job_id, _ = held_at(fleet, 13)
    engine = engine_of(fleet.workers[0])
    fleet.ask(transitions.request_cancel, job_id)
    fleet.ask(transitions.request_cancel, job_id)
    fleet.wait_state(job_id, JobState.CANCELLED)
    eventually(lambda: gone(engine.pid), within_s=5, what="the engine's end")
    terminal = [event for event in fleet.events(job_id) if event.data.get("to") in TERMINAL]
    assert len(terminal) == 1
    assert "step-000013" in [row.name for row in fleet.artifacts(job_id) if row.expired_at is None]
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["cancelled"]


def test_an_engine_that_does_not_listen_is_killed_after_the_grace(fleet: Fleet) -> None:
    gate = fleet.folder / "gate"
    job_id = fleet.submit(gate_step="7", gate=str(gate), deaf="yes")
    fleet.start(cancel_grace_s="1")
    fleet.wait_step(job_id, 6)
    engine = engine_of(fleet.workers[0])
    fleet.ask(transitions.request_cancel, job_id)
    fleet.wait_state(job_id, JobState.CANCELLED)
    assert gone(engine.pid)


def test_a_paused_job_has_a_checkpoint_and_goes_on_from_it(fleet: Fleet) -> None:
    job_id, gate = held_at(fleet, 13)
    fleet.ask(transitions.request_pause, job_id)
    fleet.wait_state(job_id, JobState.PAUSED)
    assert "step-000013" in [row.name for row in fleet.artifacts(job_id) if row.expired_at is None]
    gate.touch()
    fleet.ask(transitions.resume, job_id)
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert (job.attempt, job.crashes, job.losses) == (2, 0, 0)
    assert_as_unbroken(fleet, job_id, 20)
    resumed = [event for event in fleet.events(job_id) if event.fence == 2 and event.kind == "measured"]
    assert resumed[0].data["step"] == 14


def test_a_pause_taken_back_while_the_engine_stops_costs_nothing(fleet: Fleet) -> None:
    job_id, gate = held_at(fleet, 13)
    gate.touch()
    fleet.ask(transitions.request_pause, job_id)
    fleet.ask(transitions.resume, job_id)
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert job.crashes == 0
    assert_as_unbroken(fleet, job_id, 20)


def test_a_worker_told_to_go_gives_its_job_back_without_penalty(fleet: Fleet) -> None:
    job_id, gate = held_at(fleet, 13)
    fleet.workers[0].terminate()
    assert fleet.workers[0].wait(60) == 0
    job = fleet.job(job_id)
    assert (job.state, job.crashes, job.losses, job.not_before) == (JobState.QUEUED, 0, 0, None)
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["drained"]
    gate.touch()
    fleet.start()
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)


def test_a_damaged_checkpoint_is_passed_over_with_an_event(fleet: Fleet) -> None:
    job_id, gate = held_at(fleet, 13)
    fleet.ask(transitions.request_pause, job_id)
    fleet.wait_state(job_id, JobState.PAUSED)
    (newest,) = [row for row in fleet.artifacts(job_id) if row.name == "step-000013"]
    fleet.backend.damage(f"{newest.storage_prefix}/state.json", b"torn")
    gate.touch()
    fleet.ask(transitions.resume, job_id)
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
    (warned,) = [event for event in fleet.events(job_id) if event.kind == "warned"]
    assert warned.data["code"] == "checkpoint_corrupt"
    resumed = [event for event in fleet.events(job_id) if event.fence == 2 and event.kind == "measured"]
    assert resumed[0].data["step"] == 11


def test_a_job_whose_every_checkpoint_has_one_flipped_byte_in_each_file_starts_over(fleet: Fleet) -> None:
    job_id, gate = held_at(fleet, 13)
    fleet.ask(transitions.request_pause, job_id)
    fleet.wait_state(job_id, JobState.PAUSED)
    standing = [row for row in fleet.artifacts(job_id) if row.expired_at is None]
    for row in standing:
        for file in row.files:
            key = f"{row.storage_prefix}/{file['path']}"
            content = fleet.backend.stored(key)[key]
            fleet.backend.damage(key, bytes([content[0] ^ 1]) + content[1:])
    gate.touch()
    fleet.ask(transitions.resume, job_id)
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
    again = [event for event in fleet.events(job_id) if event.fence == 2]
    assert [event.data["code"] for event in again if event.kind == "warned"] == ["checkpoint_corrupt"] * len(standing)
    assert next(event.data["step"] for event in again if event.kind == "measured") == 1
