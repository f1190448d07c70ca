"""Whole attempts whose commits are lost, before they took effect or after, at moments drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event

from api.jobs.states import JobState
from tests.integration.store.faults import Faults, Moment
from tests.integration.worker.fleet import Fleet, assert_as_unbroken

# Of a hundred commits.
LOST = 25


@contextmanager
def losing(fleet: Fleet, moment: Moment, seed: int) -> Iterator[Faults]:
    """Each commit is lost with the same chance until the block ends."""
    faults, chance, engine = Faults(), random.Random(seed), fleet.backend.engine

    def commit(connection: Connection) -> None:
        faults.next_commit = moment if chance.randrange(100) < LOST else None
        faults.commit(connection)

    event.listen(engine, "commit", commit)
    try:
        yield faults
    finally:
        event.remove(engine, "commit", commit)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_whose_commits_are_lost_ends_once_and_misses_nothing(fleet: Fleet, moment: Moment, seed: int) -> None:
    job_id = fleet.submit(steps="20", step_s="0.02", every="5")
    claim = fleet.claim_here(job_id)
    assert claim is not None
    with losing(fleet, moment, seed) as lost:
        fleet.attempt_here(claim)
    assert lost.met > 0
    assert fleet.job(job_id).state == JobState.SUCCEEDED
    assert_as_unbroken(fleet, job_id, 20)
    lines = [row.eseq for row in fleet.events(job_id) if row.eseq is not None]
    assert lines == list(range(1, len(lines) + 1)), f"seed {seed}"
    live = [row.name for row in fleet.artifacts(job_id) if row.expired_at is None]
    assert len(live) == len(set(live))
