"""Rules of CONTRIBUTING.md that neither ruff nor mypy knows. An exception is listed here with its reason, or it does not exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("api", "worker", "cpd_engine", "benchmarks", "recipes/paper", "reference")
MODULE_LINES = 250
FUNCTION_LINES = 40
BANNED = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

LONGER_MODULES = {
    "api/core/errors.py": "one class a fact after another: every refusal of the service on one page",
    "cpd_engine/config.py": "one frozen class after another: the whole wire format of a run on one page",
    "cpd_engine/events.py": "one frozen class after another: the whole event format on one page",
}
LONGER_FUNCTIONS: dict[str, str] = {}

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a module as `path::name`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(f"{relative(path)}::{node.name}", node) for node in ast.walk(tree) if isinstance(node, kinds)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and its docstring: a long explanation is no fault."""
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=relative)
def test_a_package_file_is_empty(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == "", "importing a package runs nothing: move this to a module with a name"


def test_a_module_fits_its_line_budget() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = {name: lines for name, lines in lengths.items() if lines > MODULE_LINES and name not in LONGER_MODULES}

    assert not long, f"split these by meaning, or give the reason in LONGER_MODULES: {long}"


def test_a_function_fits_its_line_budget() -> None:
    lengths = {name: body_lines(node) for path in SOURCES for name, node in functions(path)}
    long = {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES and name not in LONGER_FUNCTIONS}

    assert not long, f"split these by meaning, or give the reason in LONGER_FUNCTIONS: {long}"


def test_an_exception_that_is_no_longer_needed_is_taken_off_the_list() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    spans = {name: body_lines(node) for path in SOURCES for name, node in functions(path)}

    assert {name for name in LONGER_MODULES if lengths.get(name, 0) <= MODULE_LINES} == set()
    assert {name for name in LONGER_FUNCTIONS if spans.get(name, 0) <= FUNCTION_LINES} == set()


def test_a_name_says_what_it_is() -> None:
    modules = {relative(path) for path in SOURCES if BANNED & set(path.relative_to(ROOT).with_suffix("").parts)}
    classes = {
        f"{relative(path)}::{node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.lower().endswith(("utils", "helper", "manager", "misc"))
    }

    assert not modules | classes, f"name these for what they hold: {sorted(modules | classes)}"


def test_a_module_says_what_it_is_for() -> None:
    silent = [
        relative(path)
        for path in SOURCES
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert not silent, f"these modules have no docstring: {silent}"


def test_a_note_of_work_to_do_is_an_issue_and_not_a_comment() -> None:
    marks = ("TODO", "FIXME", "XXX", "HACK")
    left = [
        f"{relative(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(mark in line for mark in marks)
    ]

    assert not left, f"finish these or file them: {left}"


def test_a_migration_is_named_by_its_date() -> None:
    versions = [path.name for path in (ROOT / "migrations").rglob("*.py") if path.parent.name == "versions"]
    undated = [name for name in versions if not re.match(r"\d{4}_\d\d_\d\d_", name) and name != "__init__.py"]

    assert not undated, f"a migration's name begins with its date, as 2026_11_24_name.py: {undated}"
