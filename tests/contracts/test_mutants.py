"""Every patch of the mutation proof still applies, and names a test that is there. `make mutants` shows that each turns it red."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant, PatchDoesNotApply

EACH = pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])


@EACH
def test_a_patch_applies_and_leaves_code(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    applied = mutant.applied(text)
    assert ast.dump(ast.parse(applied)) != ast.dump(ast.parse(text))


@EACH
def test_its_test_is_there(mutant: Mutant) -> None:
    path, name = mutant.test.split("::")
    functions = [
        node.name for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
    ]
    assert name in functions


def test_a_patch_that_no_longer_applies_says_so() -> None:
    mutant = MUTANTS[0]
    for text in ("", mutant.before * 2):
        with pytest.raises(PatchDoesNotApply, match=mutant.name):
            mutant.applied(text)


def test_every_part_that_must_not_be_removable_is_taken_out() -> None:
    wanted = {"fence", "reaper-hold", "state-guard", "sync-of-a-checkpoint", "rename", "watchdog-of-the-engine"}
    assert wanted | {"idempotency-row", "tenant-of-a-read"} <= {mutant.name for mutant in MUTANTS}
