from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from api.reports.spent import spent_of

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    kind: str
    at: datetime
    fence: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    fence: int
    started_at: datetime
    ended_at: datetime | None


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def started(fence: int, phase: str, seconds: float) -> Said:
    return Said("phase_started", at(seconds), fence, {"phase": phase})


def finished(fence: int, phase: str, seconds: float, duration_s: float, cpu_s: float | None = None) -> Said:
    return Said(
        "phase_finished",
        at(seconds),
        fence,
        {"phase": phase, "duration_s": duration_s, "reused": False, "cpu_s": cpu_s},
    )


def test_work_that_broke_off_counts_as_time_of_its_phase() -> None:
    told = [
        started(1, "prepare", 0),
        finished(1, "prepare", 10, 10.0, 18.0),
        started(1, "train", 10),
        started(2, "prepare", 100),
        finished(2, "prepare", 101, 1.0, 1.0),
        started(2, "train", 101),
        finished(2, "train", 151, 50.0, 90.0),
    ]
    attempts = [Attempt(1, at(0), at(40)), Attempt(2, at(100), at(160))]
    spent = spent_of(told, attempts, {"student/tokens": 7.0})

    assert [(one.phase, one.wall_s, one.cpu_s, one.broken_off_s) for one in spent.phases] == [
        ("prepare", 11.0, 19.0, 0.0),
        ("train", 80.0, 90.0, 30.0),
    ]
    assert (spent.worker_s, spent.attempts, spent.sums) == (100.0, 2, {"student/tokens": 7.0})


def test_an_attempt_under_way_has_lost_nothing_and_an_older_engine_counted_no_processor() -> None:
    told = [started(1, "prepare", 0), finished(1, "prepare", 10, 10.0), started(1, "train", 10)]
    spent = spent_of(told, [Attempt(1, at(0), None)], {})

    assert [(one.phase, one.wall_s, one.cpu_s) for one in spent.phases] == [("prepare", 10.0, None)]
    assert spent.worker_s == 0.0
