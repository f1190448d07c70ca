"""What the records say: every method's scores over seeds, and the differences that chance does not explain.

Two sources of chance are kept apart: the seed (other training rows, another order) and the test row. Differences are paired in both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.quality.families import FAMILIES
from benchmarks.quality.ledger import Record, unpacked
from cpd_engine.evaluation.report import LOWER_IS_BETTER
from cpd_engine.evaluation.significance import paired

_RESAMPLES = 4000
# `kl` is a distance to the teacher.
_LOWER = LOWER_IS_BETTER | {"kl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A method in a family: its mean over seeds with the half-width of its 95 % t interval (None for one seed), by metric."""

    method: str
    tau_1: float
    tau_n: float
    learning_rate: float
    seeds: tuple[int, ...]
    by_seed: dict[str, tuple[float, ...]]
    closed: tuple[float, ...]
    tokens: float
    cpu_s: float

    @property
    def gap_closed(self) -> float:
        """The share of the gap between untouched student and teacher, the mean over seeds."""
        return float(np.mean(self.closed))

    @property
    def closed_half_width(self) -> float | None:
        """Of its interval."""
        return _half_width(self.closed)

    def mean(self, metric: str) -> float:
        """Over the seeds."""
        return float(np.mean(self.by_seed[metric]))

    def half_width(self, metric: str) -> float | None:
        """Of the interval of the mean over seeds."""
        return _half_width(self.by_seed[metric])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One method less another in a family, more is better: by seed and as the mean, in points or nats of the family's metric.

    `by_rows`: Wilcoxon's p over test rows, seeds averaged per row, with `non_zero` of them; `by_seeds`: the paired t test's p over seeds.
    """

    method: str
    other: str
    by_seed: tuple[float, ...]
    mean: float
    interval: tuple[float, float]
    by_rows: float | None
    non_zero: int
    by_seeds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """One method less another over all families, in shares of the gap between untouched student and teacher, families weighing alike.

    `p`: two-sided, of Welch's t over the families' seeds; `interval`: 95 %, of a bootstrap that draws seeds and test rows anew.
    """

    method: str
    other: str
    by_family: dict[str, float]
    mean: float
    interval: tuple[float, float]
    p: float


Scored = Mapping[str, Mapping[int, Record]]


def scored(records: Iterable[Record], family: str) -> dict[str, dict[int, Record]]:
    """The records of test scores in a family, by method and seed.

    Only those of the setup that ran last, and of a method those with the setting that ran last: no other is mixed with them.
    """
    own = [record for record in records if record.unit.family == family and record.unit.role == "score"]
    latest = {record.unit.method: replace(record.unit, seed=0) for record in own}
    found: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in own:
        if record.unit.setup == own[-1].unit.setup and replace(record.unit, seed=0) == latest[record.unit.method]:
            found[record.unit.method][record.unit.seed] = record
    return dict(found)


def standing(of: Mapping[int, Record], family: str) -> Standing:
    """One method's."""
    records = [of[seed] for seed in sorted(of)]
    first = records[0].unit
    return Standing(
        method=first.method,
        tau_1=first.tau_1,
        tau_n=first.tau_n,
        learning_rate=first.learning_rate,
        seeds=tuple(sorted(of)),
        by_seed={metric: tuple(one.scores[metric] for one in records) for metric in records[0].scores},
        closed=tuple(_closed(one, family) for one in records),
        tokens=float(np.mean([one.tokens for one in records])),
        cpu_s=float(np.mean([one.cpu_s for one in records])),
    )


