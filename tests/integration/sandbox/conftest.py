"""Two sandboxes for all tests of a process, one with short limits and one with those that a job has."""

from __future__ import annotations

import pytest

from cpd_engine.evaluation.examination import Limits
from cpd_engine.evaluation.sandbox import Sandbox
from tests.sandboxed import open_or_skip


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return open_or_skip(Limits(wall_s=30.0, call_s=3.0, memory_bytes=2**29))


@pytest.fixture(scope="session")
def generous() -> Sandbox:
    return open_or_skip()
