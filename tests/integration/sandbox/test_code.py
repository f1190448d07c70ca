"""pass@1 in the real sandbox: the data's own solutions pass, broken ones fail, and every way to fail has its name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cpd_engine.errors import StopRequested
from cpd_engine.evaluation.code import CodeProblem, CodeTask, Verdict, grade, pass_at_1, read_problems
from cpd_engine.evaluation.sandbox import Sandbox
from tests.shared_data import shared_data
from tests.unit.evaluation.test_code_problems import HUB_MBPP_PLUS, HUMAN_EVAL, INPUTS, MBPP_FULL, RELEASED_MBPP_PLUS

FILES: dict[CodeTask, str] = {
    "humaneval": "humaneval/HumanEval.jsonl.gz",
    "humaneval_plus": "humaneval/HumanEvalPlus-v0.1.0.jsonl.gz",
    "mbpp": "mbpp/sample_sanitized.jsonl",
    "mbpp_plus": "mbpp/sample_plus.jsonl",
}
# One in twelve, and those with more than one right answer, helpers that the tests use, and answers of 70 MB.
SPECIAL = {"HumanEval/32", "HumanEval/38", "HumanEval/50", "HumanEval/160"}
HUB_HUMAN_EVAL_PLUS = HUMAN_EVAL | {
    "test": """
import numpy as np

def assertion(out, exp, atol):
    exact_match = out == exp
    if not exact_match and atol != 0:
        np.testing.assert_allclose(out, exp, atol=atol)
    else:
        assert exact_match

def check(candidate):
    inputs = [[1, 2], [0.1, 0.2], [-1, 1]]
    results = [3, 0.30000001, 0]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 1e-6)
"""
}


def graded(sandbox: Sandbox, problems: list[CodeProblem], answers: list[str]) -> list[Verdict]:
    return grade(problems, answers, sandbox=sandbox, on_progress=lambda _done, _of: None, should_stop=lambda: False)


def one(sandbox: Sandbox, row: dict[str, Any], task: CodeTask, program: str) -> Verdict:
    [verdict] = graded(sandbox, read_problems([row], task), [f"```python\n{program}\n```"])
    return verdict


@pytest.mark.parametrize("task", FILES)
def test_the_data_s_own_solutions_pass_and_broken_ones_do_not(generous: Sandbox, task: CodeTask) -> None:
    problems = read_problems(shared_data(*FILES[task].split("/")), task)
    some = [each for number, each in enumerate(problems) if number % 12 == 0 or each.id in SPECIAL]
    own = graded(generous, some, [f"```python\n{problem.solution}\n```" for problem in some])
    broken = graded(generous, some, [f"def {problem.entry_point}(*given):\n    return object()\n" for problem in some])

    assert [(p.id, v.reason) for p, v in zip(some, own, strict=True) if v.reason != "passed"] == []
    assert pass_at_1(own) == 100.0
    assert pass_at_1(broken) == 0.0
    assert {verdict.failing_share for verdict in own} == {0.0}
    assert all(verdict.failing_share > 0.5 for verdict in broken)
    if task.endswith("_plus"):
        assert (pass_at_1(own, plus=True), pass_at_1(broken, plus=True)) == (100.0, 0.0)


def test_an_answer_may_go_on_from_the_stub(sandbox: Sandbox) -> None:
    problems = read_problems(shared_data("humaneval", "HumanEval.jsonl.gz"), "humaneval")[:3]
    bodies = [problem.solution.removeprefix(problem.stub) for problem in problems]

    assert pass_at_1(graded(sandbox, problems, bodies)) == 100.0
    assert pass_at_1(graded(sandbox, problems, [body.strip() for body in bodies])) == 100.0


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def add(a, b): return a + b", "passed"),
        ("def add(a, b): return a - b", "wrong answer"),
        ("def add(a, b): raise KeyError(a)", "KeyError"),
        ("def add(a, b): return c", "NameError"),
        ("def add(a, b)\n    return a + b", "SyntaxError"),
        ("def add(a): return a", "TypeError"),
        ("def add(a, b): return add(a, b)", "RecursionError"),
        ("def add(a, b):\n    while True: pass", "timeout"),
        ("import os\ndef add(a, b): os._exit(0)", "crashed"),
        ("import sys\ndef add(a, b): sys.exit(0)", "SystemExit"),
        ("def plus(a, b): return a + b", "missing add"),
        ("def add(a, b): return a + b\nraise ValueError", "ValueError"),
        ("import numpy as np\ndef add(a, b): return np.add(a, b)", "passed"),
        ("import torch\ndef add(a, b): return a + b", "ModuleNotFoundError"),
    ],
)
def test_every_way_to_fail_has_its_name(sandbox: Sandbox, program: str, reason: str) -> None:
    assert one(sandbox, HUMAN_EVAL | INPUTS, "humaneval_plus", program).reason == reason


def test_the_share_of_failing_tests_is_told(sandbox: Sandbox) -> None:
    row = HUMAN_EVAL | INPUTS
    only_base = one(sandbox, row, "humaneval_plus", "def add(a, b): return 3 if a == 1 else 0")
    only_plus = one(sandbox, row, "humaneval_plus", "def add(a, b): return 0 if a == 1 else a + b")

    assert (only_base.passed, only_base.passed_plus, only_base.failing_share) == (True, False, 2 / 3)
    assert (only_plus.passed, only_plus.passed_plus, only_plus.failing_share) == (False, False, 1 / 3)


def test_after_a_time_out_or_a_crash_all_later_tests_have_failed(sandbox: Sandbox) -> None:
    row = HUMAN_EVAL | {"base_input": [[1, 2], [0, 0]], "plus_input": [[3, 4], [5, 6]], "atol": 0}
    hangs = one(sandbox, row, "humaneval_plus", "def add(a, b):\n    while not a: pass\n    return a + b")
    dies = one(sandbox, row, "humaneval_plus", "import os\ndef add(a, b): return a + b if a else os._exit(0)")
    missing = one(sandbox, row, "humaneval_plus", "def plus(a, b): return a + b")

    assert (hangs.failing_share, hangs.reason) == (3 / 4, "timeout")
    assert (dies.failing_share, dies.reason) == (3 / 4, "crashed")
    assert (missing.failing_share, missing.reason) == (1.0, "missing add")


def test_the_hub_s_forms_of_the_plus_tasks_are_run(sandbox: Sandbox) -> None:
    right = one(sandbox, HUB_HUMAN_EVAL_PLUS, "humaneval_plus", "def add(a, b): return a + b")
    lucky = one(sandbox, HUB_HUMAN_EVAL_PLUS, "humaneval_plus", "def add(a, b): return a + b + 1e-9")
    wrong = one(sandbox, HUB_HUMAN_EVAL_PLUS, "humaneval_plus", "def add(a, b): return 3")

    assert (right.passed, right.passed_plus, right.reason) == (True, True, "passed")
    assert (lucky.passed, lucky.passed_plus) == (True, True)
    assert (wrong.passed, wrong.passed_plus, wrong.failing_share) == (False, False, 2 / 3)
    mbpp = one(sandbox, HUB_MBPP_PLUS, "mbpp_plus", "def add(a, b): return a + b")
    assert (mbpp.passed, mbpp.passed_plus) == (True, True)


def test_tests_may_build_objects_of_the_program_s_classes(sandbox: Sandbox) -> None:
    row = MBPP_FULL | {
        "test_setup_code": "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\nroot1 = Node(1)\nroot1.left = Node(2)",
        "test_list": [
            "assert (height(root)) == 3",
            "assert height(root1) == 2",
            "assert list(height.walk(root)) == [1, 2, 3]",
        ],
    }
    program = """
