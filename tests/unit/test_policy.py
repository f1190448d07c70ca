"""Which samples of a step the student answers, what its answers become, and that a resumed training holds the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from cpd_engine.adaptive import AdaptiveMixing
from cpd_engine.beside import Beside
from cpd_engine.config import MixingSpec, OptimizerSpec, PolicySpec
from cpd_engine.course import Course, Method, Turn
from cpd_engine.data.batches import pack, pad
from cpd_engine.data.encode import Sample
from cpd_engine.errors import StopRequested
from cpd_engine.events import EpochPlan
from cpd_engine.generate import Answer
from cpd_engine.learner import StepValues
from cpd_engine.policy import OnPolicy, OwnAnswer, Question, own_sample, students

END = 1
SAMPLES = [
    Sample(id=f"s{i}", row=i, input_ids=np.array([10 + i, 20, 30, 40, END], dtype=np.int32), prompt_length=2)
    for i in range(12)
]


def _answer(*tokens: int, ended: bool = True) -> Answer:
    reason: Literal["stop", "length"] = "stop" if ended else "length"
    return Answer(text="", tokens=tokens, finish_reason=reason)


class Student:
    """Answers with the number of the sample and of the step; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __call__(self, question: Question, /) -> Sequence[Answer]:
        self.asked.append(question)
        return [_answer(100 + int(i), 200 + question.step, ended=bool(i % 2)) for i in question.indices]


def _course(*, dead: int = 0) -> Course:
    epochs = tuple(
        EpochPlan(
            epoch=number,
            subset_size=size,
            target=None,
            iterations=iterations,
            visits=size,
            temperature=1.0,
            mixing=1.0 if number == dead else 0.0,
            alpha=0.0,
            dead=number == dead,
        )
        for number, size, iterations in ((1, 6, 2), (2, 10, 3), (3, 12, 3))
    )
    return Course(
        trained="student",
        samples=SAMPLES,
        order=np.arange(12),
        epochs=epochs,
        repeat=1,
        optimizer=OptimizerSpec(batch_size=4),
        method=Method(divergence="pmtd", mixing=MixingSpec(kind="open")),
        evaluations=frozenset(),
        seed=3,
    )


def _policy(ask: Student, **changes: Any) -> OnPolicy:
    spec = PolicySpec.model_validate({"kind": "on", "batch_size": 3} | changes)
    return OnPolicy(spec, samples=SAMPLES, batch_size=4, end=END, seed=7, ask=ask)


def _taken(policy: OnPolicy, turns: Sequence[Turn], first: int = 0) -> list[Turn]:
    """The turns as the student shares them, as the loop has it."""
    found = []
    for step, turn in enumerate(turns, start=first):
        if policy.due(turn):
            policy.write(turn, step)
            assert not policy.due(turn)
        found.append(policy.shared(turn, step))
    return found


def _seen(turns: Sequence[Turn]) -> list[list[tuple[str, list[int], bool]]]:
    return [[(one.id, one.input_ids.tolist(), one.generated) for one in turn.samples] for turn in turns]


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.5, 0.7, 1.0])
def test_every_run_of_visits_has_its_share_of_the_students(fraction: float) -> None:
    whole = students(0, 1000, fraction)
    assert whole.sum() == round(1000 * fraction)
    for first in range(0, 990, 7):
        part = students(first, 7, fraction)
        assert part.tolist() == whole[first : first + 7].tolist()
        assert abs(part.sum() - 7 * fraction) < 1.0


def test_of_steps_of_one_sample_every_second_is_the_students() -> None:
    assert [bool(students(step, 1, 0.5)[0]) for step in range(6)] == [False, True] * 3


@pytest.mark.parametrize(
    ("said", "response"),
    [
        (OwnAnswer(index=0, tokens=np.array([5, 6], dtype=np.int32), ended=True), [5, 6, END]),
        (OwnAnswer(index=0, tokens=np.array([5, 6], dtype=np.int32), ended=False), [5, 6]),
        (OwnAnswer(index=0, tokens=np.empty(0, dtype=np.int32), ended=True), [END]),
    ],
)
@pytest.mark.parametrize("laid_out", [pack, pad])
def test_the_answer_is_supervised_with_its_end_where_it_has_one_and_the_prompt_never(
    said: OwnAnswer, response: list[int], laid_out: Any
) -> None:
    found = own_sample(SAMPLES[0], said, END)
    assert found.input_ids.tolist() == [10, 20, *response]
    assert (found.id, found.row, found.prompt_length, found.generated) == ("s0", 0, 2, True)
    beside = own_sample(SAMPLES[3], replace(said, index=3), END)
    batch = laid_out([found, beside])
    assert batch.targets.tolist() == response * 2
    assert batch.supervised == (len(response),) * 2
    assert batch.generated
    assert (batch.targets == END).sum() == 2 * said.ended
    predicted_by = batch.input_ids.flatten()[batch.predicting].tolist()
    assert predicted_by == [20, *response[:-1]] * 2
    assert not laid_out(SAMPLES[:2]).generated


