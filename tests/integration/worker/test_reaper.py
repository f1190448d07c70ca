"""A reaper whose database is silent at the worst moment judges nobody by it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from api.jobs.states import JobState
from tests.backends import Backend
from tests.integration.store.steps import job, lapse, running
from worker.reaper import Identity, Reaper, patience, sweep

LEASE_S = 60.0


@dataclass
class Clock:
    """Time that a test moves."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reaper(backend: Backend, clock: Clock, tmp_path: Path) -> Reaper:
    """One that has lived for a while."""
    made = Reaper(
        backend.make,
        Identity(worker_id="w9", hostname="here", pid=1, version="0"),
        tick_s=10.0,
        patience=patience(lease_s=LEASE_S, hold_leases=1.5, clock=clock),
        loss_budget=5,
        scratch=tmp_path / "scratch",
        current=lambda: None,
        on_reaped=lambda: None,
    )
    clock.now_s += LEASE_S / 2
    return made


@contextmanager
def frozen_at(backend: Backend, words: str, clock: Clock, for_s: float) -> Iterator[None]:
    """The database answers a statement with these words only after `for_s`, in which nobody's heartbeat is answered either."""

    def freeze(_connection: object, _cursor: object, statement: str, *_rest: Any) -> None:
        if words in statement:
            clock.now_s += for_s

    event.listen(backend.engine, "before_cursor_execute", freeze)
    try:
        yield
    finally:
        event.remove(backend.engine, "before_cursor_execute", freeze)


def test_a_lease_that_ran_out_is_reaped(backend: Backend, reaper: Reaper) -> None:
    hold = running(backend)
    lapse(backend, hold.job_id)
    reaper.tick()
    assert job(backend, hold.job_id).state == JobState.QUEUED


def test_a_database_that_freezes_under_the_reaper_s_own_look_takes_no_job_from_its_worker(
    backend: Backend, reaper: Reaper, clock: Clock
) -> None:
    hold = running(backend)
    lapse(backend, hold.job_id)
    with frozen_at(backend, "jobs.lease_until <", clock, for_s=2 * LEASE_S):
        reaper.tick()
    assert job(backend, hold.job_id).state == JobState.RUNNING
    clock.now_s += 10.0
    reaper.tick()
    assert job(backend, hold.job_id).state == JobState.RUNNING


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_workers_of_one_machine_may_sweep_at_once(backend: Backend, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def leave_and_sweep(worker: int) -> None:
        for number in range(30):
            for kind in range(10):
                left = tmp_path / f"left-{worker}"
                (left / "1" / "out").mkdir(parents=True)
                left.rename(scratch / f"job_{worker}_{number}_{kind}")
            sweep(backend.make, scratch)

    with ThreadPoolExecutor(8) as workers:
        swept = [workers.submit(leave_and_sweep, worker) for worker in range(8)]

    assert [one.exception() for one in swept] == [None] * 8
