"""A real sandbox for tests, or the reason why this machine has none."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cpd_engine.errors import SandboxUnavailable
from cpd_engine.evaluation.examination import Examined, Limits
from cpd_engine.evaluation.sandbox import Sandbox

# Set where bubblewrap has to be there, so that a test without it fails: .ci/run does.
REQUIRED = "CPD_TEST_SANDBOX"


def open_or_skip(limits: Limits | None = None) -> Sandbox:
    """A sandbox; without one the test that asks is skipped, or fails where one is required."""
    try:
        return Sandbox.open(limits=limits)
    except SandboxUnavailable as error:
        if os.environ.get(REQUIRED):
            raise
        pytest.skip(f"{error}; apt-get install bubblewrap (docs/operations.md), then set {REQUIRED}=1 to insist")


def asserting(*tests: str, names: tuple[str, ...] = ("f",)) -> dict[str, Any]:
    """An examination by asserts that use `names` of the program."""
    checks = {"imports": [], "reference": "", "names": list(names), "setup": "", "base": list(tests), "plus": None}
    return {"kind": "checks", **checks}


def outcome(found: Examined) -> str:
    """ "passed", the reason why not, or that no verdict came."""
    if found.passed:
        return "passed"
    return "cut off" if found.cut_off else str(found.suites["base"].reason)
