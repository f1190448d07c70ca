"""Is one model better than another on the same rows? Paired, so that the difficulty of the rows cancels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_RESAMPLES = 10_000
# Resampled at a time, so that memory stays flat in the number of rows.
_CHUNK = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Mean of `student − other`, its 95 % percentile-bootstrap interval, and the two-sided Wilcoxon signed-rank p.

    `p_value` is None where every pair is tied: the test then says nothing.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float | None
    non_zero: int
    rows: int


def paired(student: Sequence[float], other: Sequence[float], *, seed: int) -> Paired:
    """Compare two models' scores of the same rows in the same order. Equal arguments give equal intervals.

    Raises ValueError where the lengths differ, there is no row or a score is not finite.
    """
    differences = np.asarray(student, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if differences.ndim != 1 or not differences.size or len(student) != len(other):
        raise ValueError(f"paired scores need the same rows, at least one: {len(student)} against {len(other)}")
    if not np.isfinite(differences).all():
        raise ValueError("paired scores must be finite")
    non_zero = int(np.count_nonzero(differences))
    return Paired(
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences, np.ones(differences.size), seed=seed),
        p_value=float(stats.wilcoxon(differences).pvalue) if non_zero else None,
        non_zero=non_zero,
        rows=differences.size,
    )


def bootstrap_interval(values: NDArray[np.float64], weights: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the mean of `values` [N] under `weights` [N] > 0, over resampled rows."""
    random, rows = np.random.default_rng(seed), values.size
    weighted = values * weights
    means = []
    for _ in range(_RESAMPLES // _CHUNK):
        drawn = random.integers(rows, size=(_CHUNK, rows))
        means.append(weighted[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of independent values, such as one a seed, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    found = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(found.std(ddof=1)) / math.sqrt(len(values))
    return float(found.mean()) - half, float(found.mean()) + half


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given: p₍ᵢ₎ counts max_{j ≤ i} min(1, (m − j + 1)·p₍ⱼ₎) (Holm 1979).

    Rejecting where the adjusted value is at most a keeps the chance of any false rejection among all m at most a, whatever their
    dependence. None, where nothing could be tested, stays None and does not count. Raises ValueError for a value outside 0..1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    if any(not 0.0 <= p <= 1.0 for p, _ in tested):
        raise ValueError("p-values lie between 0 and 1")
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = highest
    return adjusted
