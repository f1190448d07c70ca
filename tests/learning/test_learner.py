from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cpd_engine.config import LoraSpec, OptimizerSpec
from cpd_engine.course import Turn
from cpd_engine.data.batches import Batch
from cpd_engine.data.encode import Sample
from cpd_engine.errors import Diverged, OutOfDeviceMemory
from cpd_engine.events import EpochPlan
from cpd_engine.learner import Learner
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.lora import attach_lora
from cpd_engine.objective import Objective, Taught
from cpd_engine.scoring import cross_entropies
from cpd_engine.teacher import Teacher
from tests.learning.small_models import CPU, decoder, samples

KD = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.4)
EPOCH = EpochPlan(
    epoch=1, subset_size=8, target=None, iterations=1, visits=8, temperature=1.5, mixing=0.4, alpha=0.3, dead=False
)


def _turn(chosen: Sequence[Sample], objective: Objective = KD, rate: float = 1e-3) -> Turn:
    return Turn(
        epoch=EPOCH, index=0, samples=chosen, indices=np.arange(len(chosen)), objective=objective, learning_rate=rate
    )


def _learner(folder: Path, *, micro: int | None = None, double: bool = False, **options: Any) -> Learner:
    student = decoder(folder)
    if double:
        student.model.double()
    return Learner(student, spec=OptimizerSpec(batch_size=8, micro_batch_size=micro), runtime=CPU, **options)


class _Broken(Teacher):
    """A teacher whose states are not numbers."""

    def taught(self, batch: Batch, temperature: float) -> Taught:
        found = super().taught(batch, temperature)
        return Taught(hidden_ND=found.hidden_ND * float("nan"), head=found.head)


class _Narrow(Teacher):
    """A teacher on a device that holds no more than `room` tokens at a time."""

    def __init__(self, made: Decoder, room: int) -> None:
        super().__init__(made, CPU)
        self.room = room
        self.asked: list[int] = []

    def taught(self, batch: Batch, temperature: float) -> Taught:
        self.asked.append(batch.tokens)
        if batch.tokens > self.room:
            raise torch.OutOfMemoryError(f"tried to allocate room for {batch.tokens} tokens")
        return super().taught(batch, temperature)


def _gradients(folder: Path, micro: int | None, *, double: bool, **options: Any) -> dict[str, Tensor]:
    learner = _learner(folder, micro=micro, double=double, **options)
    mentor = decoder(folder, layers=2, hidden=48, seed=5)
    if double:
        mentor.model.double()
    learner.accumulate(samples(9), KD, Teacher(mentor, CPU))
    return {name: p.grad for name, p in learner.decoder.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("double", "tolerance"), [(False, 1e-6), (True, 1e-12)])
@pytest.mark.parametrize("micro", [1, 2, 4, 8])
def test_any_split_into_micro_batches_gives_the_gradient_of_the_whole(
    tmp_path: Path, micro: int, double: bool, tolerance: float
) -> None:
    whole = _gradients(tmp_path, None, double=double)
    split = _gradients(tmp_path, micro, double=double)
    assert whole.keys() == split.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, rtol=0, atol=tolerance)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    plain = _gradients(tmp_path, 4, double=True)
    again = _gradients(tmp_path, 4, double=True, gradient_checkpointing=True)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=1e-14)


def test_masked_tokens_and_padding_change_no_gradient(tmp_path: Path) -> None:
    learner = _learner(tmp_path, double=True)
    short = samples(1)
    learner.accumulate(short, Objective(), None)
    alone = {name: p.grad.clone() for name, p in learner.decoder.model.named_parameters() if p.grad is not None}
    beside = Learner(learner.decoder, spec=OptimizerSpec(micro_batch_size=2), runtime=CPU)
    learner.decoder.model.zero_grad()
    other = samples(2, seed=3)[1]
    unsupervised = Sample(id="x", row=1, input_ids=other.input_ids, prompt_length=len(other.input_ids))
    beside.accumulate([*short, unsupervised], Objective(), None)
    for name, parameter in learner.decoder.model.named_parameters():
        if name in alone and parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, alone[name], rtol=0, atol=1e-14)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    learner = _learner(tmp_path)
    before = {name: weight.clone() for name, weight in learner.weights().items()}
    broken = _Broken(decoder(tmp_path, seed=5), CPU)
    with pytest.raises(Diverged, match=r"step 1: .*s0, s1"):
        learner.learn(_turn(samples(8)), broken)
    assert learner.step == 0
    assert all(torch.equal(before[name], weight) for name, weight in learner.weights().items())