def test_per_epoch_each_prompt_of_the_students_is_answered_once_and_its_visit_gets_that_answer() -> None:
    student = Student()
    course = _course()
    found = _taken(_policy(student), list(course.turns(0)))
    assert [(asked.epoch, asked.step, asked.first) for asked in student.asked] == [
        (1, 0, True),
        (2, 2, True),
        (3, 5, True),
    ]
    assert len({asked.seed for asked in student.asked}) == 3
    for turn, plain in zip(found, course.turns(0), strict=True):
        mine = students(plain.index * 4, len(plain.samples), 0.5)
        assert [one.generated for one in turn.samples] == mine.tolist()
        assert turn.indices.tolist() == plain.indices.tolist()
        asked = student.asked[plain.epoch.epoch - 1]
        for one, other, own in zip(turn.samples, plain.samples, mine, strict=True):
            said = [100 + one.row, 200 + asked.step, *([END] if one.row % 2 else [])]
            assert one.input_ids.tolist() == ([*other.input_ids[:2], *said] if own else other.input_ids.tolist())


def test_a_sample_that_an_epoch_repeats_is_asked_once() -> None:
    student = Student()
    course = replace(_course(), repeat=2, epochs=(replace(_course().epochs[0], visits=12, iterations=3),))
    _taken(_policy(student, student_fraction=1.0), list(course.turns(0)))
    (asked,) = student.asked
    assert asked.indices.tolist() == [0, 1, 2, 3, 4, 5]


def test_by_steps_prompts_are_answered_in_batches_as_their_turn_comes_and_never_across_epochs() -> None:
    student = Student()
    course = _course()
    found = _taken(_policy(student, refresh="step"), list(course.turns(0)))
    # The student's visits by step: 2 1 | 2 2 1 | 2 2 2.
    assert [(asked.step, len(asked.indices), asked.first) for asked in student.asked] == [
        (0, 3, True),
        (2, 3, True),
        (3, 2, False),
        (5, 3, True),
        (6, 3, False),
    ]
    assert [sum(one.generated for one in turn.samples) for turn in found] == [2, 1, 2, 2, 1, 2, 2, 2]
    asked_visits = np.concatenate([asked.indices for asked in student.asked if asked.epoch == 3])
    last = next(turn for turn in course.turns(5))
    assert asked_visits.tolist() == last.visits[students(0, 12, 0.5)].tolist()


def test_by_steps_the_oldest_answers_leave_the_buffer_and_no_answer_is_drawn_twice_in_a_step() -> None:
    student = Student()
    policy = _policy(student, refresh="step", buffer=4)
    newest: list[tuple[int, int]] = []
    asked = 0
    for step, turn in enumerate(_course().turns(0)):
        (shared,) = _taken(policy, [turn], step)
        for question in student.asked[asked:]:
            newest = [*newest, *((int(i), question.step) for i in question.indices)][-4:]
        asked = len(student.asked)
        drawn = [(int(one.input_ids[2]) - 100, int(one.input_ids[3]) - 200) for one in shared.samples if one.generated]
        assert set(drawn) <= set(newest)
        assert len(set(drawn)) == len(drawn)
        assert [index for index, _ in drawn] == [
            int(i) for i, one in zip(shared.indices, shared.samples, strict=True) if one.generated
        ]


def test_a_buffer_of_one_step_s_share_holds_answers_of_that_very_step_to_its_own_prompts() -> None:
    student = Student()
    turns = list(_course().turns(5))
    policy = _policy(student, refresh="step", batch_size=2, buffer=2)
    for step, (turn, plain) in enumerate(zip(_taken(policy, turns, 5), turns, strict=True), start=5):
        own = [one for one in turn.samples if one.generated]
        assert {int(one.input_ids[3]) for one in own} == {200 + step}
        assert {one.id for one in own} == {plain.samples[1].id, plain.samples[3].id}


