"""The table of a comparison through real workers and the real engine: made once, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import delete, insert, select

from api.artifacts import queries as artifacts
from api.artifacts.queries import Sealed
from api.comparisons.tables import Comparison, ComparisonMember
from api.core.archive import sha256_of
from api.core.db import reading, transaction
from api.events.queries import Line, Point, append_events
from api.jobs import transitions
from api.jobs.lease import Hold
from api.jobs.moves import Failure
from api.jobs.states import JobKind, JobState
from api.jobs.tables import Job
from cpd_engine.members import SAMPLES, rows_of_suite
from tests.backends import TENANT, Backend
from tests.deadline import eventually
from tests.integration.worker.fleet import SPEC, Fleet, engine_of, gone

SUITE_ROWS = rows_of_suite("vicuna")
EVALUATION = {
    "suites": [{"task": "vicuna", "data": "ds_12345678", "seeds": [0, 1]}],
    "judge": {"against": ["teacher"]},
}
ENGINE = (sys.executable, "-m", "cpd_engine")
# The engine, which begins when the file named first is there: a table takes a second or two, in which nobody can be sure to kill it.
GATED = """
import runpy, sys, time
from pathlib import Path
from cpd_engine import watchdog
watchdog.watch_stdin()
gate = Path(sys.argv.pop(1))
while not gate.exists():
    time.sleep(0.01)
