"""The engine's optimizer steps and scores against a padded loop with full logits that shares no code of training with it."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from benchmarks.engine.measure import Meter, sketch, weights_of
from benchmarks.engine.models import Pair, Shape, build
from benchmarks.engine.report import difference
from benchmarks.engine.setting import CPD, OPTIMIZER, Setting
from benchmarks.engine.variants import cpd, padded, scoring
from cpd_engine.learner import Learner
from cpd_engine.models.decoder import Decoder
from cpd_engine.runtime import Runtime
from cpd_engine.teacher import Teacher


def _setting(family: Literal["gpt2", "qwen2"]) -> Setting:
    pair = Pair(
        name=family,
        family=family,
        vocabulary=512,
        teacher=Shape(layers=2, hidden=128),
        student=Shape(layers=1, hidden=64),
        max_length=96,
    )
    return Setting(pair=pair, order="random", steps=2, threads=1)


def _doubled(setting: Setting, role: Literal["teacher", "student"]) -> Decoder:
    """In float64, where AdamW does not turn rounding errors of vanishing gradients into steps."""
    decoder = build(setting.pair, role, setting.seed)
    decoder.model.double()
    return decoder


def _padded_steps(setting: Setting) -> dict[str, Tensor]:
    student, teacher = _doubled(setting, "student").model, _doubled(setting, "teacher").model
    optimizer = padded.adamw(student, OPTIMIZER)
    for samples in setting.batches():
        padded.step(student, teacher, optimizer, samples, CPD)
    return weights_of(student)


def _engine_steps(setting: Setting) -> dict[str, Tensor]:
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", threads=1)
    teacher = Teacher(_doubled(setting, "teacher"), runtime)
    learner = Learner(_doubled(setting, "student"), spec=OPTIMIZER, runtime=runtime)
    for samples in setting.batches():
        learner.learn(cpd.turn(samples, CPD), teacher)
    return weights_of(learner.decoder.model)


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_cpd_moves_the_weights_as_the_padded_loop_does(family: Literal["gpt2", "qwen2"]) -> None:
    setting = _setting(family)
    before = weights_of(_doubled(setting, "student").model)

    plain = sketch(before, _padded_steps(setting))
    ours = sketch(before, _engine_steps(setting))

    assert difference(plain, ours) < 1e-8


def test_another_loss_moves_the_weights_otherwise() -> None:
    setting = _setting("gpt2")

    plain = sketch(*padded.train(setting, Meter()))
    other = sketch(*cpd.train(setting, Meter(), "cpd_kld"))

    assert difference(plain, other) > 0.1


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_samples_score_as_in_padded_batches(family: Literal["gpt2", "qwen2"]) -> None:
    setting = _setting(family)

    assert scoring.score(setting, Meter()) == pytest.approx(scoring.score_padded(setting, Meter()), rel=1e-5)


def test_the_distance_of_two_sketches_estimates_that_of_the_weights() -> None:
    generator = torch.Generator().manual_seed(5)
    before = {"a": torch.zeros(300, 70), "b": torch.zeros(50)}
    one = {name: torch.randn(w.shape, generator=generator) for name, w in before.items()}
    two = {name: w + 0.01 * torch.randn(w.shape, generator=generator) for name, w in one.items()}

    assert difference(sketch(before, one), sketch(before, two)) == pytest.approx(0.01, rel=0.4)
    assert sketch(before, one) == sketch(before, one)
