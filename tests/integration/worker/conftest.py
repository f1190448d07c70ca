"""The fleet of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import Backend
from tests.integration.worker.fleet import Fleet


@pytest.fixture
def fleet(backend: Backend, tmp_path: Path) -> Iterator[Fleet]:
    """Workers on either backend."""
    made = Fleet(backend=backend, folder=tmp_path)
    try:
        yield made
    finally:
        made.close()
