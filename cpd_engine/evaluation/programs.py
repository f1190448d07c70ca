"""The seam to the grader of programs (`cpd_engine.evaluation.code`, run in `cpd_engine.evaluation.sandbox`): the one module that knows it.

Fails closed: unless the operator allows code execution, and the sandbox opens, no suite of programs begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

from cpd_engine.data.records import Row
from cpd_engine.errors import ConfigInvalid
from cpd_engine.evaluation.settings import metrics


class Problem(Protocol):
    """What is asked: its id, and the whole prompt (Fig. 8)."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


class Verdict(Protocol):
    """How a program fared in the base tests and, of a plus task, in the harder ones; `reason` why it failed, None where it passed."""

    @property
    def passed(self) -> bool: ...
    @property
    def passed_plus(self) -> bool | None: ...
    @property
    def reason(self) -> str | None: ...


class Programs:
    """The problems of one suite and the means to grade programs that solve them."""

    def __init__(self, task: str, rows: Sequence[dict[str, Any]]) -> None:
        """Raises ConfigInvalid where no sandbox opens, and DatasetInvalid for a row that is no problem."""
        self._task, self._code = task, import_module("cpd_engine.evaluation.code")
        self._sandbox = import_module("cpd_engine.evaluation.sandbox").Sandbox.open()
        self._problems: Sequence[Problem] = self._code.read_problems(rows, task)

    @property
    def rows(self) -> list[Row]:
        """The problems as rows: the prompt, and no reference."""
        return [Row(problem.id, problem.prompt, "", "", ()) for problem in self._problems]

    def grade(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None], should_stop: Callable[[], bool]
    ) -> list[tuple[dict[str, float], str | None]]:
        """Scores by metric and why a program failed, in the order of the problems. Raises StopRequested."""
        verdicts: Sequence[Verdict] = self._code.grade(
            self._problems, texts, sandbox=self._sandbox, on_progress=on_progress, should_stop=should_stop
        )
        return [(self._scores(verdict), verdict.reason) for verdict in verdicts]

    def _scores(self, verdict: Verdict) -> dict[str, float]:
        return dict(
            zip(metrics(self._task), (float(verdict.passed), float(verdict.passed_plus or False)), strict=False)
        )


def require_code_execution(task: str, *, allowed: bool) -> None:
    """Raises ConfigInvalid for a task whose answers are programs, where running them is not allowed."""
    if not allowed:
        raise ConfigInvalid(
            f"evaluation.suites: {task} runs programs that a model has written, and code execution is off here; "
            "the operator can allow it, or leave the suite out"
        )
