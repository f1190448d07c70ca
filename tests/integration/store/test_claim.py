"""Who gets a job, and in which order."""

from __future__ import annotations

from api.core.db import utc_now
from api.jobs import transitions
from api.jobs.moves import Failure
from api.jobs.transitions import Claim
from tests.backends import TENANT, Backend
from tests.integration.store.steps import LEASE_S, claimed, do, job, make_due, moves, outcomes, submitted, together

CRASH = Failure(code="engine_crashed", message="signal 9")


def test_of_sixteen_workers_that_claim_at_once_exactly_one_gets_the_job(backend: Backend) -> None:
    job_id = submitted(backend)

    claims = together(
        *(
            lambda worker=f"w{number}": do(backend, transitions.claim, job_id, worker_id=worker, lease_s=LEASE_S)
            for number in range(16)
        )
    )

    winners = [claim for claim in claims if isinstance(claim, Claim)]
    assert len(winners) == 1
    assert claims.count(None) == 15
    row = job(backend, job_id)
    assert (row.state, row.fence, row.attempt) == ("running", 1, 1)
    assert moves(backend, job_id) == [(None, "queued", "submitted"), ("queued", "running", "claimed")]
    assert outcomes(backend, job_id) == [None]


def test_idle_workers_take_different_jobs_and_every_job(backend: Backend) -> None:
    jobs = {submitted(backend) for _ in range(12)}

    def claim_until_none_waits(worker: str) -> list[str]:
        taken = []
        while claim := do(backend, transitions.claim_next, worker_id=worker, lease_s=LEASE_S):
            taken.append(claim.hold.job_id)
        return taken

    taken = together(*(lambda worker=f"w{number}": claim_until_none_waits(worker) for number in range(4)))

    every = [job_id for some in taken if isinstance(some, list) for job_id in some]
    assert sorted(every) == sorted(jobs)


def test_the_job_submitted_first_is_claimed_first(backend: Backend) -> None:
    jobs = [submitted(backend) for _ in range(3)]
    created = [(job(backend, job_id).created_at, job_id) for job_id in jobs]

    claims = [do(backend, transitions.claim_next, worker_id="w1", lease_s=LEASE_S) for _ in range(4)]

    assert [claim and claim.hold.job_id for claim in claims] == [*(job_id for _, job_id in sorted(created)), None]


def test_a_job_held_back_is_not_claimed_before_its_time(backend: Backend) -> None:
    job_id = submitted(backend)
    hold = claimed(backend, job_id)
    do(backend, transitions.crash, hold, CRASH, budget=3, delay_s=300.0)

    assert do(backend, transitions.claim, job_id, worker_id="w1", lease_s=LEASE_S) is None
    assert do(backend, transitions.claim_next, worker_id="w1", lease_s=LEASE_S) is None

    make_due(backend, job_id)
    assert claimed(backend, job_id).fence == hold.fence + 1


def test_a_claim_carries_what_the_worker_needs(backend: Backend) -> None:
    job_id = submitted(backend, epochs=3)

    claim = do(backend, transitions.claim, job_id, worker_id="w7", lease_s=LEASE_S)

    assert claim is not None
    assert (claim.tenant_id, claim.attempt, claim.resolved) == (TENANT, 1, {"epochs": 3})
    assert job(backend, job_id).worker_id == "w7"


def test_the_lease_runs_by_the_clock_of_the_database(backend: Backend) -> None:
    hold = claimed(backend, submitted(backend))
    at_claim = job(backend, hold.job_id)
    assert at_claim.lease_until is not None
    assert at_claim.heartbeat_at is not None
    assert abs((at_claim.lease_until - at_claim.heartbeat_at).total_seconds() - LEASE_S) < 1.0

    do(backend, transitions.heartbeat, hold, lease_s=3600.0)

    row, clock = job(backend, hold.job_id), do(backend, utc_now)
    assert row.lease_until is not None
    assert abs((row.lease_until - clock).total_seconds() - 3600.0) < 5.0
    assert clock.utcoffset() is not None


def test_a_worker_takes_the_first_job_that_it_has_devices_for(backend: Backend) -> None:
    large = submitted(backend, resources={"gpus": 4, "nodes": 1})
    small = submitted(backend, resources={"gpus": 2, "nodes": 1})
    unsaid = submitted(backend)

    def take(devices: int | None) -> str | None:
        claim = do(backend, transitions.claim_next, worker_id="w1", lease_s=LEASE_S, devices=devices)
        return None if claim is None else claim.hold.job_id

    assert do(backend, transitions.claim, large, worker_id="w1", lease_s=LEASE_S, devices=3) is None
    assert take(1) == unsaid
    assert take(1) is None
    assert take(3) == small
    assert take(None) == large
