"""The verdict of the short form."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from benchmarks.engine.short import CONTESTS, Kept, fallen, least_ratios, read, wanted_here


@dataclass(slots=True)
class Work:
    """Takes as many CPU seconds, by the clock it is given, as it was told; calls beyond that take as long as the last."""

    costs: list[float]
    clock: Clock
    calls: int = 0

    def __call__(self) -> None:
        self.clock.now += self.costs[min(self.calls, len(self.costs) - 1)]
        self.calls += 1


@dataclass(slots=True)
class Clock:
    now: float = field(default=0.0)

    def __call__(self) -> float:
        return self.now


def _works(clock: Clock, plain: list[float], ours: list[float]) -> dict[str, Work]:
    return {name: Work(ours if name in CONTESTS else plain, clock) for name in (*CONTESTS, *CONTESTS.values())}


def test_the_least_time_of_each_side_counts_and_the_first_round_does_not() -> None:
    clock = Clock()
    held = _works(clock, [0.5, 9.0, 8.0, 9.0], [0.1, 3.0, 2.5, 2.0])

    assert least_ratios(held, {"cpd": 4.0}, clock=clock)["cpd"] == pytest.approx(4.0)


def test_rounds_go_on_until_every_ratio_holds() -> None:
    clock = Clock()
    held = _works(clock, [8.0], [1.0, 3.0, 3.0, 3.0, 2.0, 1.0])

    found = least_ratios(held, dict.fromkeys(CONTESTS, 4.0), clock=clock)

    assert found == pytest.approx(dict.fromkeys(CONTESTS, 4.0))
    assert held["cpd"].calls == 5


def test_rounds_end_where_a_ratio_never_holds() -> None:
    clock = Clock()

    found = least_ratios(_works(clock, [8.0], [4.0]), {"cpd": 4.0}, clock=clock)

    assert fallen(found, {"cpd": 4.0}) == {
        "cpd": "cpd: the lead over the plain way has shrunk to 2.00, at least 4.00 is wanted"
    }


def test_a_ratio_may_be_15_percent_lower_than_the_kept_one_and_more_on_another_processor() -> None:
    kept = [
        Kept(machine="this one", commit="abc", ratios=dict.fromkeys(CONTESTS, 20.0)),
        Kept(machine="that one", commit="abc", ratios=dict.fromkeys(CONTESTS, 10.0)),
    ]

    assert wanted_here(kept, "this one") == pytest.approx(dict.fromkeys(CONTESTS, 17.0))
    assert wanted_here(kept, "another") == pytest.approx(dict.fromkeys(CONTESTS, 6.0))


def test_every_contest_has_a_kept_ratio() -> None:
    assert all(set(kept.ratios) == set(CONTESTS) for kept in read())
    assert len({kept.machine for kept in read()}) == len(read())
