"""What a run will do, counted before it does it: steps, batches, answers and sealed bytes by phase. Pure and torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpd_engine.config import Baseline, RunConfig, StudentFromTeacher
from cpd_engine.difficulty import needs_answers, needs_teacher
from cpd_engine.events import Phase, Planned
from cpd_engine.facts import Facts, Questions, SuiteQuestions
from cpd_engine.plan import schedule
from cpd_engine.timing import Amount, Line, Seconds, answering

# `tune`: a step of the teacher's own fine-tuning; `distil`: a step of the student with the teacher's body in it, `distil_kept` with
# states that were kept; `plain`: a step on cross-entropy alone; `teach`: the teacher's body over samples, to keep its states;
# `write_student`: answers that the student will learn from.
Kind = Literal[
    "load_teacher",
    "load_student",
    "tune",
    "teach",
    "distil",
    "distil_kept",
    "plain",
    "score_teacher",
    "score_student",
    "answer_teacher",
    "answer_student",
    "write_student",
    "seal",
]
# Where the student learns, and its twin.
STEPS = frozenset[Kind]({"distil", "distil_kept", "plain"})
# Samples on which the influence of layers is measured before some are taken out, as in cpd_engine.stages.profiling.
INFLUENCE_SAMPLES = 128
# AdamW keeps two moments beside each weight, all float32.
STATE_BYTES = 12
WEIGHT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of work in one phase."""

    phase: Phase
    kind: Kind
    amount: Amount


def tasks(config: RunConfig, planned: Planned, facts: Facts) -> tuple[Task, ...]:
    """Everything that a resolved config has still to do once its data are prepared."""
    return (
        *_tuning(config, facts),
        *_profiling(config, facts),
        *_training(config, planned, facts),
        *_evaluating(config, facts),
        _sealing("export", facts.student_bytes),
    )


def spent(work: Sequence[Task], lines: Mapping[Kind, Line]) -> dict[Phase, Seconds]:
    """What each phase takes at these speeds."""
    found: dict[Phase, Seconds] = {}
    for task in work:
        found[task.phase] = found.get(task.phase, Seconds()) + lines[task.kind].of(task.amount)
    return found


def student_steps(config: RunConfig, planned: Planned, facts: Facts) -> dict[Kind, Amount]:
    """The student's optimizer steps by kind, over all epochs."""
    found: dict[Kind, Amount] = {}
    tokens, supervised = (_cumulative(of, facts.order) for of in (facts.train.tokens, facts.train.supervised))
    for epoch, distils in zip(planned.epochs, schedule(config).distils, strict=True):
        kind: Kind = ("distil_kept" if facts.kept else "distil") if distils else "plain"
        at, visits = epoch.subset_size - 1, epoch.visits / epoch.subset_size
        amount = Amount(pieces=epoch.iterations, units=visits * tokens[at], others=visits * supervised[at])
        found[kind] = found.get(kind, Amount()) + amount
    return found


