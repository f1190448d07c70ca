from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cpd_engine.divergences import divergence
from cpd_engine.kernel import (
    Head,
    Objective,
    supervised_hidden,
    supervised_targets,
    token_cross_entropies,
    token_losses,
)

TOKENS, STUDENT, TEACHER, VOCABULARY = 37, 12, 20, 53


def _problem(dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Head, Tensor, Tensor, Head]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    student_ND = normal(TOKENS, STUDENT).requires_grad_()
    student = Head(weight_VD=normal(VOCABULARY, STUDENT).requires_grad_(), bias_V=normal(VOCABULARY))
    targets_N = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    teacher_ND = normal(TOKENS, TEACHER)
    return student_ND, student, targets_N, teacher_ND, Head(weight_VD=normal(VOCABULARY, TEACHER))


def _plain_logits(hidden_ND: Tensor, head: Head) -> Tensor:
    return functional.linear(hidden_ND, head.weight_VD, head.bias_V)


def _dense(
    objective: Objective, student_NV: Tensor, targets_N: Tensor, teacher_NV: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, on whole logits: METHOD section 4."""
    ce = functional.cross_entropy(student_NV, targets_N, reduction="sum")
    extra = {"t": objective.mixing} if objective.divergence == "pmtd" else {}
    per_token = divergence(objective.divergence, student_NV, teacher_NV, temperature=objective.temperature, **extra)
    kd = objective.temperature**2 * per_token.sum()
    return objective.alpha * ce + (1 - objective.alpha) * kd, ce, kd


@pytest.mark.parametrize(("name", "chunk", "alpha"), [*product(("pmtd", "kld", "rkl"), (1, 5, 37, 128), (0.0, 0.3))])
def test_chunked_losses_and_gradients_equal_the_dense_ones(name: str, chunk: int, alpha: float) -> None:
    objective = Objective(divergence=name, alpha=alpha, temperature=1.7, mixing=0.4)
    student_ND, head, targets_N, teacher_ND, teacher = _problem(torch.float64)
    found = token_losses(
        student_ND, head, targets_N, objective, teacher_ND=teacher_ND, teacher_head=teacher, chunk_tokens=chunk
    )
    gradients = torch.autograd.grad(found.loss, (student_ND, head.weight_VD))
    student_NV = _plain_logits(student_ND, head)
    wanted = _dense(objective, student_NV, targets_N, teacher_ND @ teacher.weight_VD.T)
    expected = torch.autograd.grad(wanted[0], (student_ND, head.weight_VD))
    for value, reference in zip((found.loss, found.ce, found.kd), wanted, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-12, atol=0)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-12)


def test_bf16_hidden_states_give_float32_losses_near_those_of_float64() -> None:
    objective = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.5)
    student_ND, head, targets_N, teacher_ND, teacher = _problem(torch.bfloat16)
    found = token_losses(student_ND, head, targets_N, objective, teacher_ND=teacher_ND, teacher_head=teacher)
    assert found.loss.dtype == torch.float32
    wide = Head(weight_VD=head.weight_VD.double(), bias_V=head.bias_V.double() if head.bias_V is not None else None)
    exact = token_losses(
        student_ND.double(),
        wide,
        targets_N,
        objective,
        teacher_ND=teacher_ND.double(),
        teacher_head=Head(weight_VD=teacher.weight_VD.double()),
    )
    torch.testing.assert_close(found.loss.double(), exact.loss, rtol=1e-2, atol=0)


def test_padded_vocabulary_rows_change_nothing() -> None:
    student_ND, head, targets_N, _, _ = _problem(torch.float64)
    plain = token_losses(student_ND, head, targets_N, Objective())
    padded = torch.cat([head.weight_VD.detach(), torch.full((7, STUDENT), 3.0, dtype=torch.float64)])
    sliced = Head(weight_VD=padded[:VOCABULARY], bias_V=head.bias_V)
    assert torch.equal(token_losses(student_ND, sliced, targets_N, Objective()).loss, plain.loss)


def test_a_heads_scale_and_soft_cap_reach_the_loss() -> None:
    student_ND, head, targets_N, _, _ = _problem(torch.float64)
    capped = Head(weight_VD=head.weight_VD, bias_V=head.bias_V, scale=0.5, soft_cap=3.0)
    logits_NV = torch.tanh(0.5 * _plain_logits(student_ND, head) / 3.0) * 3.0
    wanted = functional.cross_entropy(logits_NV, targets_N, reduction="sum")
    torch.testing.assert_close(token_losses(student_ND, capped, targets_N, Objective()).ce, wanted)


def test_tau_squared_can_be_switched_off() -> None:
    student_ND, head, targets_N, teacher_ND, teacher = _problem(torch.float64)
    sums = [
        token_losses(
            student_ND,
            head,
            targets_N,
            Objective(divergence="kld", alpha=0.0, temperature=2.0, tau_squared=squared),
            teacher_ND=teacher_ND,
            teacher_head=teacher,
        ).kd
        for squared in (True, False)
    ]
    torch.testing.assert_close(sums[0], 4.0 * sums[1])


@pytest.mark.parametrize(
    ("objective", "distils"),
    [
        (Objective(divergence="pmtd", alpha=0.3, mixing=0.9), True),
        (Objective(divergence="pmtd", alpha=0.3, mixing=1.0), False),
        (Objective(divergence="kld", alpha=0.3, mixing=1.0), True),
        (Objective(divergence="kld", alpha=1.0), False),
        (Objective(divergence="sft", alpha=0.3), False),
    ],
)
def test_the_teacher_is_asked_only_where_its_term_is_not_zero(objective: Objective, distils: bool) -> None:
    assert objective.distils == distils


def test_without_the_teacher_the_term_is_zero_and_cross_entropy_keeps_its_weight() -> None:
    student_ND, head, targets_N, _, _ = _problem(torch.float64)
    dead = Objective(divergence="pmtd", alpha=0.3, mixing=1.0)
    found = token_losses(student_ND, head, targets_N, dead)
    torch.testing.assert_close(found.loss, 0.3 * found.ce)
    assert found.kd == 0.0


def test_a_missing_teacher_is_refused() -> None:
    student_ND, head, targets_N, _, _ = _problem(torch.float64)
    with pytest.raises(ValueError, match="needs the teacher"):
        token_losses(student_ND, head, targets_N, Objective(divergence="kld", alpha=0.3))


def test_supervised_positions_are_predicted_by_the_states_before_them() -> None:
    hidden_BTD = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(2, 4, 3)
    ids_BT = torch.tensor([[5, 6, 7, 8], [1, 2, 3, 0]])
    supervised_BT = torch.tensor([[False, False, True, True], [False, True, False, False]])
    assert supervised_targets(ids_BT, supervised_BT).tolist() == [7, 8, 2]
    found = supervised_hidden(hidden_BTD, supervised_BT)
    assert torch.equal(found, torch.stack([hidden_BTD[0, 1], hidden_BTD[0, 2], hidden_BTD[1, 0]]))


def test_token_cross_entropies_are_those_of_the_whole_logits() -> None:
    student_ND, head, targets_N, _, _ = _problem(torch.float64)
    logits_NV = _plain_logits(student_ND, head)
    wanted = functional.cross_entropy(logits_NV, targets_N, reduction="none")
    found = token_cross_entropies(student_ND, head, targets_N, chunk_tokens=5)
    torch.testing.assert_close(found, wanted.detach())
