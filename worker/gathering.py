"""What the table of a comparison is made of: every member's scores out of the store into a fresh folder, and what each run took."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.artifacts import queries as artifacts
from api.artifacts.tables import Artifact
from api.comparisons import queries as comparisons
from api.comparisons.tables import Comparison, ComparisonMember
from api.core.settings import Settings
from api.core.storage import Files, StoredFileMissing
from api.events import queries as events
from api.jobs.states import JobState
from api.jobs.tables import Job
from api.jobs.transitions import Claim
from cpd_engine.config import BudgetSpec, EvaluationSpec
from cpd_engine.members import SAMPLES, Member, MemberRun, TableSpec, bare, rows_of_suite
from worker.child import EngineCommand
from worker.recorder import Fenced
from worker.staging import Scratch, StagingFailed

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


def stage_table(writes: Fenced, claim: Claim, scratch: Scratch, *, store: Files, settings: Settings) -> EngineCommand:
    """Fill a fresh folder with the scores of every run that succeeded; the command that makes the table of them.

    Raises StagingFailed, LeaseLost, and OSError for disk or store.
    """
    found = writes.commit(lambda session: _gathered(session, str(claim.resolved.get("comparison"))))
    evaluation = _evaluation(found)
    files = [SAMPLES, *(rows_of_suite(suite.title) for suite in evaluation.suites)]
    members = [
        Member(label=label, runs=tuple(_run(found, member, job, files, scratch.path, store) for member, job in group))
        for label, group in groupby(found.runs, key=lambda run: run[0].label)
    ]
    made = TableSpec(
        members=tuple(members),
        baseline=found.comparison.baseline,
        budget=BudgetSpec.model_validate(found.comparison.budget),
        suites=evaluation.suites,
        judged=evaluation.judged,
    )
    spec = scratch.path / "table.json"
    spec.write_text(made.model_dump_json(), "utf-8")
    return EngineCommand(program=settings.engine_command, verb="table", spec=spec, out=scratch.out, datasets={})


def _evaluation(found: _Gathered) -> EvaluationSpec:
    """What all members were scored on: the base's, as each of their specs has it."""
    told = found.runs[0][1].resolved.get("evaluation", {}) if found.runs else {}
    try:
        return EvaluationSpec.model_validate_json(json.dumps(told))
    except ValidationError as error:
        message = "The comparison's evaluation is not one that this worker's version knows."
        raise StagingFailed("validation_error", message) from error


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


def _run(
    found: _Gathered, member: ComparisonMember, job: Job, files: Sequence[str], folder: Path, store: Files
) -> MemberRun:
    ended = job.failure_code or job.state
    name = None
    if job.state == JobState.SUCCEEDED:
        name = f"runs/{job.id}"
        report = found.reports.get(job.id)
        if report is None or not all(_fetched(report, file, folder / name / file, store) for file in files):
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


def _fetched(report: Artifact, name: str, target: Path, store: Files) -> bool:
    """Whether a report's rows are there and what they were; then their scores lie at `target`. The texts, by far the most of it, are
    left behind a line at a time: five answers to ten thousand rows, of hundreds of runs, would fill disks.
    """
    file = next((file for file in report.files if file["path"] == name), None)
    if file is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with target.open("w", encoding="utf-8") as kept:
            for line in _lines(store.read(f"{report.storage_prefix}/{name}"), digest.update):
                kept.write(json.dumps(bare(json.loads(line))) + "\n")
    except (StoredFileMissing, ValueError, KeyError, TypeError, AttributeError):
        return False
    return digest.hexdigest() == str(file["sha256"])


def _lines(chunks: Iterable[bytes], seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """The whole lines of what comes in pieces, each of which is `seen`."""
    rest = b""
    for chunk in chunks:
        seen(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest
