"""Is one model better than another on the same rows? Paired, so that the difficulty of the rows cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
        interval=_bootstrap_interval(differences, np.random.default_rng(seed)),
        p_value=float(stats.wilcoxon(differences).pvalue) if non_zero else None,
        non_zero=non_zero,
        rows=differences.size,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: p₍ᵢ₎ counts max_{j ≤ i} min(1, (m − j + 1)·p₍ⱼ₎) (Holm 1979).

    Rejecting where the adjusted value is at most a keeps the chance of any false rejection among all m at most a, whatever their
    dependence. Raises ValueError for a value outside 0..1.
    """
    if any(not 0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("p-values lie between 0 and 1")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _bootstrap_interval(differences: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    rows = differences.size
    chunks = [differences[random.integers(rows, size=(_CHUNK, rows))].mean(axis=1) for _ in range(_RESAMPLES // _CHUNK)]
    low, high = np.quantile(np.concatenate(chunks), (0.025, 0.975))
    return float(low), float(high)
