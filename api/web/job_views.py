"""What pages say of a job beside its own fields: phases, pulse, gap closed, and the lines that make it again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat
from typing import Any, Literal

from api.jobs.schemas import JobView
from api.jobs.states import TERMINAL, JobState
from api.web.sparklines import Sparkline
from cpd_engine.events import PHASES

Pulse = Literal["fresh", "late", "lost"]
Passed = Literal["done", "now", "stopped", "ahead"]
# Which metric tells of the gap where several do.
_TELLING = ("rouge_l", "exact_match", "ce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A phase of a job, and how much of it is done where that is known, in 0..1."""

    name: str
    passed: Passed
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A job in the list: its phases, its loss so far, the metric of which it has closed how many percent of the gap, and its pulse."""

    job: JobView
    steps: list[Step]
    loss: Sparkline | None
    gap: tuple[str, float] | None
    pulse: Pulse | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """A field of several specs by its path, and its value in each as text."""

    name: str
    values: list[str]


def pulse(job: JobView, *, heartbeat_s: float, lease_s: float) -> Pulse | None:
    """How long ago the worker was heard: three beats missed are late, a lease that has run out is lost; None where none works."""
    if job.state is not JobState.RUNNING or job.heartbeat_age_s is None:
        return None
    if job.heartbeat_age_s > lease_s:
        return "lost"
    return "late" if job.heartbeat_age_s > 3 * heartbeat_s else "fresh"


def told_gap(closed: Mapping[str, float]) -> tuple[str, float] | None:
    """The metric that tells of the gap, and the share of it that is closed in percent."""
    names = [*(name for name in _TELLING if name in closed), *closed]
    return (names[0], 100.0 * closed[names[0]]) if names else None


def steps(job: JobView) -> list[Step]:
    """The phases of the job, one after the other; empty where it has none."""
    names = _phases(job)
    if job.phase is None or job.phase not in names:
        passed: Passed = "done" if job.state is JobState.SUCCEEDED else "ahead"
        return [Step(name=name, passed=passed, share=None) for name in names]
    at = names.index(job.phase)
    return [
        Step(name=name, passed=_passed(job, i - at), share=_share(job) if i == at else None)
        for i, name in enumerate(names)
    ]


def _phases(job: JobView) -> list[str]:
    shown: list[str] = [name for name in PHASES if name != "teacher_sft" or job.resolved.get("teacher_sft") is not None]
    told = job.progress.phases
    if told is None or told == len(shown) or job.phase is None:
        return shown if job.kind == "distillation" else []
    # A job of fewer phases, such as a probe: the one at hand is all that is known.
    return [job.phase]


def _passed(job: JobView, distance: int) -> Passed:
    if distance < 0 or job.state is JobState.SUCCEEDED:
        return "done"
    if distance > 0:
        return "ahead"
    return "now" if job.state is JobState.RUNNING else "stopped"


def _share(job: JobView) -> float | None:
    told = job.progress
    done, total = (told.step, told.total_steps) if told.total_steps else (told.done, told.total)
    return None if done is None or not total else min(1.0, done / total)


def differing(jobs: Sequence[JobView]) -> list[SettingRow]:
    """What the jobs were told otherwise, presets filled in; what they are called is no difference."""
    flat = [dict(_flat(job.resolved)) for job in jobs]
    names = dict.fromkeys(
        name for fields in flat for name in fields if name.partition(".")[0] not in ("name", "metadata")
    )
    rows = [SettingRow(name=name, values=[fields.get(name, "–") for fields in flat]) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        match inner:
            case dict() if inner:
                yield from _flat(inner, f"{path}{key}.")
            case None:
                yield f"{path}{key}", "–"
            case str():
                yield f"{path}{key}", inner
            case _:
                yield f"{path}{key}", json.dumps(inner, ensure_ascii=False)


def is_over(job: JobView) -> bool:
    """True where nothing of the job will change."""
    return job.state in TERMINAL


def spec_text(spec: Mapping[str, Any]) -> str:
    """The spec as JSON for people."""
    return json.dumps(spec, indent=2, ensure_ascii=False)


def curl_lines(url: str, spec: Mapping[str, Any]) -> str:
    """What submits the same job from a shell: JSON has no line that could end the document early."""
    return f"curl -H \"Authorization: Bearer $CPD_API_KEY\" --json @- {url}/v1/jobs <<'JSON'\n{spec_text(spec)}\nJSON"


def python_lines(url: str, spec: Mapping[str, Any]) -> str:
    """What submits the same job from Python, follows it and fetches the student."""
    literal = pformat(dict(spec), sort_dicts=False, width=88)
    return f"""from pathlib import Path
from api.client import Client

spec = {literal}
with Client({url!r}) as cpd:
    job = cpd.submit(spec)
    for event in cpd.follow(job.id):
        print(event.seq, event.kind)
    cpd.download(job.id, Path("student"))
"""
