"""Several members on the same rows: means over seeds, their intervals, and differences to a baseline with Holm's correction.

Pure: from every run's per-row scores to the table, of the test split and of each suite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cpd_engine.evaluation.report import LOWER_IS_BETTER, METRICS
from cpd_engine.evaluation.significance import bootstrap_interval, holm, paired, t_interval
from cpd_engine.events import (
    Compared,
    ComparedMember,
    ComparedSuite,
    MemberAgainst,
    MemberCosts,
    MemberScore,
    SuiteMember,
)
from cpd_engine.members import SUBJECTS

_DECIMALS = 9
UNKNOWN = MemberCosts(steps=None, supervised_tokens=None, processed_tokens=None, train_s=None, worker_s=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRows:
    """One finished run's scores of R rows by subject ("student", "teacher", "untouched") and metric: values [R, M] by subject.

    Of accuracies 0..1, a row's value the mean over the seeds of its sampled answers; ce in nats per supervised token of the row, of
    which `supervised` [R] tells how many there are.
    """

    seed: int
    rows: Sequence[str]
    values: Mapping[str, NDArray[np.float64]]
    supervised: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRows:
    """A member with its finished runs, what the others ended in, and what a run of it took."""

    label: str
    runs: Sequence[RunRows]
    failures: Sequence[str] = ()
    costs: MemberCosts = field(default=UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRows:
    """Every member's answers to one suite."""

    suite: str
    task: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    members: Sequence[MemberRows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How all is compared: with whom, the bootstrap's seed, and what is called before each piece of work, which may raise."""

    baseline: str
    seed: int
    between: Callable[[], None] = lambda: None


def compare(members: Sequence[MemberRows], terms: Terms, *, budget: str) -> Compared:
    """The table of the test split. ValueError where no row was scored by all finished runs."""
    rows, lines = _lines(members, METRICS, terms)
    nothing = SuiteMember(label="", scores={}, against={}, teacher={}, untouched={})
    made = []
    for member in members:
        line = lines.get(member.label, nothing)
        made.append(
            ComparedMember(
                label=member.label,
                seeds=tuple(run.seed for run in member.runs),
                failures=tuple(member.failures),
                scores=line.scores,
                against=line.against,
                teacher=line.teacher,
                untouched=line.untouched,
                costs=member.costs,
            )
        )
    return Compared(rows=rows, baseline=terms.baseline, budget=budget, members=tuple(made))


def compare_suite(asked: SuiteRows, terms: Terms) -> ComparedSuite:
    """A suite's part of the table. ValueError where no row was answered by all finished runs."""
    rows, lines = _lines(asked.members, asked.metrics, terms)
    return ComparedSuite(
        suite=asked.suite,
        task=asked.task,
        rows=rows,
        seeds=asked.seeds,
        metrics=asked.metrics,
        members=tuple(lines.values()),
    )


def common_rows(runs: Sequence[RunRows]) -> list[str]:
    """The rows that every run has scored, in the first one's order. ValueError where there is none."""
    shared = set.intersection(*(set(run.rows) for run in runs)) if runs else set()
    if not shared:
        raise ValueError("the runs have no row in common")
    return [row for row in runs[0].rows if row in shared]


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

    def __init__(self, runs: Sequence[RunRows], rows: Sequence[str], metrics: Sequence[str]) -> None:
        places = [_places(run, rows) for run in runs]
        self._values = {
            subject: np.stack([run.values[subject][at] for run, at in zip(runs, places, strict=True)])
            for subject in SUBJECTS
        }
        self._tokens = [
            None if run.supervised is None else run.supervised[at] for run, at in zip(runs, places, strict=True)
        ]
        self._metrics = metrics

    def by_row(self, metric: str) -> NDArray[np.float64]:
        """[R] of each row of the student's, averaged over the seeds."""
        # Means of equal values in another order differ in the last bit, and a tie would not be one.
        rounded: NDArray[np.float64] = self._by_seed(metric, "student").mean(axis=0).round(_DECIMALS)
        return rounded

    def means(self, subject: str) -> dict[str, float]:
        """Of every metric, over rows and seeds."""
        return {metric: float(np.mean(self._seed_means(metric, subject))) for metric in self._metrics}

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
        found: NDArray[np.float64] = scale * self._values[subject][:, :, self._metrics.index(metric)]
        return found

    def _weights(self, metric: str) -> NDArray[np.float64]:
        shape = self._values["student"].shape[:2]
        tokens = [found for found in self._tokens if found is not None]
        return np.stack(tokens) if metric in LOWER_IS_BETTER and tokens else np.ones(shape)


def _places(run: RunRows, rows: Sequence[str]) -> NDArray[np.int64]:
    at = {row: place for place, row in enumerate(run.rows)}
    return np.array([at[row] for row in rows], dtype=np.int64)


def _lines(members: Sequence[MemberRows], metrics: Sequence[str], terms: Terms) -> tuple[int, dict[str, SuiteMember]]:
    """How many rows all finished runs share, and by label what each member with a finished run came to on them."""
    rows = common_rows([run for member in members for run in member.runs])
    columns = {member.label: _Columns(member.runs, rows, metrics) for member in members if member.runs}
    against = _against(columns, metrics, terms)
    made = {}
    for label, found in columns.items():
        terms.between()
        made[label] = SuiteMember(
            label=label,
            scores={metric: found.score(metric, terms.seed) for metric in metrics},
            against=against.get(label, {}),
            teacher=found.means("teacher"),
            untouched=found.means("untouched"),
        )
    return len(rows), made


def _against(
    columns: Mapping[str, _Columns], metrics: Sequence[str], terms: Terms
) -> dict[str, dict[str, MemberAgainst]]:
    """By member and metric; nothing where the baseline gave nothing to hold against."""
    if terms.baseline not in columns:
        return {}
    others = [label for label in columns if label != terms.baseline]
    made: dict[str, dict[str, MemberAgainst]] = {label: {} for label in others}
    for metric in metrics:
        held = columns[terms.baseline].by_row(metric).tolist()
        found = []
        for label in others:
            terms.between()
            found.append(paired(columns[label].by_row(metric).tolist(), held, seed=terms.seed))
        for label, one, adjusted in zip(others, found, holm([one.p_value for one in found]), strict=True):
            made[label][metric] = MemberAgainst(
                difference=one.difference,
                interval=one.interval,
                p_value=one.p_value,
                p_holm=adjusted,
                non_zero=one.non_zero,
            )
    return made
