"""What the table of a comparison is made of: every member's rows out of the store into a fresh folder, and what each run took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from api.artifacts import queries as artifacts
from api.artifacts.tables import Artifact
from api.comparisons import queries as comparisons
from api.comparisons.tables import Comparison, ComparisonMember
from api.core.settings import Settings
from api.core.storage import Store
from api.events import queries as events
from api.jobs.states import JobState
from api.jobs.tables import Job
from api.jobs.transitions import Claim
from cpd_engine.config import BudgetSpec
from cpd_engine.members import SAMPLES, Member, MemberRun, TableSpec
from worker.child import EngineCommand
from worker.recorder import Fenced
from worker.staging import Scratch, StagingFailed, fetch_verified

log = structlog.get_logger(__name__)

REPORT = "report"
_SERIES = {
    "supervised_tokens": "student/tokens",
    "processed_tokens": "student/processed_tokens",
    "train_s": "student/step_s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    comparison: Comparison
    runs: Sequence[tuple[ComparisonMember, Job]]
    reports: dict[str, Artifact]
    sums: dict[str, dict[str, float]]
    steps: dict[str, int]
    worker_s: dict[str, float]


def stage_table(writes: Fenced, claim: Claim, scratch: Scratch, *, store: Store, settings: Settings) -> EngineCommand:
    """Fill a fresh folder with the rows of every run that succeeded; the command that makes the table of them.

    Raises StagingFailed, LeaseLost, and OSError for disk or store.
    """
    found = writes.commit(lambda session: _gathered(session, str(claim.resolved.get("comparison"))))
    members = [
        Member(label=label, runs=tuple(_run(found, member, job, scratch.path, store) for member, job in group))
        for label, group in groupby(found.runs, key=lambda run: run[0].label)
    ]
    budget = BudgetSpec.model_validate(found.comparison.budget)
    made = TableSpec(members=tuple(members), baseline=found.comparison.baseline, budget=budget)
    spec = scratch.path / "table.json"
    spec.write_text(made.model_dump_json(), "utf-8")
    return EngineCommand(program=settings.engine_command, verb="table", spec=spec, out=scratch.out, datasets={})


def _gathered(session: Session, comparison_id: str) -> _Gathered:
    comparison = session.get(Comparison, comparison_id)
    if comparison is None:
        raise StagingFailed("nothing_to_compare", "The comparison is not there any more.")
    runs = [(member, job) for member, job in session.execute(comparisons.members([comparison_id]))]
    ids = [job.id for _, job in runs]
    reports: dict[str, Artifact] = {}
    for job_id in ids:
        report = session.scalars(artifacts.named(job_id, REPORT).limit(1)).one_or_none()
        if report is not None and report.expired_at is None:
            reports[job_id] = report
    sums: dict[str, dict[str, float]] = defaultdict(dict)
    steps: dict[str, int] = {}
    for row in session.execute(events.sums(ids, list(_SERIES.values()))):
        sums[row.job_id][row.name] = float(row.total)
        steps[row.job_id] = int(row.steps)
    worker_s: dict[str, float] = defaultdict(float)
    for job_id, started_at, ended_at in session.execute(comparisons.worker_times(ids)):
        worker_s[job_id] += (ended_at - started_at).total_seconds() if ended_at is not None else 0.0
    return _Gathered(comparison=comparison, runs=runs, reports=reports, sums=sums, steps=steps, worker_s=worker_s)


def _run(found: _Gathered, member: ComparisonMember, job: Job, folder: Path, store: Store) -> MemberRun:
    ended = job.failure_code or job.state
    name = None
    if job.state == JobState.SUCCEEDED:
        name = f"runs/{job.id}"
        if not _fetched(found.reports.get(job.id), folder / name / SAMPLES, store):
            log.warning("rows_of_a_member_missing", member_job_id=job.id)
            ended, name = "rows_missing", None
    sums = found.sums.get(job.id, {})
    values = {field: sums[series] for field, series in _SERIES.items() if series in sums}
    return MemberRun(
        seed=member.seed,
        folder=name,
        ended=ended,
        steps=found.steps.get(job.id),
        supervised_tokens=round(values["supervised_tokens"]) if "supervised_tokens" in values else None,
        processed_tokens=round(values["processed_tokens"]) if "processed_tokens" in values else None,
        train_s=values.get("train_s"),
        worker_s=round(found.worker_s.get(job.id, 0.0), 3),
    )


def _fetched(report: Artifact | None, target: Path, store: Store) -> bool:
    """Whether the rows that a run's report holds are there and what they were."""
    if report is None:
        return False
    file = next((file for file in report.files if file["path"] == SAMPLES), None)
    return file is not None and fetch_verified(store, f"{report.storage_prefix}/{SAMPLES}", target, str(file["sha256"]))
