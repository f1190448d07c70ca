"""The table of a comparison: read every run's rows, compare, draw, seal `table/` and tell of it. No torch model is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from cpd_engine import checkpoint
from cpd_engine.errors import ConfigInvalid, EngineError, NothingToCompare, StopRequested
from cpd_engine.evaluation.comparison import MemberRows, RunRows, compare
from cpd_engine.evaluation.report import METRICS
from cpd_engine.events import Checkpointed, Compared, Emit, Failed, Finished, MemberCosts, Stopped
from cpd_engine.members import SAMPLES, Member, MemberRun, TableSpec, budget_in_words
from cpd_engine.stages.table_figure import draw, panels

_SUBJECTS = ("student", "teacher", "untouched")


def make_table(
    path: Path, *, out: Path, emit: Emit, should_stop: Callable[[], bool], clock: Callable[[], float]
) -> Compared:
    """Carry out the TableSpec at `path`. The last event is Finished, Stopped or Failed. Raises StopRequested and EngineError."""
    started = clock()

    def between() -> None:
        if should_stop():
            raise StopRequested

    try:
        made = _compared(path, between)
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
    except (OSError, ValidationError) as error:
        raise ConfigInvalid(f"{path.name} is no table's spec: {error}") from error


def _compared(path: Path, between: Callable[[], None]) -> Compared:
    spec = read_table_spec(path)
    members = [_member(member, path.parent) for member in spec.members]
    if not any(member.runs for member in members):
        raise NothingToCompare("no run of this comparison has finished")
    try:
        return compare(
            members, baseline=spec.baseline, budget=budget_in_words(spec.budget), seed=spec.seed, between=between
        )
    except ValueError as error:
        raise NothingToCompare(str(error)) from error


def _member(member: Member, folder: Path) -> MemberRows:
    return MemberRows(
        label=member.label,
        runs=[_rows(run, folder / run.folder) for run in member.runs if run.folder is not None],
        failures=[run.ended for run in member.runs if run.folder is None],
    )


def _rows(run: MemberRun, folder: Path) -> RunRows:
    try:
        lines = checkpoint.read_jsonl(folder / SAMPLES)
        return RunRows(
            seed=run.seed,
            values={
                line["row"]: {
                    subject: {metric: float(line["answers"][subject][metric]) for metric in METRICS}
                    for subject in _SUBJECTS
                }
                for line in lines
            },
            supervised={line["row"]: float(line["answers"]["student"]["supervised"]) for line in lines},
            costs=MemberCosts(
                steps=run.steps,
                supervised_tokens=run.supervised_tokens,
                processed_tokens=run.processed_tokens,
                train_s=run.train_s,
                worker_s=run.worker_s,
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NothingToCompare(f"the rows of a run cannot be read: {type(error).__name__}") from error


def _seal(made: Compared, out: Path, emit: Emit) -> None:
    shown = panels(made)
    with checkpoint.sealing(out / "table") as draft:
        checkpoint.write_json(draft / "table.json", json.loads(json.dumps(asdict(made), allow_nan=False)))
        checkpoint.write_json(draft / "figure.json", {"panels": [asdict(panel) for panel in shown]})
        draw(made, shown, draft / "figure.png")
    files = checkpoint.sealed_files(out / "table")
    emit(Checkpointed(name="table", role="export", path="table", files=files, retained=("table",)))
