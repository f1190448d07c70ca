"""How a job ends: whoever commits first wins, and an end is final."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from api.core.errors import JobAlreadyFinished, JobBeingCancelled, NotFound
from api.jobs import transitions
from api.jobs.moves import Failure
from api.jobs.states import TERMINAL, JobState, Outcome
from api.jobs.tables import Job
from tests.backends import TENANT, Backend
from tests.integration.store.steps import claimed, dense, do, job, moves, outcomes, running, submitted, together

FAILURE = Failure(code="diverged", message="loss is not finite at step 7\0")
# On either database, so 200 in all.
INTERLEAVINGS = 100


def test_success_and_cancellation_at_the_same_moment_have_exactly_one_outcome(backend: Backend) -> None:
    seen = set()
    for _ in range(INTERLEAVINGS):
        hold = running(backend)

        ended, asked = together(
            partial(do, backend, transitions.succeed, hold),
            partial(do, backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT),
        )

        state = JobState(job(backend, hold.job_id).state)
        refused = isinstance(asked, JobAlreadyFinished)
        assert (state, ended, refused) in {
            (JobState.SUCCEEDED, JobState.SUCCEEDED, True),
            (JobState.CANCELLED, JobState.CANCELLED, False),
        }
        finals = [to for _, to, _ in moves(backend, hold.job_id) if to in TERMINAL]
        assert finals == [state]
        assert dense(backend, hold.job_id)
        seen.add(state)
    # Which of the two is seen is the scheduler's; that each can happen is shown by the two tests below.
    assert seen <= {JobState.SUCCEEDED, JobState.CANCELLED}


def test_a_success_committed_first_refuses_the_cancellation(backend: Backend) -> None:
    hold = running(backend)
    assert do(backend, transitions.succeed, hold) is JobState.SUCCEEDED

    with pytest.raises(JobAlreadyFinished):
        do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)

    assert job(backend, hold.job_id).state == "succeeded"
    assert outcomes(backend, hold.job_id) == ["succeeded"]


@pytest.mark.parametrize("end", ["succeed", "fail", "stop", "crash"])
def test_a_cancellation_committed_first_ends_the_job_cancelled(backend: Backend, end: str) -> None:
    hold = running(backend)
    do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)
    assert job(backend, hold.job_id).requested == "cancel"

    match end:
        case "succeed":
            state = do(backend, transitions.succeed, hold)
        case "fail":
            state = do(backend, transitions.fail, hold, FAILURE)
        case "stop":
            state = do(backend, transitions.stop, hold)
        case _:
            state = do(backend, transitions.crash, hold, FAILURE, budget=1, delay_s=1.0)

    row = job(backend, hold.job_id)
    assert state is JobState.CANCELLED
    assert (row.state, row.requested, row.failure_code, row.worker_id) == ("cancelled", "none", None, None)
    assert row.finished_at is not None
    assert moves(backend, hold.job_id)[-1] == ("running", "cancelled", "cancel_requested")


def test_a_failure_is_told_with_its_code_and_message(backend: Backend) -> None:
    hold = running(backend)

    assert do(backend, transitions.fail, hold, FAILURE) is JobState.FAILED

    row = job(backend, hold.job_id)
    assert (row.state, row.failure_code) == ("failed", "diverged")
    # PostgreSQL keeps no NUL in text.
    assert row.failure_message == "loss is not finite at step 7�"
    assert moves(backend, hold.job_id)[-1] == ("running", "failed", "diverged")
    assert outcomes(backend, hold.job_id) == [Outcome.FAILED]


def test_cancelling_is_immediate_where_nothing_runs_and_idempotent(backend: Backend) -> None:
    queued, paused = submitted(backend), submitted(backend)
    do(backend, transitions.request_pause, paused, tenant_id=TENANT)

    for job_id, before in ((queued, "queued"), (paused, "paused")):
        for _ in range(2):
            do(backend, transitions.request_cancel, job_id, tenant_id=TENANT)
        assert job(backend, job_id).state == "cancelled"
        assert moves(backend, job_id)[-1] == (before, "cancelled", "cancel_requested")
        assert dense(backend, job_id)
        assert do(backend, transitions.claim, job_id, worker_id="w1", lease_s=1.0) is None


def test_cancelling_a_running_job_twice_asks_once(backend: Backend) -> None:
    hold = running(backend)
    for _ in range(2):
        do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)
    assert do(backend, transitions.stop, hold) is JobState.CANCELLED
    do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)
    assert [to for _, to, _ in moves(backend, hold.job_id)] == ["queued", "running", "cancelled"]


def test_a_paused_job_waits_until_it_is_resumed(backend: Backend) -> None:
    hold = running(backend)
    do(backend, transitions.request_pause, hold.job_id, tenant_id=TENANT)
    assert do(backend, transitions.stop, hold) is JobState.PAUSED
    assert do(backend, transitions.claim_next, worker_id="w1", lease_s=1.0) is None

    for _ in range(2):
        do(backend, transitions.resume, hold.job_id, tenant_id=TENANT)

    row = job(backend, hold.job_id)
    assert (row.state, row.requested, row.crashes) == ("queued", "none", 0)
    assert row.ring_at is not None
    assert claimed(backend, hold.job_id).fence == 2
    assert [to for _, to, _ in moves(backend, hold.job_id)] == ["queued", "running", "paused", "queued", "running"]
    assert outcomes(backend, hold.job_id) == ["paused", None]


def test_resuming_takes_back_a_pause_that_has_not_happened_yet(backend: Backend) -> None:
    hold = running(backend)
    do(backend, transitions.request_pause, hold.job_id, tenant_id=TENANT)
    do(backend, transitions.resume, hold.job_id, tenant_id=TENANT)
    assert job(backend, hold.job_id).requested == "none"
    # The engine had been told to stop already: the attempt ends like a drain, and the job runs on elsewhere.
    assert do(backend, transitions.stop, hold) is JobState.QUEUED


def test_a_run_that_finishes_before_its_pause_has_succeeded(backend: Backend) -> None:
    hold = running(backend)
    do(backend, transitions.request_pause, hold.job_id, tenant_id=TENANT)
    assert do(backend, transitions.succeed, hold) is JobState.SUCCEEDED


def test_a_job_that_is_being_cancelled_is_neither_paused_nor_resumed(backend: Backend) -> None:
    hold = running(backend)
    do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)
    for ask in (transitions.request_pause, transitions.resume):
        with pytest.raises(JobBeingCancelled):
            do(backend, ask, hold.job_id, tenant_id=TENANT)
    assert job(backend, hold.job_id).requested == "cancel"


def test_a_drained_job_is_queued_again_at_once_and_without_penalty(backend: Backend) -> None:
    hold = running(backend)
    for fence in range(2, 9):
        assert do(backend, transitions.stop, hold) is JobState.QUEUED
        hold = claimed(backend, hold.job_id)
        assert hold.fence == fence
    row = job(backend, hold.job_id)
    assert (row.crashes, row.losses) == (0, 0)
    assert outcomes(backend, hold.job_id)[:-1] == ["drained"] * 7


@pytest.mark.parametrize("ask", [transitions.request_cancel, transitions.request_pause, transitions.resume])
def test_another_tenants_job_is_a_missing_one(backend: Backend, ask: object) -> None:
    assert callable(ask)
    job_id = submitted(backend)
    for missing, tenant in ((job_id, "ten_other"), ("job_none", TENANT)):
        with pytest.raises(NotFound):
            do(backend, ask, missing, tenant_id=tenant)
    assert job(backend, job_id).state == "queued"


@pytest.mark.parametrize("final", sorted(TERMINAL))
@pytest.mark.parametrize("after", sorted(JobState))
def test_the_database_itself_refuses_to_change_a_final_state(
    backend: Backend, final: JobState, after: JobState
) -> None:
    job_id = submitted(backend)
    change = update(Job).where(Job.id == job_id)
    do(backend, lambda session: session.execute(change.values(state=final)))

    def attempt() -> None:
        do(backend, lambda session: session.execute(change.values(state=after)))

    if after is final:
        attempt()
    else:
        with pytest.raises(DBAPIError):
            attempt()
    assert job(backend, job_id).state == final
