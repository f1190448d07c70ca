"""A comparison's state follows from its jobs', and its table is queued once: with the end of its last member, in its transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from api.comparisons import service
from api.comparisons.states import comparison_state
from api.comparisons.tables import Comparison, ComparisonMember
from api.core.db import reading, transaction
from api.core.errors import ComparisonAlreadyFinished, TableNotDue
from api.jobs import transitions
from api.jobs.lease import Hold, LeaseLost
from api.jobs.moves import Failure
from api.jobs.states import JobKind, JobState
from api.jobs.tables import Job
from tests.backends import TENANT, Backend
from tests.integration.store.steps import claimed, dense, do, job, lapse, moves, submitted, together

SPEC = {"members": [{"label": "a"}, {"label": "b"}, {"label": "c"}]}
BUDGET = {"unit": "steps", "amount": 9, "epochs": None}
QUEUED, RUNNING, PAUSED = JobState.QUEUED, JobState.RUNNING, JobState.PAUSED
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
DIVERGED = Failure(code="diverged", message="The loss is not finite.")


def compared(backend: Backend, members: int) -> tuple[str, list[str]]:
    """A comparison of so many queued jobs."""
    comparison_id = f"cmp_{uuid4().hex}"
    jobs = [submitted(backend) for _ in range(members)]
    with transaction(backend.make) as session:
        values = {
            "id": comparison_id,
            "tenant_id": TENANT,
            "name": "a test",
            "spec": SPEC,
            "baseline": "a",
            "budget": BUDGET,
        }
        session.execute(insert(Comparison).values(**values))
        for place, job_id in enumerate(jobs):
            member = {
                "job_id": job_id,
                "comparison_id": comparison_id,
                "position": place,
                "label": "abc"[place],
                "seed": 0,
            }
            session.execute(insert(ComparisonMember).values(**member))
    return comparison_id, jobs


def row(backend: Backend, comparison_id: str) -> Comparison:
    with reading(backend.make) as session:
        return session.get_one(Comparison, comparison_id)


def tables(backend: Backend) -> list[str]:
    with reading(backend.make) as session:
        return list(session.scalars(select(Job.id).where(Job.kind == JobKind.TABLE)))


def test_the_end_of_the_last_member_queues_the_table(backend: Backend) -> None:
    comparison_id, jobs = compared(backend, 3)
    first, second, third = (claimed(backend, job_id) for job_id in jobs)
    do(backend, transitions.succeed, first)
    do(backend, transitions.fail, second, DIVERGED)
    assert tables(backend) == []
    do(backend, transitions.succeed, third)
    (table,) = tables(backend)
    assert row(backend, comparison_id).table_job_id == table
    found = job(backend, table)
    assert (found.kind, found.state, found.tenant_id) == ("table", "queued", TENANT)
    assert found.resolved == {"comparison": comparison_id}
    assert found.ring_at is not None
    # What was submitted while the members ran does not come first.
    assert found.created_at == row(backend, comparison_id).created_at
    assert moves(backend, table) == [(None, "queued", "submitted")]
    assert dense(backend, table)


def test_a_table_is_claimed_and_ends_like_any_job(backend: Backend) -> None:
    comparison_id, (only,) = compared(backend, 1)
    do(backend, transitions.succeed, claimed(backend, only))
    claim = do(backend, transitions.claim_next, worker_id="w2", lease_s=60.0, devices=1)
    assert claim is not None
    assert (claim.kind, claim.resolved) == (JobKind.TABLE, {"comparison": comparison_id})
    do(backend, transitions.crash, claim.hold, DIVERGED, budget=3, delay_s=0.0)
    again = claimed(backend, claim.hold.job_id)
    do(backend, transitions.succeed, again)
    assert tables(backend) == [claim.hold.job_id]


def test_a_member_that_is_tried_again_or_paused_is_waited_for(backend: Backend) -> None:
    _, (first, second) = compared(backend, 2)
    do(backend, transitions.succeed, claimed(backend, first))
    do(backend, transitions.request_pause, second, tenant_id=TENANT)
    assert tables(backend) == []
    do(backend, transitions.resume, second, tenant_id=TENANT)
    hold = claimed(backend, second)
    do(backend, transitions.crash, hold, DIVERGED, budget=2, delay_s=0.0)
    assert tables(backend) == []
    do(backend, transitions.crash, claimed(backend, second), DIVERGED, budget=2, delay_s=0.0)
    assert len(tables(backend)) == 1


def test_a_member_given_up_by_the_reaper_or_cancelled_while_queued_is_an_end_too(backend: Backend) -> None:
    for end in ("reaped", "cancelled"):
        _, (first, second) = compared(backend, 2)
        do(backend, transitions.succeed, claimed(backend, first))
        if end == "reaped":
            claimed(backend, second)
            lapse(backend, second)
            do(backend, transitions.reap, budget=1)
        else:
            do(backend, transitions.request_cancel, second, tenant_id=TENANT)
    assert len(tables(backend)) == 2


def test_without_a_student_there_is_no_table(backend: Backend) -> None:
    _, (first, second) = compared(backend, 2)
    do(backend, transitions.fail, claimed(backend, first), DIVERGED)
    do(backend, transitions.request_cancel, second, tenant_id=TENANT)
    assert tables(backend) == []


def test_a_stale_attempt_ends_nothing(backend: Backend) -> None:
    _, (only,) = compared(backend, 1)
    stale = claimed(backend, only)
    lapse(backend, only)
    do(backend, transitions.reap, budget=5)
    current = claimed(backend, only)
    with pytest.raises(LeaseLost):
        do(backend, transitions.succeed, stale)
    assert tables(backend) == []
    do(backend, transitions.succeed, current)
    with pytest.raises(LeaseLost):
        do(backend, transitions.succeed, current)
    assert len(tables(backend)) == 1


def test_of_members_that_end_at_once_one_queues_the_table(backend: Backend) -> None:
    for _ in range(10):
        comparison_id, jobs = compared(backend, 3)
        holds = [claimed(backend, job_id) for job_id in jobs]
        ends: list[Callable[[], JobState]] = [partial(end, backend, hold) for hold in holds]
        assert together(*ends) == [JobState.SUCCEEDED] * 3
        assert row(backend, comparison_id).table_job_id is not None
    assert len(tables(backend)) == 10


def test_a_table_that_ends_while_its_comparison_is_cancelled_was_first_or_is_cancelled(backend: Backend) -> None:
    for _ in range(10):
        comparison_id, (only,) = compared(backend, 1)
        do(backend, transitions.succeed, claimed(backend, only))
        table = row(backend, comparison_id).table_job_id
        assert table is not None
        hold = claimed(backend, table)
        ended, asked = together(partial(end, backend, hold), partial(cancelled, backend, comparison_id))
        assert (ended, str(asked)) in [
            (JobState.SUCCEEDED, str(ComparisonAlreadyFinished())),
            (JobState.CANCELLED, "None"),
        ]


def test_a_table_that_failed_is_queued_again_once_however_often_it_is_asked_for(backend: Backend) -> None:
    comparison_id, (only,) = compared(backend, 1)
    do(backend, transitions.succeed, claimed(backend, only))
    first = row(backend, comparison_id).table_job_id
    assert first is not None
    assert (retabled(backend, comparison_id), tables(backend)) == (RUNNING, [first])
    do(backend, transitions.fail, claimed(backend, first), DIVERGED)
    asks = [partial(retabled, backend, comparison_id) for _ in range(4)]
    assert together(*asks) == [RUNNING] * 4
    second = row(backend, comparison_id).table_job_id
    assert second is not None
    assert sorted(tables(backend)) == sorted([first, second])
    assert (job(backend, first).state, job(backend, second).state) == (FAILED, QUEUED)
    assert job(backend, second).resolved == {"comparison": comparison_id}
    assert job(backend, second).ring_at is not None
    do(backend, transitions.request_cancel, second, tenant_id=TENANT)
    assert retabled(backend, comparison_id) is RUNNING
    third = row(backend, comparison_id).table_job_id
    assert third not in (None, first, second)
    do(backend, transitions.succeed, claimed(backend, str(third)))
    assert (retabled(backend, comparison_id), len(tables(backend))) == (SUCCEEDED, 3)


def test_a_table_is_not_made_again_before_its_time_nor_where_there_is_nothing_to_compare(backend: Backend) -> None:
    comparison_id, (first, second) = compared(backend, 2)
    do(backend, transitions.fail, claimed(backend, first), DIVERGED)
    with pytest.raises(TableNotDue):
        retabled(backend, comparison_id)
    do(backend, transitions.fail, claimed(backend, second), DIVERGED)
    with pytest.raises(ComparisonAlreadyFinished, match="nothing to compare"):
        retabled(backend, comparison_id)
    comparison_id, (only,) = compared(backend, 1)
    do(backend, transitions.succeed, claimed(backend, only))
    cancelled(backend, comparison_id)
    with pytest.raises(ComparisonAlreadyFinished, match="cancelled"):
        retabled(backend, comparison_id)
    assert len(tables(backend)) == 1


def test_a_table_asked_for_again_while_its_comparison_is_cancelled_is_never_left_alive(backend: Backend) -> None:
    for _ in range(5):
        comparison_id, (only,) = compared(backend, 1)
        do(backend, transitions.succeed, claimed(backend, only))
        table = row(backend, comparison_id).table_job_id
        assert table is not None
        do(backend, transitions.request_cancel, table, tenant_id=TENANT)
        asked, _ = together(partial(retabled, backend, comparison_id), partial(cancelled, backend, comparison_id))
        assert asked is RUNNING or isinstance(asked, ComparisonAlreadyFinished)
        assert job(backend, str(row(backend, comparison_id).table_job_id)).state == CANCELLED


def retabled(backend: Backend, comparison_id: str) -> JobState:
    with transaction(backend.make) as session:
        return service.retable(session, TENANT, comparison_id).state


def cancelled(backend: Backend, comparison_id: str) -> None:
    with transaction(backend.make) as session:
        service.cancel(session, TENANT, comparison_id)


def end(backend: Backend, hold: Hold) -> JobState:
    return do(backend, transitions.succeed, hold)


@pytest.mark.parametrize(
    ("members", "table", "cancelled", "state"),
    [
        ([QUEUED, QUEUED], None, False, QUEUED),
        ([QUEUED, RUNNING], None, False, RUNNING),
        ([QUEUED, SUCCEEDED], None, False, RUNNING),
        ([PAUSED, SUCCEEDED], None, False, PAUSED),
        ([PAUSED, QUEUED], None, False, RUNNING),
        ([RUNNING, CANCELLED], None, True, RUNNING),
        ([SUCCEEDED, FAILED], QUEUED, False, RUNNING),
        ([SUCCEEDED, FAILED], PAUSED, False, PAUSED),
        ([SUCCEEDED, FAILED], SUCCEEDED, False, SUCCEEDED),
        ([SUCCEEDED, FAILED], FAILED, False, FAILED),
        ([SUCCEEDED, SUCCEEDED], CANCELLED, True, CANCELLED),
        ([SUCCEEDED, CANCELLED], None, True, CANCELLED),
        ([FAILED, CANCELLED], None, False, FAILED),
        ([CANCELLED, CANCELLED], None, False, CANCELLED),
    ],
)
def test_a_comparisons_state_follows_from_its_jobs(
    members: list[JobState], table: JobState | None, cancelled: bool, state: JobState
) -> None:
    assert comparison_state(members, table, cancelled=cancelled) is state
