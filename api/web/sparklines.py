"""Small pictures of a series, drawn into the page itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 96, 24, 2
# So many values are taken of a series.
SAMPLES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """`points` as SVG's polyline takes them, in a box of WIDTH × HEIGHT; what it goes from and to."""

    points: str
    first: float
    last: float


def sparkline(values: Sequence[float]) -> Sparkline | None:
    """A line through `values` at even distances, the largest on top; None for fewer than two."""
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    across = (WIDTH - 2 * MARGIN) / (len(values) - 1)
    up = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
    points = " ".join(f"{MARGIN + i * across:.1f},{HEIGHT - MARGIN - (v - low) * up:.1f}" for i, v in enumerate(values))
    return Sparkline(points=points, first=values[0], last=values[-1])


def sampled_steps(last: int) -> list[int]:
    """At most SAMPLES steps of 1 … `last` at even distances, the last among them."""
    return sorted({max(1, round(last * (i + 1) / SAMPLES)) for i in range(SAMPLES)})
