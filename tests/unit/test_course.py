from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cpd_engine.config import MixingSpec, OptimizerSpec
from cpd_engine.course import Course, Method, Turn, evaluation_steps, plain_epochs
from cpd_engine.data.encode import Sample
from cpd_engine.events import EpochPlan


def _epoch(number: int, size: int, iterations: int, visits: int) -> EpochPlan:
    return EpochPlan(
        epoch=number,
        subset_size=size,
        target=None,
        iterations=iterations,
        visits=visits,
        temperature=1.0 + number / 10,
        mixing=0.1 * number,
        alpha=0.3,
        dead=False,
    )


def _course(seed: int = 0) -> Course:
    samples = [Sample(id=str(i), row=i, input_ids=np.arange(5, dtype=np.int32), prompt_length=2) for i in range(10)]
    return Course(
        trained="student",
        samples=samples,
        order=np.array([7, 3, 1, 0, 2, 4, 5, 6, 8, 9]),
        epochs=(_epoch(1, 3, 2, 6), _epoch(2, 6, 3, 12), _epoch(3, 10, 5, 20)),
        repeat=2,
        optimizer=OptimizerSpec(batch_size=4, learning_rate=0.1, warmup_fraction=0.0, schedule="linear"),
        method=Method(divergence="pmtd", mixing=MixingSpec(kind="open")),
        evaluations=frozenset(),
        seed=seed,
    )


def _seen(turns: list[Turn]) -> list[list[str]]:
    return [[sample.id for sample in turn.samples] for turn in turns]


@pytest.mark.parametrize("done", range(11))
def test_a_course_taken_up_at_any_step_goes_on_as_if_never_left(done: int) -> None:
    whole = list(_course().turns(0))
    rest = list(_course().turns(done))
    assert _seen(rest) == _seen(whole[done:])
    assert [(t.epoch, t.index, t.objective, t.learning_rate) for t in rest] == [
        (t.epoch, t.index, t.objective, t.learning_rate) for t in whole[done:]
    ]


def test_an_epoch_takes_the_easiest_samples_as_often_as_it_repeats_them() -> None:
    course = _course()
    first = [name for turn in list(course.turns(0))[:2] for name in _seen([turn])[0]]
    assert sorted(first) == sorted(["7", "3", "1"] * 2)
    last = [name for turn in list(course.turns(5)) for name in _seen([turn])[0]]
    assert sorted(last) == sorted([str(i) for i in range(10)] * 2)


def test_another_seed_gives_another_order() -> None:
    assert _seen(list(_course(1).turns(0))) != _seen(list(_course(2).turns(0)))


def test_epochs_are_counted_by_finished_steps() -> None:
    course = _course()
    assert course.total_steps == 10
    assert [course.epoch_after(step) for step in range(11)] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]


def test_objectives_follow_the_plan_and_the_learning_rate_the_whole_course() -> None:
    turns = list(_course().turns(0))
    assert [turn.objective.temperature for turn in turns] == [1.1] * 2 + [1.2] * 3 + [1.3] * 5
    assert [turn.objective.mixing for turn in turns] == pytest.approx([0.1] * 2 + [0.2] * 3 + [0.3] * 5)
    rates = [turn.learning_rate for turn in turns]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.1)


def test_step_mixing_moves_with_every_step() -> None:
    course = replace(_course(), method=Method(divergence="pmtd", mixing=MixingSpec(kind="step")))
    assert [turn.objective.mixing for turn in course.turns(0)] == pytest.approx([step / 10 for step in range(10)])


def test_plain_epochs_end_with_exactly_the_steps_asked_for() -> None:
    epochs = plain_epochs(10, 4, 8)
    assert [epoch.iterations for epoch in epochs] == [3, 3, 2]
    assert {(epoch.subset_size, epoch.alpha, epoch.mixing) for epoch in epochs} == {(10, 1.0, 0.0)}
    cut = replace(_course(), epochs=epochs, repeat=1)
    assert len(list(cut.turns(0))) == 8


def test_evaluations_fall_on_the_ends_of_epochs_and_on_the_last_step() -> None:
    epochs = _course().epochs
    assert evaluation_steps(epochs, 1) == {2, 5, 10}
    assert evaluation_steps(epochs, 2) == {5, 10}
    assert evaluation_steps(epochs, 7) == {10}