def _cumulative(of: NDArray[np.int64], order: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Sums over the k easiest samples; without an order those of k average ones."""
    if order is None:
        return np.arange(1, len(of) + 1, dtype=np.float64) * float(of.mean())
    return np.cumsum(of[order], dtype=np.float64)


def _tuning(config: RunConfig, facts: Facts) -> Iterator[Task]:
    spec = config.teacher_sft
    if spec is None:
        return
    steps = spec.epochs * -(-len(facts.train.tokens) // spec.optimizer.batch_size)
    yield _loading("teacher_sft", "load_teacher")
    one = facts.train.whole(0.0)
    yield Task(
        phase="teacher_sft",
        kind="tune",
        amount=Amount(pieces=steps, units=spec.epochs * one.units, others=spec.epochs * one.others),
    )
    yield from _saving(config, "teacher_sft", steps, facts.teacher_bytes)
    yield _sealing("teacher_sft", facts.teacher_bytes)


def _profiling(config: RunConfig, facts: Facts) -> Iterator[Task]:
    if isinstance(config.student, StudentFromTeacher):
        yield _loading("profile", "load_teacher")
        share = min(1.0, INFLUENCE_SAMPLES / len(facts.train.tokens))
        yield Task(phase="profile", kind="score_teacher", amount=facts.train.scoring * share)
        yield _sealing("profile", facts.student_bytes)
    yield _loading("profile", "load_student")
    yield Task(phase="profile", kind="score_student", amount=facts.train.scoring)
    if needs_answers(config.difficulty or "ce_mean"):
        yield Task(
            phase="profile", kind="answer_student", amount=_answers(config, facts.train.asked, facts.student_said)
        )
    if needs_teacher(config.difficulty or "ce_mean"):
        # Kept states give the teacher's scores as well, but for its head.
        heads = replace(facts.train.scoring, units=0.0)
        if facts.kept and not facts.found:
            yield from _asking("profile", facts)
        elif not facts.kept:
            yield _loading("profile", "load_teacher")
        scoring = heads if facts.kept else facts.train.scoring
        yield Task(phase="profile", kind="score_teacher", amount=scoring)


def _training(config: RunConfig, planned: Planned, facts: Facts) -> Iterator[Task]:
    trainings = [
        student_steps(config, planned, facts),
        *(_twin_steps(twin, planned, facts) for twin in config.evaluation.baselines),
    ]
    asked = any("distil_kept" in steps for steps in trainings)
    if asked and not facts.found and not needs_teacher(config.difficulty or "ce_mean"):
        yield from _asking("train", facts)
    for steps in trainings:
        if "distil" in steps:
            yield _loading("train", "load_teacher")
        for kind, amount in steps.items():
            yield Task(phase="train", kind=kind, amount=amount)
        yield from _beside_the_steps(config, planned, facts)
    yield from _writing(config, planned, facts)


def _twin_steps(twin: Baseline, planned: Planned, facts: Facts) -> dict[Kind, Amount]:
    """A twin goes through all samples, whatever the subsets were, for as many steps."""
    kind: Kind = "plain" if twin == "sft" else "distil_kept" if facts.kept else "distil"
    whole = facts.train.whole(0.0)
    share = planned.total_iterations * planned.batch_size / len(facts.train.tokens)
    return {kind: Amount(pieces=planned.total_iterations, units=share * whole.units, others=share * whole.others)}


def _writing(config: RunConfig, planned: Planned, facts: Facts) -> Iterator[Task]:
    """The student's own answers, taken to be as long as the data's."""
    spec = config.on_policy
    if spec is None:
        return
    asked = facts.train.asked
    steps = [min(spec.max_new_tokens, reference) for reference in asked.references]
    distils = schedule(config).distils
    visits = sum(epoch.visits for epoch, asks in zip(planned.epochs, distils, strict=True) if asks)
    share = spec.student_fraction * visits / len(asked.prompts)
    amount = answering(asked.prompts, steps, spec.batch_size) * share
    yield Task(phase="train", kind="write_student", amount=amount)


def _asking(phase: Phase, facts: Facts) -> Iterator[Task]:
    """The teacher's body over all samples, for states to keep."""
    yield _loading(phase, "load_teacher")
    yield Task(phase=phase, kind="teach", amount=facts.train.scoring)


def _beside_the_steps(config: RunConfig, planned: Planned, facts: Facts) -> Iterator[Task]:
    """Loading, validation and sealing of one training of the student."""
    yield _loading("train", "load_student")
    if facts.validation.prompts:
        yield Task(phase="train", kind="score_student", amount=facts.validation.lengths.scoring * facts.validations)
        if (asked := _asked_at_validation(config, facts.validation)) is not None:
            answers = _answers(config, asked, None) * facts.validations
            yield Task(phase="train", kind="answer_student", amount=answers)
        yield Task(
            phase="train",
            kind="seal",
            amount=Amount(pieces=facts.validations, units=facts.validations * facts.trained_bytes),
        )
    yield from _saving(config, "train", planned.total_iterations, facts.trained_bytes)
    yield _sealing("train", facts.student_bytes)


def _asked_at_validation(config: RunConfig, rows: Questions) -> Questions | None:
    """Those that are answered; None for none."""
    if config.evaluation.validation_metric != "ce":
        return rows
    pinned = config.evaluation.pinned_rows
    return replace(rows, prompts=rows.prompts[:pinned], references=rows.references[:pinned]) if pinned else None


def _evaluating(config: RunConfig, facts: Facts) -> Iterator[Task]:
    trained = 1 + len(config.evaluation.baselines)
    yield _loading("evaluate", "load_teacher")
    yield Task(phase="evaluate", kind="score_teacher", amount=facts.test.lengths.scoring)
    yield Task(phase="evaluate", kind="answer_teacher", amount=_answers(config, facts.test, facts.teacher_said))
    yield Task(phase="evaluate", kind="load_student", amount=Amount(pieces=1 + trained))
    yield Task(phase="evaluate", kind="score_student", amount=facts.test.lengths.scoring * (1 + trained))
    yield Task(phase="evaluate", kind="answer_student", amount=_answers(config, facts.test, facts.student_said))
    yield Task(phase="evaluate", kind="answer_student", amount=_answers(config, facts.test, None) * trained)
    bound = config.evaluation.generation.max_new_tokens
    for suite in facts.suites:
        yield Task(phase="evaluate", kind="answer_teacher", amount=_suite(suite, facts.teacher_said, bound))
        yield Task(phase="evaluate", kind="answer_student", amount=_suite(suite, facts.student_said, bound))
        yield Task(phase="evaluate", kind="answer_student", amount=_suite(suite, None, bound) * trained)


def _suite(suite: SuiteQuestions, said: int | None, bound: int) -> Amount:
    """Answers as long as the references, or as may be of a model that was heard not to end within `bound` steps."""
    endless = said is not None and said >= bound
    steps = [suite.most if endless else min(suite.most, reference) for reference in suite.references]
    return answering(suite.prompts, steps, suite.batch_size) * suite.repeats


def _answers(config: RunConfig, asked: Questions, said: int | None) -> Amount:
    """Answers of `said` decoding steps each, or as long as the references are."""
    most = config.evaluation.generation.max_new_tokens
    steps = [min(most, reference if said is None else said) for reference in asked.references]
    return answering(asked.prompts, steps, config.evaluation.generation.batch_size)


def _loading(phase: Phase, kind: Kind) -> Task:
    return Task(phase=phase, kind=kind, amount=Amount(pieces=1))


def _sealing(phase: Phase, size_bytes: int) -> Task:
    return Task(phase=phase, kind="seal", amount=Amount(pieces=1, units=size_bytes))


def _saving(config: RunConfig, phase: Phase, steps: int, weight_bytes: int) -> Iterator[Task]:
    """The training states that are sealed on the way."""
    saves = steps // config.checkpoints.every_steps
    size = saves * weight_bytes * STATE_BYTES / WEIGHT_BYTES
    yield Task(phase=phase, kind="seal", amount=Amount(pieces=saves, units=size))