class Node:
    def __init__(self, value): self.value, self.left = value, None
def walk(node):
    while node is not None:
        yield node.value
        node = node.left
def height(node): return len(list(walk(node)))
height.walk = walk
"""
    assert one(sandbox, row, "mbpp", program).reason == "passed"
    assert one(sandbox, row, "mbpp", program.replace("node.left\n", "None\n")).reason == "wrong answer"


def test_a_program_cannot_replace_what_a_test_wraps_it_in(sandbox: Sandbox) -> None:
    row = MBPP_FULL | {
        "code": "def pick(x): return x",
        "test_list": ["assert set(pick([1])) == set([1])"],
        "test_setup_code": "",
    }

    assert one(sandbox, row, "mbpp", "def set(x): return 1\ndef pick(x): return [2]").reason == "wrong answer"
    assert one(sandbox, row, "mbpp", "def pick(x): return [1, 1]").reason == "passed"


@pytest.mark.parametrize("row", [RELEASED_MBPP_PLUS | {"canonical_solution": "def shared(one, two): return 1 / 0"}])
def test_a_problem_whose_tests_do_not_run_is_told_apart(sandbox: Sandbox, row: dict[str, Any]) -> None:
    verdict = one(sandbox, row, "mbpp_plus", "def shared(one, two): return ()")

    assert (verdict.passed, verdict.passed_plus, verdict.reason) == (False, False, "tests unusable: ZeroDivisionError")
    assert math.isnan(verdict.failing_share)


def test_an_answer_without_a_program_is_not_run(sandbox: Sandbox) -> None:
    [verdict] = graded(sandbox, read_problems([MBPP_FULL], "mbpp"), ["I cannot."])

    assert verdict == Verdict(passed=False, passed_plus=None, failing_share=1.0, reason="no program")


def test_progress_is_told_and_a_stop_obeyed(sandbox: Sandbox) -> None:
    problems = read_problems([HUMAN_EVAL | {"task_id": str(number)} for number in range(6)], "humaneval")
    told: list[tuple[int, int]] = []
    grade(
        problems,
        ["    return a + b"] * 6,
        sandbox=sandbox,
        on_progress=lambda done, of: told.append((done, of)),
        should_stop=lambda: False,
    )

    assert told[-1] == (6, 6)
    assert told == sorted(told)
    with pytest.raises(StopRequested):
        grade(
            problems,
            ["    while True: pass"] * 6,
            sandbox=sandbox,
            on_progress=lambda _done, _of: None,
            should_stop=lambda: True,
        )


def test_there_is_an_answer_to_every_problem(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        graded(sandbox, read_problems([HUMAN_EVAL], "humaneval"), [])


def test_no_verdicts_have_no_score() -> None:
    with pytest.raises(ValueError, match="no verdicts"):
        pass_at_1([])
    with pytest.raises(ValueError, match="no verdicts"):
        pass_at_1([Verdict(passed=True, passed_plus=None, failing_share=0.0, reason="passed")], plus=True)
