"""Waiting in tests: for a condition, until a deadline, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TICK_S = 0.02


def eventually(condition: Callable[[], T], *, within_s: float, what: str) -> T:
    """The condition's first true value. Fails the test, saying `what` did not happen, after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {within_s:.0f} s")
        time.sleep(TICK_S)
    return value
