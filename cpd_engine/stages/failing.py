"""How wrong answers to training rows are: by their final answer (maths), or by the tests that the row carries (code)."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Literal

from cpd_engine.config import RunConfig
from cpd_engine.data.records import Row
from cpd_engine.errors import ConfigInvalid, DatasetInvalid
from cpd_engine.evaluation.code import grade as grade_programs
from cpd_engine.evaluation.code_rows import problem_of
from cpd_engine.evaluation.grading import grade
from cpd_engine.evaluation.maths import final_answer
from cpd_engine.evaluation.sandbox import Sandbox
from cpd_engine.inputs import Inputs

OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """`share`: 0 for a right answer, 1 for a wrong one, between them the tests that fail; None where nothing can be told.

    `parsed`: the final answer that was found, or why a program failed.
    """

    share: float | None
    parsed: str | None


def require_allowed(config: RunConfig, inputs: Inputs) -> None:
    """Raises ConfigInvalid where the difficulty runs programs and that is not allowed; SandboxUnavailable where none opens."""
    if config.difficulty != "tests":
        return
    if not inputs.code_execution:
        raise ConfigInvalid(
            "difficulty 'tests' runs programs that a model has written, and code execution is off here; the operator can allow it, "
            "or take another difficulty"
        )
    Sandbox.open()


def require_gradable(config: RunConfig, rows: Iterable[Row]) -> None:
    """Raises DatasetInvalid where none of the rows has what the difficulty compares answers with."""
    if config.difficulty == "answer" and not any(final_answer(row.response) is not None for row in rows):
        raise DatasetInvalid(
            "difficulty 'answer' compares final answers, and no training row's response has one: a \\boxed{}, "
            '"the answer is" or a number'
        )
    if config.difficulty == "tests" and not any(problem_of(row) is not None for row in rows):
        raise DatasetInvalid(
            "difficulty 'tests' runs the tests of the training rows, and none carries any that can be run: "
            "test_list, or test and entry_point"
        )


def grader(kind: str | None) -> str:
    """What decides, and its version: other jobs' grades are taken over from the same one only."""
    return (
        f"math-verify {metadata.version('math-verify')}" if kind == "answer" else f"python {platform.python_version()}"
    )


def failing(
    kind: Literal["answer", "tests"],
    rows: Sequence[Row],
    texts: Sequence[str],
    *,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> list[Failing]:
    """Of each text, in the rows' order. Raises StopRequested and SandboxUnavailable."""
    by = _by_answer if kind == "answer" else _by_tests
    told = by(rows, texts, on_progress, should_stop)
    return [told.get(at, Failing(share=None, parsed=None)) for at in range(len(rows))]


def _by_answer(
    rows: Sequence[Row], texts: Sequence[str], on_progress: OnProgress, should_stop: ShouldStop
) -> dict[int, Failing]:
    golds = {at: gold for at, row in enumerate(rows) if (gold := final_answer(row.response)) is not None}
    asked = [replace(rows[at], references=(gold,)) for at, gold in golds.items()]
    said = [texts[at] for at in golds]
    grades = grade("math", asked, said, programs=None, on_progress=on_progress, should_stop=should_stop)
    return {
        at: Failing(share=1.0 - found.scores["accuracy"], parsed=found.parsed)
        for at, found in zip(golds, grades, strict=True)
    }


def _by_tests(
    rows: Sequence[Row], texts: Sequence[str], on_progress: OnProgress, should_stop: ShouldStop
) -> dict[int, Failing]:
    problems = {at: problem for at, row in enumerate(rows) if (problem := problem_of(row)) is not None}
    verdicts = grade_programs(
        list(problems.values()),
        [texts[at] for at in problems],
        sandbox=Sandbox.open(),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return {
        at: Failing(share=None if math.isnan(found.failing_share) else found.failing_share, parsed=found.reason)
        for at, found in zip(problems, verdicts, strict=True)
    }
