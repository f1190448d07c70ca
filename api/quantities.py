"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime


def duration(seconds: float | None) -> str:
    """`83.4` → `1:23`, an hour and more as `2:03:04`; `–` where it is not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count: int) -> str:
    """Bytes in decimal units: `93 MB`."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(value: int | None) -> str:
    """Thousands separated; `–` for None."""
    return "–" if value is None else f"{value:,}"


def number(value: float | None, digits: int) -> str:
    """A fixed number of digits; `–` for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def p_value(value: float | None) -> str:
    """Three digits; `–` where every pair is tied and nothing can be tested."""
    if value is None:
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)


def moment(value: datetime | None) -> str:
    """Local time to the second."""
    return "–" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