def test_a_dead_objective_asks_no_teacher(tmp_path: Path) -> None:
    dead = Objective(divergence="pmtd", alpha=0.3, mixing=1.0)
    found = _learner(tmp_path).learn(_turn(samples(8), dead), _Broken(decoder(tmp_path, seed=5), CPU))
    assert found.kd == 0.0
    assert found.loss == pytest.approx(0.3 * found.ce)


def test_the_reported_loss_is_made_of_its_reported_parts(tmp_path: Path) -> None:
    found = _learner(tmp_path, micro=3).learn(_turn(samples(8)), Teacher(decoder(tmp_path, seed=5), CPU))
    assert found.loss == pytest.approx(0.3 * found.ce + 0.7 * found.kd, rel=1e-6)
    assert found.kd > 0.0
    assert found.tokens == sum(sample.supervised for sample in samples(8))


def test_the_teacher_never_moves_and_never_trains(tmp_path: Path) -> None:
    mentor = decoder(tmp_path, layers=2, seed=5)
    before = {name: p.clone() for name, p in mentor.model.named_parameters()}
    learner = _learner(tmp_path)
    teacher = Teacher(mentor, CPU)
    for _ in range(3):
        learner.learn(_turn(samples(8)), teacher)
    assert not mentor.model.training
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in mentor.model.named_parameters())


def test_distilling_moves_the_student_towards_the_teacher(tmp_path: Path) -> None:
    pure = Objective(divergence="kld", alpha=0.0)
    teacher = Teacher(decoder(tmp_path, layers=2, seed=5), CPU)
    learner = _learner(tmp_path)
    values = [learner.learn(_turn(samples(16), pure, rate=1e-2), teacher).kd for _ in range(60)]
    assert values[-1] < 0.2 * values[0]


def test_state_taken_and_given_back_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    teacher = Teacher(decoder(tmp_path, layers=2, seed=5), CPU)
    first = _learner(tmp_path)
    for _ in range(2):
        first.learn(_turn(samples(8)), teacher)
    weights = {name: weight.clone() for name, weight in first.weights().items()}
    optimizer = {name: tensor.clone() for name, tensor in first.optimizer_state().items()}
    first.learn(_turn(samples(8)), teacher)
    second = _learner(tmp_path)
    second.load_weights(weights)
    second.load_optimizer_state(optimizer)
    second.learn(_turn(samples(8)), teacher)
    assert all(torch.equal(weight, second.weights()[name]) for name, weight in first.weights().items())


def test_with_lora_only_the_adapter_is_trained_and_kept(tmp_path: Path) -> None:
    adapted = attach_lora(decoder(tmp_path), LoraSpec(rank=2, alpha=4.0), seed=1)
    learner = Learner(adapted, spec=OptimizerSpec(), runtime=CPU)
    frozen = {n: p.clone() for n, p in adapted.model.named_parameters() if not p.requires_grad}
    learner.learn(_turn(samples(8), Objective()), None)
    assert learner.weights()
    assert all("lora_" in name for name in learner.weights())
    assert all(torch.equal(frozen[n], p) for n, p in adapted.model.named_parameters() if n in frozen)


