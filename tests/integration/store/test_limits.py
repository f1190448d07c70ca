"""How much of the workers a tenant gets: jobs at once, and GPU hours."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from api.core.db import transaction, utc_now
from api.jobs import transitions
from api.jobs.eligibility import Limits, hours_spent
from api.jobs.tables import Job, JobAttempt
from api.jobs.transitions import Claim
from api.keys.tables import Tenant
from tests.backends import TENANT, Backend
from tests.integration.store.steps import LEASE_S, do, submitted, together

OTHER = "ten_other"


def take(backend: Backend, limits: Limits, worker: str = "w1") -> Claim | None:
    return do(backend, transitions.claim_next, worker_id=worker, lease_s=LEASE_S, limits=limits)


def of_another(backend: Backend) -> str:
    """A queued job of another tenant."""
    job_id = submitted(backend)
    with transaction(backend.make) as session:
        session.merge(Tenant(id=OTHER, name="other"))
        session.flush()
        session.execute(update(Job).where(Job.id == job_id).values(tenant_id=OTHER))
    return job_id


def worked(backend: Backend, *, ago_h: float, for_h: float | None, gpus: int = 1) -> str:
    """A job of which an attempt began so long ago and took so long; None: it runs still."""
    job_id = submitted(backend, resources={"gpus": gpus})
    with transaction(backend.make) as session:
        clock = utc_now(session)
        began = clock - timedelta(hours=ago_h)
        ended = None if for_h is None else began + timedelta(hours=for_h)
        attempt = {"job_id": job_id, "fence": 1, "worker_id": "w1", "started_at": began, "ended_at": ended}
        session.execute(insert(JobAttempt).values(**attempt))
        state = "running" if ended is None else "succeeded"
        session.execute(update(Job).where(Job.id == job_id).values(state=state, fence=1))
    return job_id


def hours(backend: Backend, days: int = 30) -> dict[str, float]:
    with transaction(backend.make) as session:
        return {row[0]: row[1] for row in session.execute(hours_spent(days))}


def test_a_tenant_runs_no_more_jobs_at_once_than_it_may_and_others_pass_it(backend: Backend) -> None:
    mine = [submitted(backend) for _ in range(3)]
    theirs = of_another(backend)
    limits = Limits(running=2)

    taken = [take(backend, limits) for _ in range(4)]

    assert [claim and claim.hold.job_id for claim in taken] == [*mine[:2], theirs, None]
    assert do(backend, transitions.claim, mine[2], worker_id="w9", lease_s=LEASE_S, limits=limits) is None
    assert taken[0] is not None
    do(backend, transitions.succeed, taken[0].hold)
    after = take(backend, limits)
    assert after is not None
    assert after.hold.job_id == mine[2]


def test_workers_that_claim_at_once_do_not_overstep_the_limit_together(backend: Backend) -> None:
    for _ in range(12):
        submitted(backend)

    claims = together(*(lambda worker=f"w{number}": take(backend, Limits(running=3), worker) for number in range(12)))

    assert sum(isinstance(claim, Claim) for claim in claims) == 3
    assert claims.count(None) == 9


def test_hours_are_the_time_of_all_attempts_times_their_gpus(backend: Backend) -> None:
    worked(backend, ago_h=10.0, for_h=2.0, gpus=4)
    worked(backend, ago_h=1.5, for_h=None)
    of_another(backend)

    assert hours(backend) == pytest.approx({TENANT: 9.5}, abs=0.01)


def test_only_the_part_within_the_window_counts(backend: Backend) -> None:
    worked(backend, ago_h=30.0, for_h=10.0)
    worked(backend, ago_h=100.0, for_h=1.0)

    assert hours(backend, days=1) == pytest.approx({TENANT: 4.0}, abs=0.01)


def test_a_tenant_that_has_spent_its_hours_waits_until_they_are_out_of_the_window(backend: Backend) -> None:
    worked(backend, ago_h=26.0, for_h=5.0)
    mine, theirs = submitted(backend), of_another(backend)

    first = take(backend, Limits(gpu_hours=2.9, days=1))
    second = take(backend, Limits(gpu_hours=2.9, days=1))
    later = take(backend, Limits(gpu_hours=3.1, days=1))

    assert first is not None
    assert later is not None
    assert (first.hold.job_id, second, later.hold.job_id) == (theirs, None, mine)
