"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], *, within_s: float = 30.0, what: str = "") -> None:
    """Return as soon as `holds()` is true; AssertionError after `within_s`."""
    until = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(what or "the condition did not come true in time")
        time.sleep(0.01)
