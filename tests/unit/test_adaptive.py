"""TAID's adaptive mixing against its formulas, worked by hand in float64."""

from __future__ import annotations

import math

import pytest
import torch

from cpd_engine import schedules
from cpd_engine.adaptive import BETA, STEP, AdaptiveMixing

LOSSES = [2.0, 1.0, 1.5, 0.75, 0.75]


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_t_follows_the_momentum_of_the_losses_relative_change() -> None:
    mixing = AdaptiveMixing(end=1.0)
    found = []
    for loss in LOSSES:
        found.append(mixing.at_least(0.25))
        mixing.note(loss)
    # Relative changes: one half down, one half up, one half down, none; the first loss only begins the series.
    m_1 = 0.01 * 0.5
    m_2 = 0.99 * m_1 - 0.01 * 0.5
    m_3 = 0.99 * m_2 + 0.01 * 0.5
    t_1 = 0.25 + 5e-4 * _sigmoid(m_1) * 0.75
    t_2 = t_1 + 5e-4 * _sigmoid(m_2) * (1.0 - t_1)
    t_3 = t_2 + 5e-4 * _sigmoid(m_3) * (1.0 - t_2)
    assert found == pytest.approx([0.25, 0.25, t_1, t_2, t_3], rel=1e-13)
    t_4 = t_3 + 5e-4 * _sigmoid(0.99 * m_3) * (1.0 - t_3)
    assert mixing.at_least(0.0) == pytest.approx(t_4, rel=1e-13)
    assert (BETA, STEP) == (0.99, 5e-4)


def test_a_falling_loss_carries_t_further_than_a_rising_one() -> None:
    falling, rising = AdaptiveMixing(end=1.0), AdaptiveMixing(end=1.0)
    for step in range(200):
        falling.note(0.9**step)
        rising.note(1.1**step)
    assert falling.at_least(0.0) > rising.at_least(0.0) > 0.0


def test_t_is_never_below_the_plan_nor_above_its_end() -> None:
    planned = schedules.mixing("adaptive", 4, end=0.6)
    assert planned == schedules.mixing("linear", 4, end=0.6)
    mixing = AdaptiveMixing(end=0.6)
    for bound in planned:
        for step in range(2000):
            t = mixing.at_least(bound)
            assert bound <= t <= 0.6
            mixing.note(0.9 ** (step % 5))
    assert AdaptiveMixing(end=0.0).at_least(0.0) == 0.0


def test_a_plan_below_one_is_never_carried_to_one() -> None:
    mixing = AdaptiveMixing(end=1.0)
    mixing.at_least(1.0 - 2**-40)
    for step in range(20_000):
        mixing.note(0.5 ** (step % 3))
    t = mixing.at_least(0.0)
    assert t < 1.0
    assert not schedules.vanishes("pmtd", t)


@pytest.mark.parametrize("loss", [0.0, 1e-300, 1e300])
def test_losses_of_any_size_are_borne(loss: float) -> None:
    mixing = AdaptiveMixing(end=1.0)
    for seen in (loss, 1.0, loss, 1.0):
        mixing.note(seen)
    assert 0.0 <= mixing.at_least(0.0) < 1.0


@pytest.mark.parametrize("done", range(len(LOSSES) + 1))
def test_state_given_back_goes_on_with_the_same_bits(done: int) -> None:
    first = AdaptiveMixing(end=0.9)
    for loss in LOSSES[:done]:
        first.at_least(0.25)
        first.note(loss)
    second = AdaptiveMixing(end=0.9)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for loss in LOSSES[done:]:
        assert second.at_least(0.25) == first.at_least(0.25)
        first.note(loss)
        second.note(loss)
    assert torch.equal(first.state()["adaptive"][:2], second.state()["adaptive"][:2])
