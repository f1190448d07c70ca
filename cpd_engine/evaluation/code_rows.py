"""Training rows that carry tests, as problems. Runs nothing of what it reads."""

from __future__ import annotations

import re
from typing import Any

from cpd_engine.data.records import Row
from cpd_engine.errors import DatasetInvalid
from cpd_engine.evaluation.code_problems import CodeProblem, read_problems

_FENCED = re.compile(r"^\s*(?:```|~~~)[^\n]*\n(.*?)^\s*(?:```|~~~)\s*$", re.DOTALL | re.MULTILINE)


def problem_of(row: Row) -> CodeProblem | None:
    """The row's tests for answers to its prompt, in the forms of HumanEval and MBPP; None where it has none that can be used.

    Its response is the solution: the rest of a prompt that begins the function, a program, or one in a fenced block.
    """
    tests = row.tests
    if tests is None:
        return None
    fenced = _FENCED.search(row.response)
    solution = row.response if fenced is None else fenced[1]
    begins = bool(tests.entry_point) and re.search(
        rf"^\s*def\s+{re.escape(tests.entry_point)}\b", row.instruction, re.MULTILINE
    )
    told: dict[str, Any] = {
        **tests.fields(),
        "task_id": row.id,
        "prompt": row.instruction if begins and fenced is None else "",
        "canonical_solution": solution,
        "code": solution,
    }
    try:
        return read_problems([told], "humaneval" if tests.test else "mbpp")[0]
    except DatasetInvalid:
        return None
