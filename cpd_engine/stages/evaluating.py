"""Phase `evaluate`: teacher, untouched student, distilled student and twins on the test rows and the suites, and the table of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore, assess
from cpd_engine.evaluation.report import build_report, metrics_of, samples
from cpd_engine.events import EVENT, Evaluated, Reported, Subject, to_json
from cpd_engine.generate import Answer
from cpd_engine.models.load import load
from cpd_engine.repro import derived_seed
from cpd_engine.stages import suites as suite_answers
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.questions import Suite, read_suites
from cpd_engine.stages.recalling import (
    FILE,
    Codec,
    Untrained,
    answer_of,
    digest_of_prompts,
    is_untrained,
    read_answers,
    recalled,
    recalled_scores,
    write_answers,
)
from cpd_engine.stages.suites import Part, answer_suites, ask_now, report_suites


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
    suites = _answer_suites(run, prepared, paths)
    with run.once("report") as mine:
        if mine:
            seed = derived_seed(run.config.seed, "bootstrap")
            reported = build_report(
                answers, steps={"untouched": 0, "student": steps, **dict.fromkeys(twins, steps)}, seed=seed
            )
            with run.sealing("report", "report", metrics=reported.scores["student"]) as draft:
                reported = replace(reported, suites=report_suites(run, suites, list(paths), draft, seed=seed))
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

    found = recalled_scores(run, prepared, subject, path, dtype, ask) if is_untrained(subject) else ask()
    if run.fleet.leads:
        metrics = metrics_of(found)
        with run.sealing(f"evaluation/{subject}", f"evaluation-{subject}", metrics=metrics) as draft:
            write_answers(draft / FILE, found)
            content = {"subject": subject, "rows": len(found), "metrics": metrics, "generation": settings.model_dump()}
            checkpoint.write_json(draft / "scores.json", content)
    run.fleet.wait()


def _answer_suites(run: Run, prepared: Prepared, paths: Mapping[Subject, Path]) -> tuple[Suite, ...]:
    """The suites, once every subject's answers to them stand."""
    evaluation = run.config.evaluation
    chat, batch_size = run.config.template == "chat", evaluation.generation.batch_size
    suites = read_suites(run, evaluation.suites, chat=chat, batch_size=batch_size)
    for name, path in paths.items():
        dtype = run.runtime.frozen_dtype if name == "teacher" else torch.float32
        subject = suite_answers.Subject(
            name=name,
            loaded=partial(load, path, dtype=dtype, device=run.runtime.device),
            answers=partial(_recalled_part, run, prepared.end, name, path, dtype) if is_untrained(name) else ask_now,
        )
        answer_suites(run, suites, subject, tokenizer=prepared.tokenizer, end=prepared.end)
    return suites


def _recalled_part(
    run: Run,
    end: int,
    subject: Untrained,
    model: Path,
    dtype: torch.dtype,
    part: Part,
    ask: Callable[[], list[Answer]],
) -> list[Answer]:
    """A model's answers to a part; grades are made anew, so that a better grader is not kept from them."""
    settings = part.suite.settings
    parts = {
        "rows": [row.id for row in part.suite.rows],
        "prompts": digest_of_prompts(part.prompts),
        "settings": settings.generation.model_dump(),
        "stops": settings.stops,
        "seed": part.seed,
        "end": end,
    }
    return recalled(run, subject, model, dtype, parts, ask, codec=Codec(to_line=asdict, from_line=answer_of))


def _read_report(path: Path) -> Reported:
    found = EVENT.validate_json(path.read_bytes())
    assert isinstance(found, Reported)
    return found
