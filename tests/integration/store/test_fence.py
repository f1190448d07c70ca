"""A worker that lost its job can write nothing more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from api.artifacts import queries as artifacts
from api.events.queries import Line, append_events
from api.jobs import lease, transitions
from api.jobs.lease import Hold, LeaseLost
from api.jobs.moves import Failure
from api.jobs.states import JobState, Requested
from tests.backends import TENANT, Backend
from tests.integration.store.steps import LEASE_S, claimed, dense, do, events, job, lapse, moves, running

FAILURE = Failure(code="diverged", message="loss is not finite")
SEALED = artifacts.Sealed(
    id="art_1",
    name="step-000001",
    role="training",
    path="train/step-000001",
    storage_prefix="jobs/j/1/step-000001",
    files=[],
    manifest_sha256="0" * 64,
    size_bytes=1,
)

Write = Callable[[Session, Hold], object]
WRITES: dict[str, Write] = {
    "heartbeat": lambda session, hold: transitions.heartbeat(session, hold, lease_s=LEASE_S),
    "requested": lease.requested,
    "succeed": transitions.succeed,
    "fail": lambda session, hold: transitions.fail(session, hold, FAILURE),
    "stop": transitions.stop,
    "crash": lambda session, hold: transitions.crash(session, hold, FAILURE, budget=3, delay_s=1.0),
    "append_events": lambda session, hold: append_events(session, hold, [Line(eseq=1, kind="warned", data={})]),
    "add": lambda session, hold: artifacts.add(session, hold, SEALED),
    "expire": lambda session, hold: artifacts.expire(session, hold, name="a", role="training", retained=()),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_zombie_is_refused_while_another_worker_runs_the_job(backend: Backend, write: str) -> None:
    zombie = running(backend)
    lapse(backend, zombie.job_id)
    do(backend, transitions.reap, budget=5)
    claimed(backend, zombie.job_id, "w2")
    before = (len(events(backend, zombie.job_id)), job(backend, zombie.job_id).heartbeat_at)

    with pytest.raises(LeaseLost):
        do(backend, WRITES[write], zombie)

    row = job(backend, zombie.job_id)
    assert (row.state, row.worker_id) == ("running", "w2")
    assert (len(events(backend, zombie.job_id)), row.heartbeat_at) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", [transitions.succeed, transitions.stop])
def test_an_attempt_that_ended_writes_nothing_more(
    backend: Backend, write: str, end: Callable[[Session, Hold], JobState]
) -> None:
    hold = running(backend)
    do(backend, end, hold)
    before = len(events(backend, hold.job_id))

    with pytest.raises(LeaseLost):
        do(backend, WRITES[write], hold)

    assert len(events(backend, hold.job_id)) == before


def test_a_lease_that_lapsed_unnoticed_is_good_again_after_a_heartbeat(backend: Backend) -> None:
    hold = running(backend)
    lapse(backend, hold.job_id)

    assert do(backend, transitions.heartbeat, hold, lease_s=LEASE_S) is Requested.NONE

    assert do(backend, transitions.reap, budget=5) == []
    assert do(backend, transitions.succeed, hold) is JobState.SUCCEEDED


def test_the_fence_only_rises(backend: Backend) -> None:
    hold = running(backend)
    fences = [hold.fence]
    for _ in range(3):
        do(backend, transitions.stop, hold)
        hold = claimed(backend, hold.job_id)
        fences.append(hold.fence)

    assert fences == [1, 2, 3, 4]
    assert job(backend, hold.job_id).attempt == 4
    assert dense(backend, hold.job_id)


def test_the_heartbeat_brings_what_a_person_asked_for(backend: Backend) -> None:
    hold = running(backend)
    do(backend, transitions.request_pause, hold.job_id, tenant_id=TENANT)
    assert do(backend, transitions.heartbeat, hold, lease_s=LEASE_S) is Requested.PAUSE

    do(backend, transitions.request_cancel, hold.job_id, tenant_id=TENANT)
    assert do(backend, transitions.heartbeat, hold, lease_s=LEASE_S) is Requested.CANCEL
    assert do(backend, lease.requested, hold) is Requested.CANCEL
    assert moves(backend, hold.job_id)[-1] == ("queued", "running", "claimed")