runpy.run_module("cpd_engine", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def tables(backend: Backend, tmp_path: Path) -> Iterator[Fleet]:
    """Workers with the real engine: a table needs no model."""
    made = Fleet(backend=backend, folder=tmp_path, engine=ENGINE)
    try:
        yield made
    finally:
        made.close()


def line(row: int, student: float) -> str:
    values = {"teacher": 1.0, "untouched": 0.0, "student": student}
    answers = {
        subject: {"text": "long " * 9, "exact_match": value, "rouge_l": value, "ce": 2.0 - value, "supervised": 2 + row}
        for subject, value in values.items()
    }
    return json.dumps({"row": f"row-{row}", "instruction": f"Say {row}.", "answers": answers}) + "\n"


def answered(row: int, student: float) -> str:
    """A row of the suite, with every model's answers under two seeds."""
    values = {"teacher": 1.0, "untouched": 0.0, "student": student}
    answers = {
        subject: {"generations": [{"seed": s, "text": "é", "rouge_l": s * value, "exact_match": 0.0} for s in (0, 1)]}
        for subject, value in values.items()
    }
    return json.dumps({"row": f"row-{row}", "suite": "vicuna", "answers": answers}, ensure_ascii=False) + "\n"


def report(fleet: Fleet, hold: Hold, score: float) -> None:
    """The run's report reaches store and database, and with it what its steps took."""
    prefix = f"jobs/{hold.job_id}/{hold.fence}/report"
    folder = fleet.backend.settings.store_dir / prefix
    (folder / "suites").mkdir(parents=True)
    (folder / SAMPLES).write_text("".join(line(row, score if row % 2 else 0.0) for row in range(6)))
    (folder / SUITE_ROWS).write_text("".join(answered(row, score) for row in range(4)))
    files = [
        {"path": path, "size_bytes": (folder / path).stat().st_size, "sha256": sha256_of(folder / path)}
        for path in (SAMPLES, SUITE_ROWS)
    ]
    sealed = Sealed(
        id=f"art_{uuid4().hex}", name="report", role="phase", path="report", storage_prefix=prefix, files=files,
        manifest_sha256=str(files[0]["sha256"]), size_bytes=sum(int(str(file["size_bytes"])) for file in files),
    )  # fmt: skip
    points = [
        Point(name=f"student/{name}", step=step, value=value)
        for step in (1, 2, 3)
        for name, value in (("tokens", 10.0), ("processed_tokens", 30.0), ("step_s", 0.5))
    ]
    with transaction(fleet.backend.make) as session:
        artifacts.add(session, hold, sealed)
        append_events(session, hold, [Line(eseq=1, kind="warned", data={})], points=points)


def compared(fleet: Fleet) -> str:
    """A comparison all of whose jobs have ended, one of them badly; the id of its table's job, which waits."""
    comparison_id = f"cmp_{uuid4().hex}"
    spec = {
        "id": comparison_id,
        "tenant_id": TENANT,
        "name": None,
        "spec": {},
        "baseline": "a",
        "budget": {"amount": 3},
    }
    with transaction(fleet.backend.make) as session:
        session.execute(insert(Comparison).values(**spec))
    holds = []
    for position, label in enumerate(("a", "b")):
        for seed in (0, 1):
            job_id = fleet.submit_spec({**SPEC, "evaluation": EVALUATION})
            member = {
                "job_id": job_id,
                "comparison_id": comparison_id,
                "position": position,
                "label": label,
                "seed": seed,
            }
            with transaction(fleet.backend.make) as session:
                session.execute(insert(ComparisonMember).values(**member))
                claim = transitions.claim(session, job_id, worker_id="w1", lease_s=60.0)
            assert claim is not None
            holds.append((claim.hold, 0.25 * (position + 1) + 0.1 * seed))
    *good, (bad, _) = holds
    for hold, score in good:
        report(fleet, hold, score)
        with transaction(fleet.backend.make) as session:
            transitions.succeed(session, hold)
    with transaction(fleet.backend.make) as session:
        transitions.fail(session, bad, Failure(code="diverged", message="The loss is not finite."))
    with reading(fleet.backend.make) as session:
        return session.scalars(select(Job.id).where(Job.kind == JobKind.TABLE)).one()


def assert_made(fleet: Fleet, table: str) -> None:
    """One table, of three runs and a failure, with its picture in the store."""
    told = [event.data for event in fleet.events(table) if event.kind == "compared"]
    first, second = told[-1]["members"]
    assert all(one == told[0] for one in told)
    assert (told[-1]["rows"], first["seeds"], second["seeds"], second["failures"]) == (6, [0, 1], [0], ["diverged"])
    assert first["scores"]["exact_match"]["by_seed"] == pytest.approx([12.5, 17.5])
    assert (first["costs"]["steps"], first["costs"]["supervised_tokens"], first["costs"]["train_s"]) == (3, 30, 1.5)
    assert first["costs"]["worker_s"] > 0
    assert "exact_match" in second["against"]
    [suite] = told[-1]["suites"]
    assert (suite["suite"], suite["rows"], suite["seeds"]) == ("vicuna", 4, [0, 1])
    assert suite["members"][0]["scores"]["rouge_l"]["by_seed"] == pytest.approx([12.5, 17.5])
    assert suite["members"][1]["against"]["rouge_l"]["difference"] == pytest.approx(10.0)
    assert [("vicuna" in note, "judged" in note) for note in told[-1]["notes"]] == [(True, True)]
    newest = fleet.artifacts(table)[-1]
    assert {"table.json", "figure.json", "figure.png"} <= {file["path"] for file in newest.files}
    with reading(fleet.backend.make) as session:
        assert session.scalars(select(Job.id).where(Job.kind == JobKind.TABLE)).all() == [table]


def test_a_worker_makes_the_table_of_what_has_finished(tables: Fleet) -> None:
    table = compared(tables)
    assert tables.work_here(table).state == JobState.SUCCEEDED
    assert_made(tables, table)
    (made,) = tables.artifacts(table)
    assert (made.name, made.role, made.path) == ("table", "export", "table")


def test_the_engine_and_the_worker_killed_under_a_table_leave_one_table(tables: Fleet) -> None:
    gate = tables.folder / "gate"
    tables.engine = (sys.executable, "-c", GATED, str(gate))
    table = compared(tables)
    worker = tables.start()
    engine = engine_of(worker)
    os.kill(engine.pid, signal.SIGKILL)
    eventually(lambda: gone(engine.pid) and engine_of(worker).pid != engine.pid, within_s=30, what="the next engine")
    second = engine_of(worker)
    worker.kill()
    worker.wait()
    gate.touch()
    tables.start()
    assert tables.wait_state(table, JobState.SUCCEEDED).attempt == 3
    assert gone(second.pid)
    assert_made(tables, table)
    assert [attempt.outcome for attempt in tables.attempts(table)] == ["crashed", "lost", "succeeded"]


def test_rows_that_are_gone_from_the_store_count_as_a_failure_and_without_any_there_is_no_table(tables: Fleet) -> None:
    table = compared(tables)
    with reading(tables.backend.make) as session:
        members = session.scalars(
            select(ComparisonMember).order_by(ComparisonMember.position, ComparisonMember.seed)
        ).all()
    store = tables.backend.settings.store_dir / "jobs"
    shutil.rmtree(store / members[0].job_id)
    # Of one whose file is there but is not what it was nothing is believed either.
    [damaged] = (store / members[2].job_id).rglob("vicuna.jsonl")
    damaged.write_text(damaged.read_text().replace("row-1", "row-9"))
    assert tables.work_here(table).state == JobState.SUCCEEDED
    (told,) = [event.data for event in tables.events(table) if event.kind == "compared"]
    assert (told["members"][0]["seeds"], told["members"][0]["failures"]) == ([1], ["rows_missing"])
    assert (told["members"][1]["seeds"], told["members"][1]["failures"]) == ([], ["rows_missing", "diverged"])
    shutil.rmtree(store)
    with transaction(tables.backend.make) as session:
        session.execute(delete(ComparisonMember))
        session.execute(delete(Comparison))
        session.execute(delete(Job).where(Job.kind == JobKind.TABLE))
    again = compared(tables)
    shutil.rmtree(store)
    ended = tables.work_here(again)
    assert (ended.state, ended.failure_code) == (JobState.FAILED, "nothing_to_compare")
