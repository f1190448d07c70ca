"""The engine's own training step: `Learner.learn` with the teacher it is given in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine.measure import Meter, weights_of
from benchmarks.engine.models import build
from benchmarks.engine.setting import CPD, CPD_AT_ONE, KLD, OPTIMIZER, Setting
from cpd_engine.course import Turn
from cpd_engine.data.encode import Sample
from cpd_engine.events import EpochPlan
from cpd_engine.learner import Learner
from cpd_engine.models.decoder import Decoder
from cpd_engine.objective import Objective
from cpd_engine.projection import head_of
from cpd_engine.runtime import Runtime
from cpd_engine.states.layout import lay_out
from cpd_engine.states.once import Question
from cpd_engine.states.records import HiddenRecords
from cpd_engine.teacher import KeptTeacher, Teacher, Teaches

Variant = Literal["cpd", "cpd_cached", "cpd_kld", "cpd_at_one"]
OBJECTIVES: dict[Variant, Objective] = {
    "cpd": CPD,
    "cpd_cached": CPD,
    "cpd_kld": KLD,
    "cpd_at_one": CPD_AT_ONE,
}


def train(setting: Setting, meter: Meter, variant: Variant) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The student's weights before and after the steps."""
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", threads=setting.threads)
    objective = OBJECTIVES[variant]
    teacher = _teacher(setting, runtime, kept=variant == "cpd_cached")
    learner = Learner(build(setting.pair, "student", setting.seed), spec=OPTIMIZER, runtime=runtime)
    before = weights_of(learner.decoder.model)
    learner.learn(turn(setting.warm_up(), objective), teacher)
    meter.start()
    for samples in setting.batches():
        learner.learn(turn(samples, objective), teacher)
    meter.stop()
    return before, weights_of(learner.decoder.model)


def _teacher(setting: Setting, runtime: Runtime, *, kept: bool) -> Teaches:
    decoder = build(setting.pair, "teacher", setting.seed)
    decoder.model.requires_grad_(False)
    if kept:
        return kept_teacher(decoder, [*setting.warm_up(), *setting.drawn()], runtime)
    return Teacher(decoder, runtime)


def kept_teacher(teacher: Decoder, samples: Sequence[Sample], runtime: Runtime) -> KeptTeacher:
    """The teacher asked once about these samples; what is left of it is its head."""
    head = head_of(teacher).weight_WD
    question = Question(
        samples=samples,
        layout=lay_out(samples),
        records=HiddenRecords(width=head.shape[1], dtype=head.dtype),
        runtime=runtime,
        load=lambda: teacher,
    )
    return KeptTeacher(question.in_memory(lambda *_: None))


def turn(samples: Sequence[Sample], objective: Objective) -> Turn:
    """One optimizer step under this loss at the benchmark's constant learning rate."""
    epoch = EpochPlan(
        epoch=1,
        subset_size=len(samples),
        target=None,
        iterations=1,
        visits=len(samples),
        temperature=objective.temperature,
        mixing=objective.mixing,
        alpha=objective.alpha,
        dead=not objective.distils,
    )
    return Turn(
        epoch=epoch,
        index=0,
        samples=samples,
        indices=np.arange(len(samples)),
        objective=objective,
        learning_rate=OPTIMIZER.learning_rate,
    )
