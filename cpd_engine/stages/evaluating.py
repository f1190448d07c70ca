"""Phase `evaluate`: teacher, untouched student, distilled student and twins on the test rows, and the table of them all."""

from __future__ import annotations

from pathlib import Path

import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore, assess
from cpd_engine.evaluation.report import build_report, metrics_of, samples
from cpd_engine.events import EVENT, Evaluated, Reported, Subject, to_json
from cpd_engine.models.load import load
from cpd_engine.repro import derived_seed
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.recalling import FILE, read_answers, recalled_answers, write_answers


def evaluate(run: Run, prepared: Prepared, teacher: Path, *, untouched: Path, steps: int) -> Reported:
    """Score every subject, each in a sealed directory of its own, and report. What is there is read and told again."""
    twins = run.config.evaluation.baselines
    paths: dict[Subject, Path] = {
        "teacher": teacher,
        "untouched": untouched,
        "student": run.out / "trained" / "student",
        **{twin: run.out / "trained" / twin for twin in twins},
    }
    answers = {subject: _answers(run, prepared, subject, path) for subject, path in paths.items()}
    with run.once("report") as mine:
        if mine:
            reported = build_report(
                answers,
                steps={"untouched": 0, "student": steps, **dict.fromkeys(twins, steps)},
                seed=derived_seed(run.config.seed, "bootstrap"),
            )
            with run.sealing("report", "report", metrics=reported.scores["student"]) as draft:
                (draft / "report.json").write_text(to_json(reported) + "\n", "utf-8")
                checkpoint.write_jsonl(draft / "samples.jsonl", samples(prepared.test.rows, answers))
    reported = _read_report(run.out / "report" / "report.json")
    run.emit(reported)
    return reported


def _answers(run: Run, prepared: Prepared, subject: Subject, path: Path) -> list[RowScore]:
    unit = f"evaluation/{subject}"
    if not run.stands(unit):
        _seal_answers(run, prepared, subject, path)
    found = read_answers(run.out / unit / FILE)
    run.emit(Evaluated(subject=subject, split="test", rows=len(found), metrics=metrics_of(found)))
    return found


def _seal_answers(run: Run, prepared: Prepared, subject: Subject, path: Path) -> None:
    dtype = run.runtime.frozen_dtype if subject == "teacher" else torch.float32
    settings = run.config.evaluation.generation

    def ask() -> list[RowScore]:
        return assess(
            load(path, dtype=dtype, device=run.runtime.device),
            prepared.test,
            settings=settings,
            end_ids=[prepared.end],
            runtime=run.runtime,
            on_progress=run.progress("evaluate", f"answers of {subject}"),
            should_stop=run.should_stop,
        )

    found = (
        recalled_answers(run, prepared, subject, path, dtype=str(dtype), ask=ask)
        if subject in ("teacher", "untouched")
        else ask()
    )
    if run.fleet.leads:
        metrics = metrics_of(found)
        with run.sealing(f"evaluation/{subject}", f"evaluation-{subject}", metrics=metrics) as draft:
            write_answers(draft / FILE, found)
            content = {"subject": subject, "rows": len(found), "metrics": metrics, "generation": settings.model_dump()}
            checkpoint.write_json(draft / "scores.json", content)
    run.fleet.wait()


def _read_report(path: Path) -> Reported:
    found = EVENT.validate_json(path.read_bytes())
    assert isinstance(found, Reported)
    return found
