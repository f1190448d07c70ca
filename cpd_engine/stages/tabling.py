"""The table of a comparison: read every run's rows, compare, draw, seal `table/` and tell of it. No torch model is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ValidationError

from cpd_engine import checkpoint
from cpd_engine.config import SuiteSpec
from cpd_engine.errors import ConfigInvalid, EngineError, NothingToCompare, StopRequested
from cpd_engine.evaluation.comparison import (
    MemberRows,
    RunRows,
    SuiteRows,
    Terms,
    compare,
    compare_suite,
    mean_costs,
)
from cpd_engine.evaluation.settings import metrics, seeds
from cpd_engine.events import Checkpointed, Compared, Emit, Failed, Finished, MemberCosts, Progressed, Stopped
from cpd_engine.members import SAMPLES, Member, MemberRun, TableSpec, budget_in_words, rows_of_suite
from cpd_engine.stages.run_rows import suite_rows, test_rows
from cpd_engine.stages.table_figure import draw, panels

# How often a table that takes its time says so: an engine that is silent for long is taken to hang.
_TELL_S = 30.0


def make_table(
    path: Path, *, out: Path, emit: Emit, should_stop: Callable[[], bool], clock: Callable[[], float]
) -> Compared:
    """Carry out the TableSpec at `path`. The last event is Finished, Stopped or Failed. Raises StopRequested and EngineError."""
    started = clock()
    try:
        made = _compared(path, emit, should_stop, clock)
        _seal(made, out, emit)
    except StopRequested:
        emit(Stopped(phase="evaluate"))
        raise
    except EngineError as error:
        emit(Failed(code=error.code, message=str(error)))
        raise
    emit(made)
    emit(Finished(duration_s=clock() - started))
    return made


def read_table_spec(path: Path) -> TableSpec:
    """Raises ConfigInvalid."""
    try:
        return TableSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}; name a table's spec, as a worker writes it") from error
    except ValidationError as error:
        raise ConfigInvalid(f"{path.name} is no table's spec: {error}") from error


class _Told:
    """What a table is at: said at each of its parts and now and then; obeys a stop between two pieces of work."""

    def __init__(self, emit: Emit, should_stop: Callable[[], bool], clock: Callable[[], float], parts: int) -> None:
        self._emit, self._should_stop, self._clock = emit, should_stop, clock
        self._parts, self._part, self._name, self._told_at = parts, 0, "", clock()

    def begin(self, name: str) -> None:
        """The next part, by its name."""
        self._part, self._name = self._part + 1, name
        self._tell()

    def between(self) -> None:
        """Raises StopRequested."""
        if self._should_stop():
            raise StopRequested
        if self._clock() - self._told_at >= _TELL_S:
            self._tell()

    def _tell(self) -> None:
        self._told_at = self._clock()
        label = f"table of {self._name}"
        self._emit(Progressed(phase="evaluate", label=label, done=self._part - 1, total=self._parts))


def _compared(path: Path, emit: Emit, should_stop: Callable[[], bool], clock: Callable[[], float]) -> Compared:
    spec = read_table_spec(path)
    if not any(run.folder is not None for member in spec.members for run in member.runs):
        raise NothingToCompare("no run of this comparison has finished")
    told = _Told(emit, should_stop, clock, parts=1 + len(spec.suites))
    terms = Terms(baseline=spec.baseline, seed=spec.seed, between=told.between)
    told.begin("the test rows")
    try:
        members = _members(spec, path.parent, lambda folder, seed: test_rows(folder / SAMPLES, seed), told)
        made = compare(members, terms, budget=budget_in_words(spec.budget))
    except ValueError as error:
        raise NothingToCompare(str(error)) from error
    suites, notes = [], _notes(spec)
    for suite in spec.suites:
        told.begin(suite.title)
        try:
            suites.append(compare_suite(_suite(spec, suite, path.parent, told), terms))
        except ValueError as error:
            notes = (*notes, f"Suite {suite.title} is left out: {error}.")
    return replace(made, suites=tuple(suites), notes=notes)


def _suite(spec: TableSpec, suite: SuiteSpec, folder: Path, told: _Told) -> SuiteRows:
    names = metrics(suite.task)
    file = rows_of_suite(suite.title)
    members = _members(spec, folder, lambda run, seed: suite_rows(run / file, seed, names), told)
    return SuiteRows(suite=suite.title, task=suite.task, seeds=seeds(suite), metrics=names, members=members)


def _members(spec: TableSpec, folder: Path, read: Callable[[Path, int], RunRows], told: _Told) -> list[MemberRows]:
    """Every member with the rows of its finished runs, of one file each."""
    made = []
    for member in spec.members:
        runs = []
        for run in member.runs:
            told.between()
            if run.folder is not None:
                runs.append(read(folder / run.folder, run.seed))
        failures = [run.ended for run in member.runs if run.folder is None]
        made.append(MemberRows(label=member.label, runs=runs, failures=failures, costs=_costs(member)))
    return made


def _costs(member: Member) -> MemberCosts:
    return mean_costs([_cost(run) for run in member.runs if run.folder is not None])


def _cost(run: MemberRun) -> MemberCosts:
    return MemberCosts(
        steps=run.steps,
        supervised_tokens=run.supervised_tokens,
        processed_tokens=run.processed_tokens,
        train_s=run.train_s,
        worker_s=run.worker_s,
    )


def _notes(spec: TableSpec) -> tuple[str, ...]:
    if not spec.judged:
        return ()
    told = f"What the judge said of {', '.join(spec.judged)} is not in this table: each run's own report has it, as `judged`"
    return (f"{told} (cpd show JOB, or GET /v1/jobs/JOB/evaluation).",)


def _seal(made: Compared, out: Path, emit: Emit) -> None:
    shown = panels(made)
    with checkpoint.sealing(out / "table") as draft:
        checkpoint.write_json(draft / "table.json", json.loads(json.dumps(asdict(made), allow_nan=False)))
        checkpoint.write_json(draft / "figure.json", {"panels": [asdict(panel) for panel in shown]})
        draw(made, shown, draft / "figure.png")
    files = checkpoint.sealed_files(out / "table")
    emit(Checkpointed(name="table", role="export", path="table", files=files, retained=("table",)))
