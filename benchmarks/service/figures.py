"""Figures of many measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence


def at_share(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of all are not above; nan where there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
