"""Thinning a series."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.events.series import Point, thinned

AT = datetime(2026, 1, 1, tzinfo=UTC)


def series(values: list[float]) -> list[Point]:
    return [Point(step, value, AT) for step, value in enumerate(values, start=1)]


@given(st.lists(st.floats(-1e9, 1e9), max_size=300), st.integers(4, 50))
def test_ends_and_extremes_stay_and_the_limit_holds(values: list[float], limit: int) -> None:
    points = series(values)
    kept = thinned(points, limit)

    assert len(kept) <= limit
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    assert set(kept) <= set(points)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert {min(values), max(values)} <= {point.value for point in kept}


def test_a_series_that_fits_is_left_as_it_is() -> None:
    points = series([1.0, 2.0, 3.0, 4.0])

    assert thinned(points, 4) == points


def test_a_limit_that_cannot_hold_the_extremes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        thinned([], 3)
