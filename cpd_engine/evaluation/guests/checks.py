"""Tests that are Python text: HumanEval's `check(candidate)`, MBPP's lists of asserts, EvalPlus's loops over inputs. Inside the sandbox.

Every `assert` is counted, and one that fails does not end the rest: the share of failing tests says how far off a program is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from cpd_engine.evaluation.guests.remote import Program, ProgramFailed
from cpd_engine.evaluation.guests.tally import Tally

_TALLY = "__tally__"


def examine(examination: dict[str, Any], program: Program) -> Iterator[tuple[str, Tally]]:
    """Run `base`, and `plus` where it is given: lists of texts, each in the names that `setup` makes and the program's own.

    `reference` (may be empty) is the data's own solution, for the helpers that tests use; `names` come from the program instead.
    Raises what `reference` and `imports` raise, and SyntaxError of any of the texts.
    """
    for suite in ("base", "plus"):
        if examination[suite] is None:
            continue
        tally = Tally()
        names: dict[str, Any] = {"__name__": "tests", _TALLY: tally}
        for text in (*examination["imports"], examination["reference"]):
            exec(compile(text, "reference", "exec"), names)
        tests = [_counting(text) for text in examination[suite]]
        try:
            names |= {name: program.named(name) for name in examination["names"]}
            exec(compile(examination["setup"], "setup", "exec"), names)
        except ProgramFailed as error:
            tally.failed_by(error)
        else:
            for test in tests:
                try:
                    exec(test, names)
                except BaseException as error:
                    tally.failed_by(error)
        if not tally.tests:
            # Tests that do not assert but call what raises: they came to their end.
            tally.passed()
        yield suite, tally


def _counting(text: str) -> Any:
    return compile(ast.fix_missing_locations(_Counting().visit(ast.parse(text))), "tests", "exec")


class _Counting(ast.NodeTransformer):
    """`assert X` becomes: try it, count it, go on. A call that stands alone and raises counts as one failed test, and the loop goes on."""

    def visit_Assert(self, node: ast.Assert) -> ast.Try:
        counted = ast.parse(f"{_TALLY}.passed()").body
        return ast.Try(body=[node], handlers=_handlers(), orelse=counted, finalbody=[])

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Try:
        if not isinstance(node.value, ast.Call):
            return node
        return ast.Try(body=[node], handlers=_handlers(), orelse=[], finalbody=[])


def _handlers() -> list[ast.ExceptHandler]:
    [template] = ast.parse(f"try: pass\nexcept BaseException as __error__: {_TALLY}.failed_by(__error__)").body
    assert isinstance(template, ast.Try)
    return template.handlers
