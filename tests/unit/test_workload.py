"""What a run will do, counted from its plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cpd_engine.config import RunConfig
from cpd_engine.facts import Facts, Lengths, Questions, SuiteQuestions
from cpd_engine.plan import plan
from cpd_engine.timing import Amount, Line, Seconds, telling_batches
from cpd_engine.workload import Task, spent, student_steps, tasks

SAMPLES = 100
TRAIN = Lengths(tokens=np.arange(1, SAMPLES + 1), supervised=np.full(SAMPLES, 4))
ASKED = Questions(
    lengths=Lengths(tokens=np.full(10, 20), supervised=np.full(10, 4)), prompts=(16,) * 10, references=(4,) * 10
)
FACTS = Facts(
    train=TRAIN,
    order=None,
    validation=ASKED,
    test=ASKED,
    validations=2,
    teacher_bytes=4000,
    student_bytes=1000,
    trained_bytes=1000,
    teacher_said=None,
    student_said=8,
    kept=False,
    found=False,
)


def config(**changes: Any) -> RunConfig:
    spec: dict[str, Any] = {
        "teacher": {"tiny": "gpt2"},
        "student": {"tiny": "gpt2"},
        "dataset": {"synthetic": {}},
        "preset": "kld",
        "epochs": 2,
        "subset_repeat": 1,
        "optimizer": {"batch_size": 10},
        "evaluation": {"validation_metric": "ce", "generation": {"max_new_tokens": 6, "batch_size": 10}},
    }
    return RunConfig.model_validate(spec | changes).resolved()


def counted(spec: RunConfig, facts: Facts = FACTS) -> tuple[Task, ...]:
    return tasks(spec, plan(spec, samples=SAMPLES).planned, facts)


def amount(work: tuple[Task, ...], phase: str, kind: str) -> Amount:
    return sum((task.amount for task in work if (task.phase, task.kind) == (phase, kind)), Amount())


def test_every_epoch_takes_its_samples_tokens_once() -> None:
    assert amount(counted(config()), "train", "distil") == Amount(pieces=20, units=2 * 5050, others=2 * 400)


def test_a_known_order_counts_the_tokens_of_the_easiest() -> None:
    spec = config(curriculum="linear")
    planned = plan(spec, samples=SAMPLES).planned
    assert [epoch.subset_size for epoch in planned.epochs] == [50, 100]
    known = replace(FACTS, order=np.arange(SAMPLES))
    assert student_steps(spec, planned, known)["distil"].units == sum(range(1, 51)) + 5050
    assert student_steps(spec, planned, FACTS)["distil"].units == 1.5 * 5050


def test_the_dead_epoch_is_plain() -> None:
    work = counted(config(preset="paper", curriculum="none", subset_repeat=1))
    assert amount(work, "train", "distil").pieces == amount(work, "train", "plain").pieces == 10


def test_kept_states_are_made_once_and_spare_every_step_the_teachers_body() -> None:
    work = counted(config(), replace(FACTS, kept=True))
    assert amount(work, "train", "teach").units == 5050
    assert amount(work, "train", "distil_kept").pieces == 20
    assert amount(work, "train", "distil") == Amount()


def test_states_that_another_job_left_spare_the_body_altogether() -> None:
    work = counted(config(), replace(FACTS, kept=True, found=True))
    assert amount(work, "train", "teach") == amount(work, "train", "load_teacher") == Amount()
    assert amount(work, "evaluate", "load_teacher").pieces == 1


def test_states_for_a_difficulty_by_the_teacher_are_made_in_the_profile_and_leave_only_the_head_to_score() -> None:
    work = counted(config(difficulty="teacher_ce"), replace(FACTS, kept=True))
    assert amount(work, "profile", "teach").units == 5050
    assert amount(work, "train", "teach") == Amount()
    assert amount(work, "profile", "score_teacher") == Amount(pieces=1, others=400)


def test_a_twin_takes_as_many_plain_steps_over_all_samples_and_is_answered_for_as_well() -> None:
    alone = counted(config(curriculum="linear"))
    evaluation = config().evaluation.model_dump() | {"baselines": ("sft",)}
    both = counted(config(curriculum="linear", evaluation=evaluation))
    steps = amount(both, "train", "distil").pieces
    assert amount(both, "train", "plain") == Amount(pieces=steps, units=steps * 10 * 50.5, others=steps * 10 * 4)
    assert amount(both, "train", "seal") == amount(alone, "train", "seal") * 2
    answers = amount(both, "evaluate", "answer_student").pieces - amount(alone, "evaluate", "answer_student").pieces
    assert answers == 4


def test_the_twin_that_distils_costs_the_teacher_or_its_states() -> None:
    plain = config(preset="sft")
    twins = plain.model_copy(update={"evaluation": plain.evaluation.model_copy(update={"baselines": ("kld", "sft")})})
    steps = amount(counted(twins), "train", "distil")
    assert (steps.pieces, steps.units) == (20, 2 * 5050)
    assert amount(counted(twins), "train", "load_teacher").pieces == 1
    assert amount(counted(twins), "train", "plain").pieces == 2 * 20
    kept = counted(twins, replace(FACTS, kept=True))
    assert amount(kept, "train", "distil_kept").pieces == 20
    assert amount(kept, "train", "teach").units == 5050
    assert amount(counted(plain, replace(FACTS, kept=True)), "train", "teach") == Amount()


def test_answers_are_as_long_as_references_or_as_the_model_was_heard_to_say_and_never_too_long() -> None:
    work = counted(config())
    assert amount(work, "evaluate", "answer_teacher").pieces == 4
    # The untouched student's eight steps are cut at six; the trained one takes four.
    assert amount(work, "evaluate", "answer_student").pieces == 6 + 4


def test_a_tuned_teacher_takes_its_epochs_and_seals_its_states() -> None:
    spec = config(teacher_sft={"epochs": 3, "optimizer": {"batch_size": 5}}, checkpoints={"every_steps": 25, "keep": 1})
    work = counted(spec)
    assert amount(work, "teacher_sft", "tune") == Amount(pieces=60, units=3 * 5050, others=3 * 400)
    assert amount(work, "teacher_sft", "seal") == Amount(pieces=2 + 1, units=2 * 12_000 + 4000)


def test_on_policy_the_student_writes_its_share_as_long_as_the_data_s_and_kept_states_spare_no_step() -> None:
    policy = {"kind": "on", "student_fraction": 0.25, "max_new_tokens": 3, "batch_size": 50}
    work = counted(config(preset="gkd", policy=policy, curriculum="linear"))
    # A quarter of 50 + 100 visits; all samples at once would be two batches of three decoding steps.
    assert amount(work, "train", "write_student").pieces == pytest.approx(2 * 3 * 0.25 * 150 / 100)
    assert amount(work, "train", "distil").pieces == 5 + 10
    assert not [task for task in counted(config()) if task.kind == "write_student"]


def test_only_a_difficulty_by_the_teacher_has_it_score() -> None:
    assert amount(counted(config()), "profile", "score_teacher") == Amount()
    assert amount(counted(config(difficulty="teacher_ce")), "profile", "score_teacher").units == 5050


def test_phases_cost_what_their_work_costs() -> None:
    work = (
        Task(phase="train", kind="distil", amount=Amount(pieces=2)),
        Task(phase="train", kind="seal", amount=Amount(pieces=1)),
        Task(phase="export", kind="seal", amount=Amount(pieces=1)),
    )
    lines = {"distil": Line(piece=Seconds(wall_s=3.0, cpu_s=6.0)), "seal": Line(piece=Seconds(wall_s=1.0))}
    found = spent(work, lines)  # type: ignore[arg-type]  # mypy takes the keys for plain text
    assert found == {"train": Seconds(wall_s=7.0, cpu_s=12.0), "export": Seconds(wall_s=1.0)}


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_telling_batches_are_small_to_large_and_one_has_the_longest_sample(batch_size: int) -> None:
    batches = telling_batches(TRAIN.tokens, batch_size, np.random.default_rng(0))
    sums = [int(TRAIN.tokens[batch].sum()) for batch in batches]
    assert sums == sorted(sums)
    assert {len(batch) for batch in batches} == {min(batch_size, SAMPLES)}
    assert all(len(set(batch.tolist())) == len(batch) for batch in batches)
    assert SAMPLES - 1 in batches[-1]


def test_a_suite_is_answered_by_every_model_under_every_seed() -> None:
    suite = SuiteQuestions(prompts=(16,) * 10, references=(4,) * 10, most=50, repeats=3, batch_size=10)
    evaluation = {
        "validation_metric": "ce",
        "generation": {"max_new_tokens": 6, "batch_size": 10},
        "baselines": ["sft"],
    }
    spec = config(evaluation=evaluation)

    def added(facts: Facts, kind: str) -> Amount:
        before, after = (
            amount(counted(spec, some), "evaluate", kind) for some in (facts, replace(facts, suites=(suite,)))
        )
        return after + before * -1.0

    # Four steps of a batch of ten, thrice; the untouched student, the student and its twin.
    once = Amount(pieces=12.0, units=120.0, others=480.0)
    heard = replace(FACTS, student_said=3)
    assert added(heard, "answer_teacher") == once
    assert added(heard, "answer_student") == once * 3.0
    # One that was heard not to end goes on as long as it may.
    endless = Amount(pieces=150.0, units=1500.0, others=480.0)
    assert added(replace(FACTS, student_said=6), "answer_student") == once * 2.0 + endless
