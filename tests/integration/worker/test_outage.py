"""The database goes away under running workers. Behind a relay, so that the test itself can still look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from api.jobs.states import JobState
from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, assert_as_unbroken, engine_of, gone
from tests.integration.worker.severable import Relay

pytestmark = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


@pytest.fixture
def relay(backend: Backend) -> Iterator[Relay]:
    url = make_url(backend.settings.database_url)
    made = Relay(url.host or "127.0.0.1", url.port or 5432)
    yield made
    made.cut()


def behind(relay: Relay, fleet: Fleet) -> str:
    url = make_url(fleet.backend.settings.database_url).set(host="127.0.0.1", port=relay.port)
    return url.render_as_string(hide_password=False)


def noted(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def test_an_outage_longer_than_the_lease_loses_doubles_and_reaps_nothing(fleet: Fleet, relay: Relay) -> None:
    note = fleet.folder / "note"
    job_id = fleet.submit(steps="200", step_s="0.05", every="20", note=str(note))
    # Two: the idle one would take the job of the other if it did not hold when the database is back.
    for _ in range(2):
        fleet.start(database_url=behind(relay, fleet), lease_s="2")
    fleet.wait_step(job_id, 20)
    before = fleet.job(job_id)
    relay.cut()
    eventually(lambda: fleet.expired(job_id), within_s=30, what="the end of the lease")
    cut_at = fleet.step(job_id)
    at_expiry = noted(note)
    assert at_expiry > cut_at, "the engine went on while nothing could be recorded"
    relay.mend()
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert (job.fence, job.attempt, job.losses) == (before.fence, 1, 0)
    assert_as_unbroken(fleet, job_id, 200)
    lines = [event.eseq for event in fleet.events(job_id) if event.eseq is not None]
    assert lines == list(range(1, len(lines) + 1))


def test_an_outage_at_the_moment_of_completion_ends_in_one_success(fleet: Fleet, relay: Relay) -> None:
    gate, note = fleet.folder / "gate", fleet.folder / "note"
    job_id = fleet.submit(steps="20", gate_step="20", gate=str(gate), note=str(note))
    fleet.start(database_url=behind(relay, fleet))
    fleet.wait_step(job_id, 19)
    engine = engine_of(fleet.workers[0])
    relay.cut()
    gate.touch()
    eventually(lambda: gone(engine.pid), within_s=30, what="the engine's end")
    relay.mend()
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert job.attempt == 1
    assert_as_unbroken(fleet, job_id, 20)


def test_an_engine_without_a_database_for_too_long_is_given_up(fleet: Fleet, relay: Relay) -> None:
    job_id = fleet.submit(gate_step="3", gate=str(fleet.folder / "never"))
    fleet.start(database_url=behind(relay, fleet), outage_s="2")
    fleet.wait_step(job_id, 2)
    engine = engine_of(fleet.workers[0])
    relay.cut()
    eventually(lambda: gone(engine.pid), within_s=30, what="the engine's end")


def test_a_worker_told_to_go_without_a_database_does_not_wait_for_it(fleet: Fleet, relay: Relay) -> None:
    job_id = fleet.submit(gate_step="3", gate=str(fleet.folder / "never"))
    fleet.start(database_url=behind(relay, fleet), cancel_grace_s="2")
    fleet.wait_step(job_id, 2)
    relay.cut()
    fleet.workers[0].terminate()
    assert fleet.workers[0].wait(60) == 0
    assert fleet.job(job_id).state == JobState.RUNNING
