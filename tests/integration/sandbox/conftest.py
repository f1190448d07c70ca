"""One sandbox with short limits for all tests of a process."""

from __future__ import annotations

import pytest

from cpd_engine.evaluation.examination import Limits
from cpd_engine.evaluation.sandbox import Sandbox
from tests.sandboxed import open_or_skip


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return open_or_skip(Limits(wall_s=30.0, call_s=2.0, memory_bytes=2**29))
