"""The numbered record of a job, and its metric series."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DataError, DBAPIError

from api.core.db import reading, transaction
from api.events.queries import Line, Point, append_events
from api.events.tables import JobEvent, JobMetric
from api.jobs import transitions
from api.jobs.lease import Hold, LeaseLost
from api.jobs.states import JobState
from tests.backends import TENANT, Backend
from tests.integration.store.steps import LEASE_S, claimed, dense, do, events, job, running, submitted, together


def lines(first: int, count: int) -> list[Line]:
    return [Line(eseq=eseq, kind="warned", data={"n": eseq}) for eseq in range(first, first + count)]


def points(backend: Backend, job_id: str) -> list[tuple[str, int, float]]:
    with reading(backend.make) as session:
        series = select(JobMetric.name, JobMetric.step, JobMetric.value).where(JobMetric.job_id == job_id)
        return [(row.name, row.step, row.value) for row in session.execute(series.order_by(JobMetric.step))]


def test_numbers_stay_dense_while_many_write_to_the_same_job(backend: Backend) -> None:
    hold = running(backend)

    def append_in_batches(first: int) -> int:
        return sum(do(backend, append_events, hold, lines(first + 5 * batch, 5)) for batch in range(4))

    def ask() -> int:
        do(backend, transitions.request_pause, hold.job_id, tenant_id=TENANT)
        do(backend, transitions.resume, hold.job_id, tenant_id=TENANT)
        do(backend, transitions.heartbeat, hold, lease_s=LEASE_S)
        return 0

    answers = together(*(partial(append_in_batches, 1 + 20 * number) for number in range(6)), ask)
    do(backend, transitions.succeed, hold)

    assert answers == [20] * 6 + [0]
    assert dense(backend, hold.job_id)
    record = events(backend, hold.job_id)
    assert sorted(event.data["n"] for event in record if event.kind == "warned") == list(range(1, 121))
    assert record[-1].data["to"] == "succeeded"


def test_a_batch_sent_again_adds_nothing(backend: Backend) -> None:
    hold = running(backend)
    batch = lines(1, 6)

    assert do(backend, append_events, hold, batch[:4]) == 4
    assert do(backend, append_events, hold, batch) == 2
    assert together(*(partial(do, backend, append_events, hold, batch) for _ in range(5))) == [0] * 5

    record = [(event.fence, event.eseq, event.data["n"]) for event in events(backend, hold.job_id)[2:]]
    assert record == [(1, n, n) for n in range(1, 7)]
    assert dense(backend, hold.job_id)


def test_the_same_line_number_of_the_next_attempt_is_another_line(backend: Backend) -> None:
    hold = running(backend)
    do(backend, append_events, hold, lines(1, 2))
    do(backend, transitions.stop, hold)
    again = claimed(backend, hold.job_id)

    assert do(backend, append_events, again, lines(1, 2)) == 2

    lined = [(event.fence, event.eseq) for event in events(backend, hold.job_id) if event.eseq is not None]
    assert lined == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_the_database_itself_refuses_a_line_twice(backend: Backend) -> None:
    hold = running(backend)
    do(backend, append_events, hold, lines(1, 1))
    twice = {"job_id": hold.job_id, "seq": 99, "fence": hold.fence, "eseq": 1, "kind": "warned", "data": {}}
    with pytest.raises(DBAPIError):
        do(backend, lambda session: session.execute(insert(JobEvent).values(**twice)))


def test_a_batch_is_written_whole_or_not_at_all(backend: Backend) -> None:
    hold = running(backend)
    too_wide = "x" * 65

    def write() -> None:
        with transaction(backend.make) as session:
            append_events(
                session, hold, lines(1, 3), points=[Point(name="student/loss", step=1, value=1.0)], phase="train"
            )
            append_events(session, Hold(job_id=hold.job_id, fence=hold.fence + 1), lines(4, 1), phase=too_wide)

    with pytest.raises(LeaseLost):
        write()

    assert len(events(backend, hold.job_id)) == 2
    assert points(backend, hold.job_id) == []
    assert job(backend, hold.job_id).phase is None
    assert dense(backend, hold.job_id)


def test_a_step_measured_again_keeps_its_last_value(backend: Backend) -> None:
    hold = running(backend)
    first = [Point(name="student/loss", step=step, value=float(step), tokens=10) for step in (1, 2, 3)]
    do(backend, append_events, hold, [], points=first)
    do(backend, append_events, hold, [], points=[Point(name="student/loss", step=3, value=0.25)])
    again = [Point(name="student/loss", step=2, value=0.5, tokens=20), Point(name="student/loss", step=3, value=0.75)]
    do(backend, append_events, hold, [], points=[*again, Point(name="student/loss", step=4, value=float("inf"))])

    with reading(backend.make) as session:
        rows = session.execute(select(JobMetric.step, JobMetric.value, JobMetric.tokens).order_by(JobMetric.step)).all()
    assert [tuple(row) for row in rows] == [(1, 1.0, 10), (2, 0.5, 20), (3, 0.75, None), (4, float("inf"), None)]


# SQLite keeps any length.
@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_name_that_is_too_long_is_refused_not_cut(backend: Backend) -> None:
    hold = running(backend)
    long = [Point(name="x" * 65, step=step, value=1.0) for step in (1, 2)]

    with pytest.raises(DataError), transaction(backend.make) as session:
        append_events(session, hold, [], points=long)


def test_phase_and_progress_are_kept_until_the_next(backend: Backend) -> None:
    hold = running(backend)
    do(backend, append_events, hold, lines(1, 1), phase="train", progress={"step": 4, "total_steps": 9})
    do(backend, append_events, hold, lines(2, 1))

    row = job(backend, hold.job_id)
    assert (row.phase, row.progress) == ("train", {"step": 4, "total_steps": 9})


def test_text_that_postgresql_refuses_is_kept_without_what_it_refuses(backend: Backend) -> None:
    hold = running(backend)
    hostile = {"message": "a\0b", "nested": [{"k\0": "\ud800 alone", "tuple": ("ü", 1, None)}]}

    do(backend, append_events, hold, [Line(eseq=1, kind="warned", data=hostile)], progress={"label": "\0"})

    kept = events(backend, hold.job_id)[-1].data
    assert kept == {"message": "a�b", "nested": [{"k�": "? alone", "tuple": ["ü", 1, None]}]}


def test_reading_waits_for_no_writer_and_blocks_none(backend: Backend) -> None:
    hold = running(backend)
    with reading(backend.make) as poll:
        seen = poll.scalars(select(JobEvent.seq).where(JobEvent.job_id == hold.job_id)).all()
        # A poll that stays open, and a writer that has not committed yet.
        with backend.make() as writer, writer.begin():
            append_events(writer, hold, lines(1, 1))
            with reading(backend.make) as other:
                assert other.scalars(select(JobEvent.seq).where(JobEvent.job_id == hold.job_id)).all() == seen
        assert do(backend, transitions.succeed, hold) is JobState.SUCCEEDED
    assert dense(backend, hold.job_id)


def test_a_write_under_reading_is_refused(backend: Backend) -> None:
    with pytest.raises(DBAPIError), reading(backend.make) as session:
        transitions.submit(session, job_id="job_x", tenant_id=TENANT, spec={}, resolved={})
    assert submitted(backend)