@pytest.mark.parametrize("refresh", ["epoch", "step"])
@pytest.mark.parametrize("done", range(9))
def test_a_training_taken_up_at_any_step_sees_the_same_samples_and_asks_the_same_questions(
    refresh: str, done: int
) -> None:
    def held(question: Question) -> tuple[Any, ...]:
        return question.indices.tolist(), question.epoch, question.step, question.first, question.seed

    course = _course()
    unbroken, first, second = Student(), Student(), Student()
    whole = _taken(_policy(unbroken, refresh=refresh), list(course.turns(0)))
    before = _policy(first, refresh=refresh)
    _taken(before, list(course.turns(0))[:done])
    after = _policy(second, refresh=refresh)
    after.load_state({name: tensor.clone() for name, tensor in before.state().items()})
    rest = _taken(after, list(course.turns(done)), done)
    assert _seen(rest) == _seen(whole[done:])
    assert list(map(held, [*first.asked, *second.asked])) == list(map(held, unbroken.asked))


def test_an_epoch_that_distils_nothing_asks_the_student_nothing() -> None:
    student = Student()
    course = _course(dead=2)
    found = _taken(_policy(student), list(course.turns(0)))
    assert [asked.epoch for asked in student.asked] == [1, 3]
    assert not any(one.generated for turn in found for one in turn.samples if turn.epoch.epoch == 2)


def test_an_answer_of_nothing_at_all_leaves_the_data_s_response() -> None:
    class Mute(Student):
        def __call__(self, question: Question, /) -> Sequence[Answer]:
            return [_answer(ended=bool(i % 2)) for i in question.indices]

    for refresh in ("epoch", "step"):
        found = _taken(_policy(Mute(), refresh=refresh, student_fraction=1.0), list(_course().turns(0)))
        assert all(one.supervised >= 1 for turn in found for one in turn.samples)
        kinds = {(one.row % 2 == 1, one.generated) for turn in found for one in turn.samples}
        assert (False, True) not in kinds
        assert (True, True) in kinds


def test_a_student_that_is_stopped_has_changed_nothing() -> None:
    class Stopped(Student):
        def __call__(self, question: Question, /) -> Sequence[Answer]:
            super().__call__(question)
            raise StopRequested

    policy = _policy(Stopped())
    before = policy.state()
    turn = next(_course().turns(0))
    with pytest.raises(StopRequested):
        policy.write(turn, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state().items())
    assert policy.due(turn)


def _values(turn: Turn, kd: float) -> StepValues:
    numbers = {"loss": kd, "ce": 0.0, "grad_norm": 0.0, "tokens": 1, "own_tokens": 1, "processed_tokens": 1}
    return StepValues(kd=kd, sample_ce=tuple(float(i) for i in turn.indices), **numbers)  # type: ignore[arg-type]  # mypy: a dict of mixed numbers


class Noted:
    """A ranking that remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], list[float]]] = []

    def note(self, indices: Any, ce_mean: Sequence[float]) -> None:
        self.seen.append((indices.tolist(), list(ce_mean)))


def test_the_ranking_hears_of_the_data_s_own_responses_alone() -> None:
    ranking = Noted()
    beside = Beside(ranking=ranking)  # type: ignore[arg-type]  # it is only told
    for turn in _taken(_policy(Student()), list(_course().turns(0))):
        beside.note(turn, _values(turn, 1.0))
        own = [int(i) for i, one in zip(turn.indices, turn.samples, strict=True) if not one.generated]
        assert ranking.seen[-1] == (own, [float(i) for i in own])


def test_the_mixing_hears_of_steps_that_distil_alone() -> None:
    beside = Beside(mixing=AdaptiveMixing(end=1.0))
    expected = AdaptiveMixing(end=1.0)
    for number, turn in enumerate(_course(dead=2).turns(0), start=1):
        beside.note(turn, _values(turn, 1.0 / number))
        if turn.epoch.epoch != 2:
            expected.note(1.0 / number)
    assert beside.mixing is not None
    assert torch.equal(beside.mixing.state()["adaptive"], expected.state()["adaptive"])


def test_a_course_takes_its_mixing_as_each_step_begins() -> None:
    asked: list[float] = []

    def above(planned: float) -> float:
        asked.append(planned)
        return 0.5 + 0.01 * len(asked)

    turns = _course().turns(0, mixing_from=above)
    for number in range(1, 9):
        assert next(turns).objective.mixing == pytest.approx(0.5 + 0.01 * number)
        assert len(asked) == number
