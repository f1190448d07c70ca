"""Several members on the same test rows: means over seeds, their intervals, and differences to a baseline with Holm's correction.

Pure: from every run's per-row scores to the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpd_engine.evaluation.report import LOWER_IS_BETTER, METRICS
from cpd_engine.evaluation.significance import bootstrap_interval, holm, paired, t_interval
from cpd_engine.events import Compared, ComparedMember, MemberAgainst, MemberCosts, MemberScore

_DECIMALS = 9
Values = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRows:
    """One finished run's test rows by id: by subject ("student", "teacher", "untouched") and metric, and supervised tokens by row.

    exact_match and rouge_l in 0..1, ce in nats per supervised token of the row.
    """

    seed: int
    values: Mapping[str, Values]
    supervised: Mapping[str, float]
    costs: MemberCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRows:
    """A member with its finished runs, and what the others ended in."""

    label: str
    runs: Sequence[RunRows]
    failures: Sequence[str]


def compare(
    members: Sequence[MemberRows],
    *,
    baseline: str,
    budget: str,
    seed: int,
    between: Callable[[], None] = lambda: None,
) -> Compared:
    """The table. `between` is called before each member and may raise. ValueError where no row was scored by all finished runs."""
    rows = common_rows([run for member in members for run in member.runs])
    columns = {member.label: _Columns(member.runs, rows) for member in members if member.runs}
    against = _against(columns, baseline, seed, between)
    made = []
    for member in members:
        between()
        found = columns.get(member.label)
        made.append(
            ComparedMember(
                label=member.label,
                seeds=tuple(run.seed for run in member.runs),
                failures=tuple(member.failures),
                scores={} if found is None else {metric: found.score(metric, seed) for metric in METRICS},
                against=against.get(member.label, {}),
                teacher={} if found is None else found.means("teacher"),
                untouched={} if found is None else found.means("untouched"),
                costs=mean_costs([run.costs for run in member.runs]),
            )
        )
    return Compared(rows=len(rows), baseline=baseline, budget=budget, members=tuple(made))


def common_rows(runs: Sequence[RunRows]) -> list[str]:
    """The rows that every run has scored, in the first one's order. ValueError where there is none."""
    rows = [row for row in (runs[0].values if runs else ()) if all(row in run.values for run in runs)]
    if not rows:
        raise ValueError("the runs have no test row in common")
    return rows


def mean_costs(costs: Sequence[MemberCosts]) -> MemberCosts:
    """On average over the runs that know; None where none does."""

    def mean(of: Callable[[MemberCosts], float | None]) -> float | None:
        known = [value for value in map(of, costs) if value is not None]
        return sum(known) / len(known) if known else None

    return MemberCosts(
        steps=mean(lambda cost: cost.steps),
        supervised_tokens=mean(lambda cost: cost.supervised_tokens),
        processed_tokens=mean(lambda cost: cost.processed_tokens),
        train_s=mean(lambda cost: cost.train_s),
        worker_s=mean(lambda cost: cost.worker_s),
    )


class _Columns:
    """A member's runs over the same rows: points in percent, cross-entropy in nats, which long rows weigh more in."""

    def __init__(self, runs: Sequence[RunRows], rows: Sequence[str]) -> None:
        self._runs, self._rows = runs, rows

    def by_row(self, metric: str, subject: str = "student") -> NDArray[np.float64]:
        """[R] of each row, averaged over the seeds."""
        # Means of equal values in another order differ in the last bit, and a tie would not be one.
        rounded: NDArray[np.float64] = self._by_seed(metric, subject).mean(axis=0).round(_DECIMALS)
        return rounded

    def means(self, subject: str) -> dict[str, float]:
        """Of every metric, over rows and seeds."""
        return {metric: float(np.mean(self._seed_means(metric, subject))) for metric in METRICS}

    def score(self, metric: str, seed: int) -> MemberScore:
        """With its intervals and the share of the gap that it closes."""
        by_seed = self._seed_means(metric, "student")
        mean = float(np.mean(by_seed))
        teacher, untouched = self.means("teacher")[metric], self.means("untouched")[metric]
        gap = teacher - untouched
        has_gap = (-gap if metric in LOWER_IS_BETTER else gap) > 0
        return MemberScore(
            mean=mean,
            by_seed=tuple(by_seed),
            seed_interval=t_interval(by_seed),
            row_interval=bootstrap_interval(self.by_row(metric), self._weights(metric)[0], seed=seed),
            gap_closed=(mean - untouched) / gap if has_gap else None,
        )

    def _seed_means(self, metric: str, subject: str) -> list[float]:
        values, weights = self._by_seed(metric, subject), self._weights(metric)
        return [float(np.average(one, weights=weight)) for one, weight in zip(values, weights, strict=True)]

    def _by_seed(self, metric: str, subject: str) -> NDArray[np.float64]:
        scale = 1.0 if metric in LOWER_IS_BETTER else 100.0
        return scale * np.array([[run.values[row][subject][metric] for row in self._rows] for run in self._runs])

    def _weights(self, metric: str) -> NDArray[np.float64]:
        if metric not in LOWER_IS_BETTER:
            return np.ones((len(self._runs), len(self._rows)))
        return np.array([[run.supervised[row] for row in self._rows] for run in self._runs], dtype=np.float64)


def _against(
    columns: Mapping[str, _Columns], baseline: str, seed: int, between: Callable[[], None]
) -> dict[str, dict[str, MemberAgainst]]:
    """By member and metric; nothing where the baseline gave nothing to hold against."""
    if baseline not in columns:
        return {}
    others = [label for label in columns if label != baseline]
    made: dict[str, dict[str, MemberAgainst]] = {label: {} for label in others}
    for metric in METRICS:
        between()
        held = columns[baseline].by_row(metric)
        found = [paired(columns[label].by_row(metric).tolist(), held.tolist(), seed=seed) for label in others]
        for label, one, adjusted in zip(others, found, holm([one.p_value for one in found]), strict=True):
            made[label][metric] = MemberAgainst(
                difference=one.difference,
                interval=one.interval,
                p_value=one.p_value,
                p_holm=adjusted,
                non_zero=one.non_zero,
            )
    return made
