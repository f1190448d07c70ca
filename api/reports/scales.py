"""Axes of a drawing: from values to pixels, and the numbers that stand along them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_PADDING = 0.06

Value = float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where values lie between two pixels. Categories lie at whole numbers, in their order."""

    low: float
    high: float
    first_px: float
    last_px: float
    categories: Sequence[str] = field(default=())

    def at(self, value: Value) -> float:
        """The pixel of a value, or of a category."""
        number = float(self.categories.index(value)) if isinstance(value, str) else float(value)
        share = (number - self.low) / (self.high - self.low)
        return self.first_px + share * (self.last_px - self.first_px)

    def ticks(self, most: int, style: str | None = None) -> list[tuple[Value, str]]:
        """Round values inside of the scale, about `most` of them, as they are written; every category where it has some."""
        if self.categories:
            return [(name, name) for name in self.categories]
        low, high = sorted((self.low, self.high))
        step = _round_step((high - low) / max(1, most))
        if style == "d":
            step = max(1.0, math.ceil(step))
        first = math.ceil(low / step - 1e-9)
        values = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
        return [(value, written(value, step, style)) for value in values]


def extent(values: Sequence[float], *, from_zero: bool, padded: bool = True) -> tuple[float, float]:
    """The least and the greatest that an axis shows of these values: with a little room, and with zero where it begins there."""
    low, high = min(values), max(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    room = _PADDING * (high - low) if padded else 0.0
    below = 0.0 if from_zero and low == 0.0 else room
    above = 0.0 if from_zero and high == 0.0 else room
    return low - below, high + above


def written(value: float, step: float, style: str | None) -> str:
    """`12k` for the style `~s`, whole numbers for `d`, percent for `.0%`, else as many decimals as the step wants."""
    if style is not None and style.endswith("%"):
        return f"{100 * value:.0f} %"
    if style == "~s":
        for size, prefix in _PREFIXES:
            if abs(value) >= size:
                return f"{value / size:.4g}{prefix}".replace("-", "−")
        return f"{value:.4g}".replace("-", "−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if _is_quarter(step) else 0)
    return f"{value:,.{min(decimals, 9)}f}".replace("-", "−")


def _is_quarter(step: float) -> bool:
    return math.isclose(step / 10.0 ** math.floor(math.log10(step)), 2.5)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next((step * power for step in _STEPS if step * power >= rough * (1 - 1e-9)), 10.0 * power)
