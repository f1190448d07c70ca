"""Attempts that break off: taken back, tried again, given up."""

from __future__ import annotations

from functools import partial

import pytest

from api.artifacts import queries as artifacts
from api.jobs import transitions
from api.jobs.lease import Hold, LeaseLost
from api.jobs.moves import Failure
from api.jobs.states import JobState
from tests.backends import TENANT, Backend
from tests.integration.store.steps import (
    claimed,
    dense,
    do,
    events,
    job,
    lapse,
    make_due,
    moves,
    outcomes,
    running,
    together,
)

CRASH = Failure(code="engine_crashed", message="The engine was killed by signal 9.")
CRASHES, LOSSES = 3, 5


def seal(backend: Backend, hold: Hold, name: str, *, role: str = "training") -> bool:
    sealed = artifacts.Sealed(
        id=f"art_{hold.fence}_{name}",
        name=name,
        role=role,
        path=f"train/{name}",
        storage_prefix=f"jobs/{hold.job_id}/{hold.fence}/{name}",
        files=[{"path": "manifest.json", "size_bytes": 3, "sha256": "0" * 64}],
        manifest_sha256="0" * 64,
        size_bytes=3,
        step=1,
        metrics={"loss": 1.5},
    )
    return do(backend, artifacts.add, hold, sealed)


def lose(backend: Backend, hold: Hold) -> JobState:
    lapse(backend, hold.job_id)
    (reaped,) = do(backend, transitions.reap, budget=LOSSES)
    assert reaped.hold == hold
    return reaped.state


def crash(backend: Backend, hold: Hold, delay_s: float = 30.0) -> JobState:
    return do(backend, transitions.crash, hold, CRASH, budget=CRASHES, delay_s=delay_s)


def test_a_lapsed_lease_is_reaped_and_a_good_one_is_not(backend: Backend) -> None:
    lost, kept = running(backend), running(backend)
    lapse(backend, lost.job_id)

    (reaped,) = do(backend, transitions.reap, budget=LOSSES)

    assert (reaped.hold, reaped.state) == (lost, JobState.QUEUED)
    assert job(backend, kept.job_id).state == "running"
    row = job(backend, lost.job_id)
    assert (row.state, row.losses, row.worker_id, row.lease_until) == ("queued", 1, None, None)
    assert moves(backend, lost.job_id)[-1] == ("running", "queued", "worker_lost")
    assert outcomes(backend, lost.job_id) == ["lost"]
    # At once: nothing is wrong with the job.
    assert claimed(backend, lost.job_id, "w2").fence == 2


def test_two_reapers_take_each_job_once(backend: Backend) -> None:
    holds = [running(backend) for _ in range(6)]
    for hold in holds:
        lapse(backend, hold.job_id)

    both = together(*(partial(do, backend, transitions.reap, budget=LOSSES) for _ in range(4)))

    reaped = [one.hold for some in both if isinstance(some, list) for one in some]
    assert sorted(hold.job_id for hold in reaped) == sorted(hold.job_id for hold in holds)
    assert all(job(backend, hold.job_id).losses == 1 for hold in holds)


def test_a_reaper_and_a_worker_at_its_last_moment_leave_one_outcome(backend: Backend) -> None:
    for _ in range(20):
        hold = running(backend)
        lapse(backend, hold.job_id)

        ended, _ = together(
            partial(do, backend, transitions.succeed, hold), partial(do, backend, transitions.reap, budget=LOSSES)
        )

        succeeded = ended is JobState.SUCCEEDED
        assert succeeded or isinstance(ended, LeaseLost)
        assert job(backend, hold.job_id).state == ("succeeded" if succeeded else "queued")
        assert dense(backend, hold.job_id)
        do(backend, transitions.claim, hold.job_id, worker_id="w2", lease_s=60.0)


def test_the_fifth_lost_worker_in_a_row_fails_the_job(backend: Backend) -> None:
    hold = running(backend)
    states = []
    for _ in range(LOSSES):
        states.append(lose(backend, hold))
        hold = claimed(backend, hold.job_id) if states[-1] is JobState.QUEUED else hold

    row = job(backend, hold.job_id)
    assert states == [JobState.QUEUED] * 4 + [JobState.FAILED]
    assert (row.state, row.failure_code) == ("failed", "worker_lost")
    assert outcomes(backend, hold.job_id) == ["lost"] * 5
    assert [to for _, to, _ in moves(backend, hold.job_id)].count("failed") == 1


