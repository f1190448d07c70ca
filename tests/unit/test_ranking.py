from __future__ import annotations

import numpy as np
import pytest

from cpd_engine.events import EpochPlan, Event, RankingRefreshed
from cpd_engine.profile import DifficultyProfile
from cpd_engine.ranking import Ranking

CE = np.array([0.5, 4.0, 1.0, np.nan, 3.0, 2.0])
TOKENS = np.array([2, 2, 2, 2, 2, 2])


def _ranking(events: list[Event], *, every: int = 2, kind: str = "ce_mean") -> Ranking:
    return Ranking(
        DifficultyProfile.from_scores(CE),
        ce_mean=CE,
        supervised=TOKENS,
        ids=[f"s{i}" for i in range(6)],
        kind="ce_sum" if kind == "ce_sum" else "ce_mean",
        every=every,
        emit=events.append,
    )


def _epoch(number: int, subset: int = 2) -> EpochPlan:
    return EpochPlan(
        epoch=number,
        subset_size=subset,
        target=None,
        iterations=1,
        visits=8,
        temperature=1.0,
        mixing=0.0,
        alpha=1.0,
        dead=False,
    )


def test_until_a_refresh_is_due_the_order_is_the_profiles() -> None:
    events: list[Event] = []
    ranking = _ranking(events)
    ranking.note(np.array([0, 2]), [9.0, 8.0])
    assert ranking.order_for(_epoch(1)).tolist() == ranking.order_for(_epoch(2)).tolist() == [0, 2, 5, 4, 1]
    assert events == []


def test_a_refresh_sorts_by_the_newest_cross_entropy_and_leaves_the_unvisited_where_they_were() -> None:
    events: list[Event] = []
    ranking = _ranking(events)
    ranking.note(np.array([0, 2]), [9.0, 8.0])
    ranking.note(np.array([0]), [2.5])
    assert ranking.order_for(_epoch(3)).tolist() == [5, 0, 4, 1, 2]
    # First ranks of 0, 2, 5, 4, 1: 0..4; new ones: 1, 4, 0, 2, 3. 1 - 6 * (1 + 9 + 4 + 1 + 1) / (5 * 24).
    (event,) = events
    assert isinstance(event, RankingRefreshed)
    assert event.spearman == pytest.approx(1 - 6 * 16 / 120)
    assert (event.epoch, event.overlap, event.subset_size) == (3, 0.5, 2)


def test_a_sample_that_was_left_out_stays_out() -> None:
    ranking = _ranking([])
    ranking.note(np.array([3]), [0.1])
    assert 3 not in ranking.order_for(_epoch(3)).tolist()


def test_by_sums_longer_samples_are_harder() -> None:
    ranking = Ranking(
        DifficultyProfile.from_scores(CE[:2] * [9, 1]),
        ce_mean=CE[:2],
        supervised=np.array([9, 1]),
        ids=["a", "b"],
        kind="ce_sum",
        every=1,
        emit=list[Event]().append,
    )
    ranking.note(np.array([0]), [0.6])
    assert ranking.order_for(_epoch(2)).tolist() == [1, 0]


def test_state_given_back_goes_on_alike_in_the_middle_of_an_epoch_and_between_two() -> None:
    for seen in (1, 3):
        first = _ranking([])
        first.order_for(_epoch(seen))
        first.note(np.array([1, 4]), [0.2, 0.1])
        events: list[Event] = []
        second = _ranking(events)
        second.load_state(first.state())
        assert second.order_for(_epoch(seen)).tolist() == first.order_for(_epoch(seen)).tolist()
        assert events == []
        assert second.order_for(_epoch(5)).tolist() == first.order_for(_epoch(5)).tolist()
        assert len(events) == 1


def test_an_epoch_is_sorted_once() -> None:
    events: list[Event] = []
    ranking = _ranking(events)
    order = ranking.order_for(_epoch(3)).tolist()
    ranking.note(np.array([0]), [99.0])
    assert ranking.order_for(_epoch(3)).tolist() == order
    assert len(events) == 1
