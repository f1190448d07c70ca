"""Thinning a metric series for a chart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

LEAST_POINTS = 4


class Point(NamedTuple):
    """A value of a series at an optimizer step."""

    step: int
    value: float
    at: datetime


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` (≥ 4) of `points`, in order: the first, the last, and of each stretch between them its lowest and highest.

    A spike of one step therefore stays visible at any zoom, which an average or every n-th point would hide.
    """
    if limit < LEAST_POINTS:
        raise ValueError(f"a thinned series keeps at least {LEAST_POINTS} points")
    if len(points) <= limit:
        return list(points)
    inner, stretches = points[1:-1], (limit - 2) // 2
    kept: list[Point] = [points[0]]
    for i in range(stretches):
        stretch = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        extremes = {min(stretch, key=_value), max(stretch, key=_value)}
        kept.extend(sorted(extremes, key=lambda point: point.step))
    return [*kept, points[-1]]


def _value(point: Point) -> float:
    return point.value
