"""Everything that a job's report tells of, read in one place: its row, what its run said, its answers, and what it took."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from api.artifacts import flips, samples
from api.artifacts import service as artifacts
from api.artifacts.schemas import FlipMetric, FlipView, Opponent
from api.artifacts.tables import Artifact
from api.core.errors import ArtifactExpired, ArtifactNotReady, NotFound
from api.core.storage import Store
from api.events import queries as event_queries
from api.jobs import service as jobs
from api.jobs.schemas import JobView, Remark
from api.reports import queries
from api.reports.spent import Spent, spent_of
from cpd_engine.config import RunConfig
from cpd_engine.events import DataReady, Exported, Planned, ProfileReady, Reported, RunStarted

T = TypeVar("T")
Reading = Callable[[], AbstractContextManager[Session]]
EXPORT = "model"
LINEAGE = "lineage.json"
_SHOWN = 5
_KINDS = (
    "run_started",
    "phase_started",
    "phase_finished",
    "data_ready",
    "planned",
    "profile_ready",
    "warned",
    "recalled",
    "reported",
    "exported",
)
_OPPONENTS: tuple[Opponent, ...] = ("untouched", "teacher", "sft", "kld")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worse:
    """The rows on which the distilled student does worse than another model, the worst of them with what was said."""

    against: Opponent
    flips: flips.Flips
    shown: Sequence[FlipView]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What is known of a job; None or empty where it has not come to that. `config` is resolved, `lineage` as the download has it."""

    job: JobView
    config: RunConfig
    started: RunStarted | None
    data: DataReady | None
    planned: Planned | None
    profile: ProfileReady | None
    report: Reported | None
    exported: Exported | None
    lineage: Mapping[str, Any] | None
    worse: Sequence[Worse]
    warnings: Sequence[Remark]
    recalled: frozenset[str]
    spent: Spent

    @property
    def primary(self) -> str:
        """The score that the run chose its weights by, and so the one to judge it by: named before there was any result."""
        named = self.config.evaluation.validation_metric
        scores = {} if self.report is None else self.report.scores.get("student", {})
        return named if named in scores or not scores else next(iter(scores))


def gather(reading: Reading, store: Store, tenant_id: str, job_id: str) -> JobFacts:
    """Rows first, then files, with no session open. Raises NotFound."""
    with reading() as session:
        job = jobs.get(session, tenant_id, job_id)
        told = session.scalars(event_queries.of_kinds([job_id], *_KINDS)).all()
        spent = spent_of(told, session.scalars(queries.attempts(job_id)).all(), _sums(session, job_id))
        export, answers = _export(session, tenant_id, job_id), _answers(session, tenant_id, job_id)
    data = {event.kind: event.data for event in told}
    report = _last(data, Reported, "reported")
    config = RunConfig.model_validate_json(json.dumps(job.resolved))
    return JobFacts(
        job=job,
        config=config,
        started=_last(data, RunStarted, "run_started"),
        data=_last(data, DataReady, "data_ready"),
        planned=_last(data, Planned, "planned"),
        profile=_last(data, ProfileReady, "profile_ready"),
        report=report,
        exported=_last(data, Exported, "exported"),
        lineage=None if export is None else _lineage(store, export),
        worse=[] if report is None or answers is None else _worse(store, answers, config),
        warnings=_warnings(told),
        recalled=frozenset(str(event.data["what"]) for event in told if event.kind == "recalled"),
        spent=spent,
    )


def _last(data: Mapping[str, Mapping[str, Any]], kind: type[T], name: str) -> T | None:
    """The newest event of a kind: an attempt that tells a thing again replaces the earlier one's."""
    return TypeAdapter(kind).validate_python(data[name]) if name in data else None


def _warnings(told: Sequence[Any]) -> list[Remark]:
    """Each once, however many attempts said it."""
    said = [(event.data["code"], event.data["message"]) for event in told if event.kind == "warned"]
    return [Remark(code=code, message=message) for code, message in dict.fromkeys(said)]


def _sums(session: Session, job_id: str) -> dict[str, float]:
    return {row.name: float(row.total) for row in session.execute(event_queries.sums([job_id], list(queries.SUMMED)))}


def _export(session: Session, tenant_id: str, job_id: str) -> Artifact | None:
    try:
        return artifacts.find(session, tenant_id, job_id, EXPORT)
    except (NotFound, ArtifactExpired):
        return None


def _answers(session: Session, tenant_id: str, job_id: str) -> samples.Answers | None:
    try:
        return samples.find(session, tenant_id, job_id, None)
    except (ArtifactNotReady, ArtifactExpired):
        return None


def _lineage(store: Store, export: Artifact) -> dict[str, Any] | None:
    try:
        content = artifacts.file_content(store, export, LINEAGE)
    except (NotFound, ArtifactExpired):
        return None
    found = json.loads(b"".join(content.read(0, content.size_bytes)))
    return found if isinstance(found, dict) else None


def _worse(store: Store, answers: samples.Answers, config: RunConfig) -> list[Worse]:
    """Against every other model of the job; right and wrong where any answer is right, else the score that the run is judged by."""
    try:
        content = answers.content(store)
    except ArtifactExpired:
        return []
    made = []
    for against in _OPPONENTS:
        if against in config.evaluation.baselines or against in ("untouched", "teacher"):
            found = flips.compare(content, against=against, metric="exact_match")
            if not found.losses:
                metric: FlipMetric = config.evaluation.validation_metric
                found = flips.compare(content, against=against, metric=metric)
            made.append(Worse(against=against, flips=found, shown=flips.worst(content, found, 0, _SHOWN)))
    return made
