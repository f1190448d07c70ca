"""The table of faults names tests that are there, and misses no fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs/decisions/0030-unkillable-by-tests-that-can-fail.md").read_text("utf-8")
ROWS = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_every_fault_has_a_row_and_every_row_a_test() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 20
    assert all("::test_" in row for row in ROWS)


def test_every_test_of_the_table_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
        if name not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{path}::{name}")
    assert not missing
    assert len(named) > 40