def difference(of: Scored, method: str, other: str, family: str) -> Difference:
    """Over the seeds that both have. Raises ValueError where they share none."""
    seeds = _shared(of, method, other)
    values, others = (_rows(of[name], seeds, family) for name in (method, other))
    over_rows = paired(values.mean(axis=0).tolist(), others.mean(axis=0).tolist(), seed=0)
    metric = FAMILIES[family].metric
    sign, unit = (-1.0, 1.0) if metric in _LOWER else (1.0, 100.0)
    by_seed = [sign * (of[method][s].scores[metric] - of[other][s].scores[metric]) for s in seeds]
    return Difference(
        method=method,
        other=other,
        by_seed=tuple(by_seed),
        mean=float(np.mean(by_seed)),
        interval=(unit * over_rows.interval[0], unit * over_rows.interval[1]),
        by_rows=over_rows.p_value,
        non_zero=over_rows.non_zero,
        by_seeds=float(stats.ttest_1samp(by_seed, 0.0).pvalue) if len(seeds) > 1 and np.ptp(by_seed) > 0 else None,
    )


def overall(families: Mapping[str, Scored], method: str, other: str) -> Overall:
    """Over the families that have both. Raises ValueError where there is none, or where one has them for a single seed or never differs."""
    by_seed: dict[str, NDArray[np.float64]] = {}
    draws: list[NDArray[np.float64]] = []
    random = np.random.default_rng(0)
    for family, of in families.items():
        if method in of and other in of:
            seeds = _shared(of, method, other)
            one, two = ([_closed(of[name][s], family) for s in seeds] for name in (method, other))
            by_seed[family] = np.subtract(one, two)
            draws.append(_resampled(of, method, other, family, seeds, random))
    if not by_seed or min(map(len, by_seed.values())) < 2:
        raise ValueError(f"{method} and {other} share no family, or only one seed of one")
    variances = [float(np.var(d, ddof=1)) / len(d) for d in by_seed.values()]
    if sum(variances) == 0.0:
        raise ValueError(f"{method} and {other} differ by the same in every seed")
    mean = float(np.mean([d.mean() for d in by_seed.values()]))
    error = float(np.sqrt(sum(variances))) / len(by_seed)
    freedom = sum(variances) ** 2 / sum(v**2 / (len(d) - 1) for v, d in zip(variances, by_seed.values(), strict=True))
    low, high = np.quantile(np.mean(draws, axis=0), (0.025, 0.975))
    return Overall(
        method=method,
        other=other,
        by_family={family: float(d.mean()) for family, d in by_seed.items()},
        mean=mean,
        interval=(float(low), float(high)),
        p=float(2.0 * stats.t.sf(abs(mean) / error, freedom)),
    )


def _resampled(
    of: Scored, method: str, other: str, family: str, seeds: Sequence[int], random: np.random.Generator
) -> NDArray[np.float64]:
    """The mean difference in shares of the gap, with seeds and rows drawn anew each time."""
    gap = np.mean([_gap(of[method][s], family) for s in seeds])
    apart = (_rows(of[method], seeds, family) - _rows(of[other], seeds, family)) / gap
    if FAMILIES[family].metric not in _LOWER:
        apart *= 100.0
    count, size = apart.shape
    found = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        drawn = apart[random.integers(count, size=count)]
        found[i] = drawn[:, random.integers(size, size=size)].mean()
    return found


def _half_width(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def _shared(of: Scored, method: str, other: str) -> list[int]:
    seeds = sorted(of[method].keys() & of[other].keys())
    if not seeds:
        raise ValueError(f"{method} and {other} have no seed in common")
    return seeds


def _rows(of: Mapping[int, Record], seeds: Sequence[int], family: str) -> NDArray[np.float64]:
    """[seeds, rows] of the family's metric, more is better."""
    metric = FAMILIES[family].metric
    values = np.stack([unpacked(of[seed].rows[metric]) for seed in seeds])
    return -values if metric in _LOWER else values


def _gap(record: Record, family: str) -> float:
    metric = FAMILIES[family].metric
    gap = record.anchors["teacher"][metric] - record.anchors["untouched"][metric]
    return -gap if metric in _LOWER else gap


def _closed(record: Record, family: str) -> float:
    """Share of the gap between the untouched student and the teacher that the student closes."""
    metric = FAMILIES[family].metric
    gained = record.scores[metric] - record.anchors["untouched"][metric]
    return (-gained if metric in _LOWER else gained) / _gap(record, family)
