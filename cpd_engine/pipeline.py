"""A run from its settings to a sealed student: prepare → teacher_sft → profile → train → evaluate → export.

Every phase leaves sealed directories under `out` and begins by reusing those it finds there, so that running again resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cpd_engine.config import RunConfig
from cpd_engine.events import (
    Checkpointed,
    Emit,
    Event,
    Forecasted,
    Phase,
    PhaseFinished,
    PhaseStarted,
    Warned,
)
from cpd_engine.fleet import ALONE, Fleet, joined
from cpd_engine.inputs import Inputs
from cpd_engine.stages.context import Run
from cpd_engine.stages.evaluating import evaluate
from cpd_engine.stages.exporting import export_student
from cpd_engine.stages.forecasting import forecast, is_worth_probing, tell_what_is_left_out
from cpd_engine.stages.opening import open_run, told, unheard
from cpd_engine.stages.prepare import Prepared, prepare
from cpd_engine.stages.probing import Probed, probe
from cpd_engine.stages.profiling import base_student, make_profile
from cpd_engine.stages.teaching import Teaching
from cpd_engine.stages.training import train_student
from cpd_engine.stages.tuning import tune_teacher
from cpd_engine.timing import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Where the student lies, and the scores on the test rows by subject and metric."""

    export: Path
    scores: dict[str, dict[str, float]]


def run(
    config: RunConfig,
    *,
    inputs: Inputs,
    out: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    fleet: Fleet = ALONE,
    probes: bool | None = None,
) -> RunResult:
    """Carry out `config`, or what is left of it in `out`. `clock` counts seconds and never goes back.

    Called in every process of `fleet`, of which the leader speaks; of the others `emit` hears how they failed, and nothing else.
    `probes`: whether some steps are timed first, to forecast the rest; None: where the run is long enough to be worth it.
    The last event is Finished, Stopped or Failed. Raises StopRequested with everything sealed, or the EngineError that was reported.
    """
    tell = emit if fleet.leads else unheard
    phases = _Phases(config, tell, clock)
    with told(tell, emit, clock, lambda: phases.current), joined(fleet):
        this = open_run(config.resolved(), inputs, out, tell, should_stop, clock, fleet)
        return _carry_out(this, phases, probes)


def estimate(
    config: RunConfig,
    *,
    inputs: Inputs,
    out: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Forecasted:
    """Prepare `config` in `out` and time some steps in this one process. Events and errors are those of `run`; nothing is to be kept."""

    def tell(event: Event) -> None:
        if not isinstance(event, Checkpointed):
            emit(event)

    phases = _Phases(config, tell, clock)
    with told(tell, emit, clock, lambda: phases.current):
        this = open_run(config.resolved(), inputs, out, tell, should_stop, clock, ALONE)
        if (asked := config.resources.gpus * config.resources.nodes) > 1:
            tell(
                Warned(code="forecast_of_one", message=f"{asked} processes are asked for; the forecast is that of one")
            )
        with phases.phase("prepare", this, "prepared"):
            prepared = prepare(this)
        found = forecast(this, prepared, probe(this, prepared), passed=phases.passed)
        tell_what_is_left_out(this)
        tell(found)
        return found


def _carry_out(this: Run, phases: _Phases, probes: bool | None) -> RunResult:
    config = this.config
    with phases.phase("prepare", this, "prepared"):
        prepared = prepare(this)
    probed = _probed(this, prepared, probes)
    if probed is not None:
        tell_what_is_left_out(this)
        this.emit(forecast(this, prepared, probed, passed=phases.passed))
    teacher = prepared.teacher
    if config.teacher_sft is not None:
        with phases.phase("teacher_sft", this, "teacher"):
            teacher = tune_teacher(this, prepared)
    with closing(Teaching(this, prepared, teacher)) as teaching:
        with phases.phase("profile", this, "profile"):
            student = base_student(this, prepared, teacher)
            profiled = make_profile(this, prepared, teaching=teaching, student=student)
        if probed is not None:
            this.emit(forecast(this, prepared, probed, passed=phases.passed, profiled=profiled))
        twins = [f"trained/{twin}" for twin in config.evaluation.baselines]
        with phases.phase("train", this, "trained/student", *twins):
            train_student(this, prepared, teaching=teaching, base=student, profiled=profiled)
    with phases.phase("evaluate", this, "report"):
        reported = evaluate(this, prepared, teacher, untouched=student, steps=profiled.planned.total_iterations)
    with phases.phase("export", this, "export"):
        export_student(this, prepared, reported, profiled.planned, teacher=teacher)
    return RunResult(export=this.out / "export", scores=reported.scores)


def _probed(this: Run, prepared: Prepared, probes: bool | None) -> Probed | None:
    """What some timed steps show, in a run of one process. One that goes on, or is over soon, is not held up by them."""
    begun = any((this.out / unit).exists() for unit in ("teacher_sft", "teacher", "profile", "train", "trained"))
    if begun or this.fleet.world > 1 or not (is_worth_probing(this, prepared) if probes is None else probes):
        return None
    return probe(this, prepared)


class _Phases:
    """Announces phases, and remembers the current one and what those that are over took."""

    def __init__(self, config: RunConfig, emit: Emit, clock: Callable[[], float]) -> None:
        names: tuple[Phase, ...] = ("prepare", "teacher_sft", "profile", "train", "evaluate", "export")
        self._names = [name for name in names if name != "teacher_sft" or config.teacher_sft is not None]
        self._emit = emit
        self._clock = clock
        self.current: Phase = "prepare"
        self.passed: dict[Phase, Seconds] = {}

    @contextmanager
    def phase(self, name: Phase, this: Run, *units: str) -> Iterator[None]:
        """The phase around a block; reused when all that it seals was there before."""
        this.stop_if_asked()
        self.current = name
        self._emit(PhaseStarted(phase=name, index=self._names.index(name), total=len(self._names)))
        started, busy = self._clock(), time.process_time()
        reused = all((this.out / unit).exists() for unit in units)
        yield
        took = Seconds(wall_s=self._clock() - started, cpu_s=time.process_time() - busy)
        self.passed[name] = took
        self._emit(PhaseFinished(phase=name, duration_s=took.wall_s, reused=reused, cpu_s=took.cpu_s))
