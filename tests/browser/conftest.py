"""A browser on a served API, each test on a fresh SQLite backend: the pages are the same on the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import Backend, backend, broker_server, postgres_server, sqlite_template, worker_number
from tests.browser.chromium import MISSING, Chromium, chromium, is_installed
from tests.integration.http.api import Api, serving

__all__ = ["backend", "broker_server", "postgres_server", "sqlite_template", "worker_number"]


def require_chromium() -> None:
    """Skips a test that has no browser; fails it where CPD_TEST_BROWSER=1 says that there is one, as .ci/run does."""
    if not is_installed():
        assert os.environ.get("CPD_TEST_BROWSER") != "1", MISSING
        pytest.skip(MISSING)


@pytest.fixture
def api(backend: Backend) -> Iterator[Api]:
    """The API, served, with streams that a test need not wait for."""
    with serving(backend.with_settings(stream_poll_s=0.05, stream_ping_s=0.5)) as made:
        yield made


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Chromium]:
    """A Chromium."""
    require_chromium()
    with chromium(tmp_path / "browser") as made:
        yield made


@pytest.fixture
def plain_window(tmp_path: Path) -> Iterator[Chromium]:
    """A Chromium that runs no script."""
    require_chromium()
    with chromium(tmp_path / "plain-browser", scripts=False) as made:
        yield made
