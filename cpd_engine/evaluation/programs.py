"""Suites whose answers are programs. Fails closed: unless the operator allows code execution and a sandbox opens, none begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from cpd_engine.data.records import Row
from cpd_engine.errors import ConfigInvalid
from cpd_engine.evaluation.code import CodeTask, Verdict, grade, read_problems
from cpd_engine.evaluation.sandbox import Sandbox
from cpd_engine.evaluation.settings import metrics


class Programs:
    """The problems of one suite and the sandbox in which programs that solve them are graded."""

    def __init__(self, task: str, rows: Sequence[dict[str, Any]]) -> None:
        """Raises SandboxUnavailable where none opens, and DatasetInvalid for a row that is no problem."""
        self._task = task
        self._problems = read_problems(rows, cast(CodeTask, task))
        self._sandbox = Sandbox.open()

    def rows(self, *, chat: bool) -> list[Row]:
        """The problems as rows: Fig. 8 whole, or of it the request that a user's turn makes; no reference."""
        return [
            Row(problem.id, problem.prompt if chat else problem.paper_prompt, "", "", ()) for problem in self._problems
        ]

    def grade(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None], should_stop: Callable[[], bool]
    ) -> list[tuple[dict[str, float], str | None]]:
        """Scores by metric and why a program failed, in the order of the problems. Raises StopRequested."""
        verdicts = grade(self._problems, texts, sandbox=self._sandbox, on_progress=on_progress, should_stop=should_stop)
        return [(self._scores(verdict), None if verdict.passed else verdict.reason) for verdict in verdicts]

    def _scores(self, verdict: Verdict) -> dict[str, float]:
        passed = [verdict.passed] if verdict.passed_plus is None else [verdict.passed, verdict.passed_plus]
        return {metric: float(each) for metric, each in zip(metrics(self._task), passed, strict=True)}


def require_code_execution(task: str, *, allowed: bool) -> None:
    """Raises ConfigInvalid for a task whose answers are programs, where running them is not allowed."""
    if not allowed:
        raise ConfigInvalid(
            f"evaluation.suites: {task} runs programs that a model has written, and code execution is off here; "
            "the operator can allow it, or leave the suite out"
        )
