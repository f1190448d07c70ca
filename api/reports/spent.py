"""What a job has taken: time by phase over all of its attempts, on the wall and on processors, and tokens by model. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cpd_engine.events import PHASES, Phase


class Told(Protocol):
    """An event as it is kept."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def fence(self) -> int: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Attempted(Protocol):
    """One claim of the job by a worker."""

    @property
    def fence(self) -> int: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpent:
    """A phase over all attempts. `cpu_s` is None where nobody counted; `broken_off_s`: of the wall's time, what attempts lost in it."""

    phase: Phase
    wall_s: float
    cpu_s: float | None
    broken_off_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """`worker_s`: all seconds on workers; `sums` of metric series by name, such as `student/tokens`."""

    phases: Sequence[PhaseSpent]
    worker_s: float
    attempts: int
    sums: Mapping[str, float]


def spent_of(told: Sequence[Told], attempts: Sequence[Attempted], sums: Mapping[str, float]) -> Spent:
    """From a job's events, in order, and its attempts."""
    wall: dict[Phase, float] = {}
    cpu: dict[Phase, float] = {}
    lost: dict[Phase, float] = {}
    for attempt in attempts:
        under_way: tuple[Phase, datetime] | None = None
        for event in told:
            if event.fence != attempt.fence:
                continue
            if event.kind == "phase_started":
                under_way = event.data["phase"], event.at
            elif event.kind == "phase_finished":
                phase: Phase = event.data["phase"]
                wall[phase] = wall.get(phase, 0.0) + event.data["duration_s"]
                if event.data.get("cpu_s") is not None:
                    cpu[phase] = cpu.get(phase, 0.0) + event.data["cpu_s"]
                under_way = None
        if under_way is not None and attempt.ended_at is not None:
            phase, since = under_way
            lost[phase] = lost.get(phase, 0.0) + max(0.0, (attempt.ended_at - since).total_seconds())
    return Spent(
        phases=[
            PhaseSpent(
                phase=phase,
                wall_s=wall.get(phase, 0.0) + lost.get(phase, 0.0),
                cpu_s=cpu.get(phase),
                broken_off_s=lost.get(phase, 0.0),
            )
            for phase in PHASES
            if phase in wall or phase in lost
        ],
        worker_s=sum(
            (attempt.ended_at - attempt.started_at).total_seconds()
            for attempt in attempts
            if attempt.ended_at is not None
        ),
        attempts=len(attempts),
        sums=dict(sums),
    )