def test_the_third_crash_in_a_row_fails_the_job(backend: Backend) -> None:
    hold = running(backend)
    states = []
    for _ in range(CRASHES):
        states.append(crash(backend, hold))
        if states[-1] is JobState.QUEUED:
            make_due(backend, hold.job_id)
            hold = claimed(backend, hold.job_id)

    row = job(backend, hold.job_id)
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert (row.failure_code, row.failure_message) == (CRASH.code, CRASH.message)
    last = events(backend, hold.job_id)[-1].data
    assert last["failure"] == {"code": CRASH.code, "message": CRASH.message}


def test_a_crash_is_retried_after_its_delay(backend: Backend) -> None:
    hold = running(backend)
    crash(backend, hold, delay_s=30.0)
    row, event = job(backend, hold.job_id), events(backend, hold.job_id)[-1]
    assert row.not_before is not None
    assert row.ring_at is not None
    # PostgreSQL reads its clock once for each column.
    assert abs((row.ring_at - row.not_before).total_seconds()) < 0.001
    assert abs((row.not_before - event.at).total_seconds() - 30.0) < 2.0
    assert event.data["retry_in_s"] == 30.0


def test_a_new_checkpoint_gives_both_budgets_back(backend: Backend) -> None:
    hold = running(backend)
    for number in range(7):
        assert seal(backend, hold, f"step-{number:06d}")
        row = job(backend, hold.job_id)
        assert (row.crashes, row.losses) == (0, 0)
        assert crash(backend, hold, delay_s=0.0) is JobState.QUEUED
        hold = claimed(backend, hold.job_id)
        assert lose(backend, hold) is JobState.QUEUED
        hold = claimed(backend, hold.job_id)
        row = job(backend, hold.job_id)
        assert (row.crashes, row.losses) == (1, 1)


def test_a_checkpoint_made_a_second_time_is_no_progress(backend: Backend) -> None:
    hold = running(backend)
    seal(backend, hold, "step-000001")
    states = []
    for _ in range(CRASHES):
        states.append(crash(backend, hold, delay_s=0.0))
        if states[-1] is JobState.QUEUED:
            hold = claimed(backend, hold.job_id)
            assert seal(backend, hold, "step-000001")
            assert not seal(backend, hold, "step-000001")
    assert states[-1] is JobState.FAILED


@pytest.mark.parametrize("how", ["lost", "crashed"])
def test_a_requested_pause_or_cancellation_comes_before_another_try(backend: Backend, how: str) -> None:
    end = lose if how == "lost" else crash
    paused, cancelled = running(backend), running(backend)
    do(backend, transitions.request_pause, paused.job_id, tenant_id=TENANT)
    do(backend, transitions.request_cancel, cancelled.job_id, tenant_id=TENANT)

    assert end(backend, paused) is JobState.PAUSED
    assert end(backend, cancelled) is JobState.CANCELLED

    assert outcomes(backend, paused.job_id) == outcomes(backend, cancelled.job_id) == [how]
    do(backend, transitions.resume, paused.job_id, tenant_id=TENANT)
    assert claimed(backend, paused.job_id).fence == 2


def test_a_replaced_checkpoint_expires_and_the_rest_can_be_restored(backend: Backend) -> None:
    hold = running(backend)
    seal(backend, hold, "prepared", role="phase")
    for name in ("step-000100", "sft-step-000100", "step-000200"):
        seal(backend, hold, name)
    do(backend, transitions.stop, hold)
    again = claimed(backend, hold.job_id)
    for name in ("step-000200", "step-000300"):
        seal(backend, again, name)

    gone = do(
        backend, artifacts.expire, again, name="step-000300", role="training", retained=["step-000200", "step-000300"]
    )
    gone += do(backend, artifacts.expire, again, name="step-000200", role="training", retained=["step-000200"])

    prefix = f"jobs/{hold.job_id}"
    assert sorted(gone) == [f"{prefix}/1/step-000100", f"{prefix}/1/step-000200", f"{prefix}/2/step-000300"]
    standing = [(row.fence, row.name) for row in do(backend, artifacts.restorable, hold.job_id)]
    assert standing == [(1, "prepared"), (1, "sft-step-000100"), (2, "step-000200")]
