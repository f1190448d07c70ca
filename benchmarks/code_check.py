"""`make code-check`: every problem of the code tasks with its own solution and with a broken one, in the sandbox.

Prints pass@1 and seconds; exits with 1 where a solution of the data's own does not pass, or a broken one does.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import get_args

from cpd_engine.evaluation.code import CodeProblem, CodeTask, Verdict, grade, read_problems
from cpd_engine.evaluation.sandbox import Sandbox

_FILES: dict[CodeTask, str] = {
    "humaneval": "humaneval/HumanEval.jsonl.gz",
    "humaneval_plus": "humaneval/HumanEvalPlus-v0.1.0.jsonl.gz",
    "mbpp": "mbpp/sample_sanitized.jsonl",
    "mbpp_plus": "mbpp/sample_plus.jsonl",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Check the tasks that are named, all by default; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.code_check", description=__doc__)
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(_FILES.values())}")
    parser.add_argument("tasks", nargs="*", help=f"some of {', '.join(get_args(CodeTask))} [default: all]")
    arguments = parser.parse_args(argv)
    sandbox = Sandbox.open()
    wrong = 0
    print(f"{'task':16}{'answers':10}{'problems':>9}{'passed':>8}{'plus':>6}{'seconds':>9}")
    for task in arguments.tasks or _FILES:
        problems = read_problems(arguments.data / _FILES[task], task)
        own = [f"```python\n{problem.solution}\n```" for problem in problems]
        broken = [f"```python\ndef {problem.entry_point}(*given):\n    return object()\n```" for problem in problems]
        wrong += _check(sandbox, task, "own", problems, own)
        wrong += _check(sandbox, task, "broken", problems, broken)
    return int(wrong > 0)


def _check(sandbox: Sandbox, task: str, kind: str, problems: Sequence[CodeProblem], answers: Sequence[str]) -> int:
    """Grade and print a line, and one for each surprise; how many there are."""
    began = monotonic()
    verdicts = grade(problems, answers, sandbox=sandbox, on_progress=lambda _done, _of: None, should_stop=lambda: False)
    passed = sum(verdict.passed for verdict in verdicts)
    plus = str(sum(bool(verdict.passed_plus) for verdict in verdicts)) if problems[0].plus else "-"
    print(f"{task:16}{kind:10}{len(problems):9}{passed:8}{plus:>6}{monotonic() - began:9.1f}", flush=True)
    surprising = [pair for pair in zip(problems, verdicts, strict=True) if _surprises(pair[1], kind)]
    for problem, verdict in surprising:
        print(f"  {problem.id}: {verdict.reason}")
    reasons = Counter(verdict.reason for verdict in verdicts)
    print(f"  {', '.join(f'{reason}: {count}' for reason, count in reasons.most_common())}")
    return len(surprising)


def _surprises(verdict: Verdict, kind: str) -> bool:
    wanted = kind == "own"
    return verdict.passed is not wanted or verdict.passed_plus not in (None, wanted)


if __name__ == "__main__":
    sys.exit(main())