def test_weight_decay_spares_biases_and_norms(tmp_path: Path) -> None:
    student = decoder(tmp_path, kind="gpt2")
    learner = Learner(student, spec=OptimizerSpec(weight_decay=1.0, max_grad_norm=None), runtime=CPU)
    before = {name: weight.clone() for name, weight in learner.weights().items()}
    learner.learn(_turn(samples(8), Objective(alpha=0.0), rate=0.1), None)
    for name, weight in learner.weights().items():
        kept = 0.9 if weight.dim() >= 2 else 1.0
        torch.testing.assert_close(weight, kept * before[name])


def test_out_of_memory_halves_what_goes_through_together_and_the_step_stays_the_same(tmp_path: Path) -> None:
    chosen = samples(16)
    roomy, narrow = _learner(tmp_path), _learner(tmp_path)
    expected = roomy.learn(_turn(chosen), Teacher(decoder(tmp_path, layers=2, seed=5), CPU))
    teacher = _Narrow(decoder(tmp_path, layers=2, seed=5), room=60)
    found = narrow.learn(_turn(chosen), teacher)
    assert max(teacher.asked[-4:]) <= 60 < teacher.asked[0] == sum(len(sample.input_ids) for sample in chosen)
    assert narrow.micro_batch_tokens <= 60
    assert (found.loss, found.ce, found.kd) == pytest.approx((expected.loss, expected.ce, expected.kd), rel=1e-6)
    assert found.sample_ce == pytest.approx(expected.sample_ce, rel=1e-5)
    for name, weight in roomy.weights().items():
        torch.testing.assert_close(narrow.weights()[name], weight, rtol=0, atol=1e-5)
    before = len(teacher.asked)
    narrow.learn(_turn(chosen), teacher)
    assert max(teacher.asked[before:]) <= 60


def test_out_of_memory_with_a_single_sample_fails_and_names_the_peak(tmp_path: Path) -> None:
    with pytest.raises(OutOfDeviceMemory, match=r"single sample at a time; the peak was [0-9.]+ GiB"):
        _learner(tmp_path).learn(_turn(samples(4)), _Narrow(decoder(tmp_path, seed=5), room=3))


def test_dropout_is_drawn_again_alike_when_a_step_is_taken_again(tmp_path: Path) -> None:
    def trained(room: int, tokens: int | None) -> dict[str, Tensor]:
        adapted = attach_lora(decoder(tmp_path), LoraSpec(rank=2, alpha=4.0, dropout=0.5), seed=1)
        learner = Learner(adapted, spec=OptimizerSpec(micro_batch_tokens=tokens), runtime=CPU)
        torch.manual_seed(3)
        learner.learn(_turn(samples(8)), _Narrow(decoder(tmp_path, layers=2, seed=5), room=room))
        return {name: weight.clone() for name, weight in learner.weights().items()}

    halved = trained(room=60, tokens=None)
    planned = trained(room=10**6, tokens=sum(len(sample.input_ids) for sample in samples(8)) // 2)
    assert all(torch.equal(halved[name], weight) for name, weight in planned.items())


def test_each_samples_own_cross_entropy_is_that_before_the_step(tmp_path: Path) -> None:
    chosen = samples(9)
    learner = _learner(tmp_path, micro=2)
    before = cross_entropies(learner.decoder, chosen, runtime=CPU)
    found = learner.learn(_turn(chosen), Teacher(decoder(tmp_path, seed=5), CPU))
    assert found.sample_ce == pytest.approx((before.sums / before.tokens).tolist(), rel=1e-5)


def test_packed_and_padded_batches_take_the_same_step(tmp_path: Path) -> None:
    def trained(packs: bool) -> dict[str, Tensor]:
        student = dataclasses.replace(decoder(tmp_path), packs=packs)
        learner = Learner(student, spec=OptimizerSpec(), runtime=CPU)
        for _ in range(3):
            learner.learn(_turn(samples(9)), Teacher(decoder(tmp_path, layers=2, seed=5), CPU))
        return {name: weight.clone() for name, weight in learner.weights().items()}

    packed = trained(packs=True)
    for name, weight in trained(packs=False).items():
        torch.testing.assert_close(packed[name], weight, rtol=0, atol=1e-5)
