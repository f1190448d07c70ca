"""A job as its report has it, with rows and names that try to be more than text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api.artifacts import flips
from api.downloads import Content
from api.jobs.schemas import JobView, Progress, Remark
from api.jobs.states import JobKind, JobState, Requested
from api.reports.job_facts import JobFacts, Worse
from api.reports.spent import PhaseSpent, Spent
from cpd_engine.config import RunConfig
from cpd_engine.events import Comparison, DataReady, EpochPlan, Exported, Planned, Reported, RunStarted

HOSTILE = "<img src=x onerror=alert(1)> **b** [l](javascript:1) | `c`\n# h </pre></textarea><script>alert(2)</script>"
SPEC: dict[str, Any] = {
    "teacher": {"hub": "org/teacher"},
    "student": {"from": "teacher", "drop_layers": 1},
    "dataset": {"train": "ds_aaaaaaaaaaaa"},
    "epochs": 4,
    "name": "<b>mine</b> | *yours*",
    "evaluation": {"baselines": ["sft"]},
}
NOW = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
SCORES = {
    "teacher": {"exact_match": 40.0, "rouge_l": 60.0, "ce": 0.5},
    "untouched": {"exact_match": 10.0, "rouge_l": 30.0, "ce": 1.5},
    "student": {"exact_match": 34.0, "rouge_l": 54.0, "ce": 0.7},
    "sft": {"exact_match": 33.0, "rouge_l": 53.5, "ce": 0.71},
}


def pair(subject: Any, metric: str, difference: float, interval: tuple[float, float], p: float | None) -> Comparison:
    return Comparison(
        subject=subject, metric=metric, difference=difference, interval=interval, p_value=p, non_zero=90, rows=200
    )


def reported(**changes: Any) -> Reported:
    intervals = {
        subject: {name: (value * 0.9, value * 1.1) for name, value in scores.items()}
        for subject, scores in SCORES.items()
    }
    found = Reported(
        rows=200,
        scores=SCORES,
        steps={"untouched": 0, "student": 1200, "sft": 1200},
        gap_closed={"exact_match": 0.8, "rouge_l": 0.8, "ce": 0.8},
        comparisons=(
            pair("untouched", "rouge_l", 24.0, (20.0, 28.0), 1e-9),
            pair("teacher", "rouge_l", -6.0, (-9.0, -3.0), 0.002),
            pair("sft", "rouge_l", 0.5, (-1.0, 2.0), 0.4),
            pair("untouched", "ce", -0.8, (-0.9, -0.7), 1e-9),
        ),
        intervals=intervals,
    )
    return replace(found, **changes)


def rows_content(lines: Sequence[dict[str, Any]]) -> Content:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return Content(
        size_bytes=len(body),
        sha256="0" * 64,
        filename="samples.jsonl",
        media_type="application/jsonl",
        read=lambda start, stop: iter([body[start:stop]]),
    )


def worse() -> Worse:
    said = {"finish_reason": "stop", "tokens": 1, "supervised": 3, "rouge_l": 0.0, "ce": 1.0}
    answers = {
        "untouched": {"text": "right", "exact_match": 1.0, **said},
        "student": {"text": HOSTILE, "exact_match": 0.0, **said},
    }
    line = {
        "row": "row-7",
        "prompt": HOSTILE,
        "instruction": HOSTILE,
        "input": "",
        "reference": "right",
        "answers": answers,
    }
    content = rows_content([line])
    found = flips.compare(content, against="untouched", metric="exact_match")
    return Worse(against="untouched", flips=found, shown=flips.worst(content, found, 0, 5))


def job_facts(**changes: Any) -> JobFacts:
    config = RunConfig.model_validate(SPEC).resolved()
    epoch = EpochPlan(
        epoch=1,
        subset_size=500,
        target=None,
        iterations=300,
        visits=500,
        temperature=1.0,
        mixing=0.0,
        alpha=0.3,
        dead=False,
    )
    found = JobFacts(
        job=job_view(config),
        config=config,
        started=RunStarted(
            config_sha256="0" * 64, device="cuda:0", precision="bf16", threads=8, versions={}, resumed=False
        ),
        data=DataReady(
            rows={"train": 2000, "test": 200},
            dropped={"too_long": 3},
            prompt_tokens=1,
            supervised_tokens=1,
            sha256="a" * 64,
        ),
        planned=Planned(samples=2000, batch_size=8, total_iterations=1200, supervised_tokens=9, epochs=(epoch,)),
        profile=None,
        report=reported(),
        exported=Exported(name="model", path="export", formats=("merged",), parameters=500_000_000, size_bytes=10**9),
        lineage={
            "teacher": {"parameters": 1_500_000_000, "licence": HOSTILE},
            "student": {},
            "data": {"licence": None},
        },
        worse=[worse()],
        warnings=[Remark(code="shared_prompts", message=HOSTILE)],
        recalled=frozenset({"tuned_teacher"}),
        spent=Spent(
            phases=[PhaseSpent(phase="train", wall_s=2000.0, cpu_s=3000.0, broken_off_s=140.0)],
            worker_s=2236.0,
            attempts=2,
            sums={"student/tokens": 2e6, "student/processed_tokens": 9e6, "student/step_s": 1500.0},
        ),
    )
    return replace(found, **changes)


def job_view(config: RunConfig, **changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": "job_" + "0" * 32,
        "kind": JobKind.DISTILLATION,
        "name": config.name,
        "metadata": {},
        "state": JobState.SUCCEEDED,
        "requested": Requested.NONE,
        "phase": "export",
        "progress": Progress(),
        "queue_position": None,
        "attempt": 2,
        "heartbeat_age_s": None,
        "created_at": NOW,
        "started_at": NOW,
        "finished_at": NOW + timedelta(minutes=40),
        "failure": None,
        "spec": SPEC,
        "resolved": config.model_dump(mode="json"),
        "scores": SCORES,
        "forecast": None,
        "member_of": None,
    }
    return JobView.model_validate(fields | changes)
