"""What the load benchmark counts as missed, and its figures."""

from __future__ import annotations

import math

import pytest

from benchmarks.service.crowd import Order, Seen
from benchmarks.service.figures import at_share
from benchmarks.service.following import breaches

ORDER = Order(
    url="http://127.0.0.1:1", key="", followed="job", followers=2, polled=["job"], pollers=0, every_s=1.0, seconds=1.0
)


def test_followers_that_saw_everything_are_no_breach() -> None:
    assert list(breaches(ORDER, Seen(ends=[7, 7]), 7)) == []


@pytest.mark.parametrize(
    "seen", [Seen(ends=[7, 7], gaps=1), Seen(ends=[7, 6]), Seen(ends=[7]), Seen(ends=[7, 7], refused=1)]
)
def test_a_gap_an_early_end_a_lost_follower_and_a_refusal_are_breaches(seen: Seen) -> None:
    assert len(list(breaches(ORDER, seen, 7))) == 1


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0)])
def test_a_share_of_the_values_is_at_most_the_figure(share: float, value: float) -> None:
    assert at_share([4.0, 1.0, 3.0, 2.0], share) == value


def test_of_nothing_there_is_no_figure() -> None:
    assert math.isnan(at_share([], 0.99))
