"""The database's clock in statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from api.core.db import now
from tests.backends import Backend


def read(backend: Backend, seconds: float, compiled: dict[Any, Any]) -> tuple[datetime, datetime]:
    """The clock, and the clock moved; the compiled statements go into `compiled`."""
    with backend.engine.connect() as connection:
        options = connection.execution_options(compiled_cache=compiled)
        clock, moved = options.execute(select(now(), now(seconds))).one()
        return clock, moved


@pytest.mark.parametrize("seconds", [60.0, -0.5, 86_400.25])
def test_the_clock_moves_by_so_many_seconds(backend: Backend, seconds: float) -> None:
    clock, moved = read(backend, seconds, {})

    assert abs((moved - clock) - timedelta(seconds=seconds)) < timedelta(seconds=0.25)


def test_a_statement_with_the_clock_is_compiled_once_whatever_the_seconds(backend: Backend) -> None:
    compiled: dict[Any, Any] = {}
    for seconds in (1.0, 60.0, -5.0):
        read(backend, seconds, compiled)

    assert len(compiled) == 1
