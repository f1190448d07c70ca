"""pass@1 of programs that a model has written: each is run against its problem's tests in a sandbox, several at once."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from cpd_engine.errors import StopRequested
from cpd_engine.evaluation.code_answers import program_of
from cpd_engine.evaluation.code_problems import PAPER_PROMPT, CodeProblem, CodeTask, read_problems
from cpd_engine.evaluation.examination import Examined
from cpd_engine.evaluation.sandbox import Sandbox

__all__ = ["PAPER_PROMPT", "CodeProblem", "CodeTask", "Verdict", "grade", "pass_at_1", "read_problems"]

_TICK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one answer.

    `passed`: every test of the original suite; `passed_plus`: EvalPlus's as well, None where the task has none. `failing_share`: of all
    tests, 0..1, NaN where they cannot be run. `reason`: "passed", "wrong answer", "timeout", "crashed", "no program", "missing NAME",
    "answer too large", "tests unusable: …", or the name of the exception that the program raised first.
    """

    passed: bool
    passed_plus: bool | None
    failing_share: float
    reason: str


def grade(
    problems: Sequence[CodeProblem],
    answers: Sequence[str],
    *,
    sandbox: Sandbox,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> list[Verdict]:
    """One verdict per problem, in order, of the answer at the same index. As many run at once as this process has cores.

    Raises StopRequested, SandboxUnavailable, and ValueError where there are not as many answers as problems.
    """
    stopping = threading.Event()

    def one(problem: CodeProblem, answer: str) -> Verdict:
        return _verdict(problem, answer, sandbox, stopping.is_set)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="grade") as threads:
        futures = [threads.submit(one, *pair) for pair in zip(problems, answers, strict=True)]
        pending: set[Future[Verdict]] = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=_TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                on_progress(len(futures) - len(pending), len(futures))
                if should_stop():
                    raise StopRequested
        finally:
            stopping.set()
            threads.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def pass_at_1(verdicts: Sequence[Verdict], *, plus: bool = False) -> float:
    """Percent of problems solved at the first try. ValueError without verdicts, or for `plus` where the task has no such tests."""
    passed = [verdict.passed_plus if plus else verdict.passed for verdict in verdicts]
    if not passed or None in passed:
        raise ValueError("no verdicts of these tests")
    return 100.0 * sum(bool(each) for each in passed) / len(passed)


def _verdict(problem: CodeProblem, answer: str, sandbox: Sandbox, should_stop: Callable[[], bool]) -> Verdict:
    program = program_of(answer, entry_point=problem.entry_point, stub=problem.stub)
    if program is None:
        return _failed(problem, "no program")
    found = sandbox.examine(program, problem.examination, should_stop=should_stop)
    if found.unusable is not None:
        return _failed(problem, f"tests unusable: {found.unusable}", share=math.nan)
    if found.cut_off:
        return _failed(problem, "timeout")
    return _judged(problem, found)


def _judged(problem: CodeProblem, found: Examined) -> Verdict:
    suites = found.suites
    passed = {name: bool(suite.tests) and not suite.failed for name, suite in suites.items()}
    reasons = [suite.reason for suite in suites.values() if suite.reason is not None]
    return Verdict(
        passed=passed["base"],
        passed_plus=all(passed.values()) if problem.plus else None,
        failing_share=sum(suite.failed for suite in suites.values()) / sum(suite.tests for suite in suites.values()),
        reason=reasons[0] if reasons else "passed",
    )


def _failed(problem: CodeProblem, reason: str, *, share: float = 1.0) -> Verdict:
    return Verdict(passed=False, passed_plus=False if problem.plus else None, failing_share=share, reason=reason)
