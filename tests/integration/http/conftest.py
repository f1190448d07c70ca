"""The API on each backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends import Backend
from tests.integration.http.api import Api, serving


@pytest.fixture
def short(backend: Backend) -> Backend:
    """The backend with limits and intervals that a test can reach."""
    return backend.with_settings(
        stream_poll_s=0.05,
        stream_ping_s=0.2,
        body_timeout_s=1.0,
        upload_max_bytes=200_000,
        queued_max=5,
        hub_endpoint="http://127.0.0.1:9",
        model_roots=[],
        webhooks="any",
    )


@pytest.fixture
def api(short: Backend) -> Iterator[Api]:
    """The API, served."""
    with serving(short) as made:
        yield made
