"""Divergences against the published reference values, float64 autograd of the plain formulas, and their properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cpd_engine.divergences import DIVERGENCES, divergence

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)

REFERENCE: list[tuple[str, dict[str, Any], float]] = [
    ("kld", {}, 0.373386045),
    ("rkl", {}, 0.421967919),
    ("jsd", {}, 0.094361507),
    ("tvd", {}, 0.4),
    ("skl", {"beta": 0.5}, 0.099272782),
    ("srkl", {"beta": 0.5}, 0.089450232),
    ("abkd", {"alpha": 0.2, "beta": 0.7}, 0.454250673),
    ("abkd", {"alpha": 1.0, "beta": 1.0}, 0.13),
    ("taid", {"t": 0.4}, 0.070096884),
    ("bdl", {"lam": 0.9}, 0.255092615),
    ("pmtd", {"t": 0.25}, 0.206491092),
    ("pmtd", {"t": 0.5}, 0.092331515),
    ("pmtd", {"t": 0.75}, 0.023661907),
]
# One setting of each, for the properties that all share.
EVERY: list[tuple[str, dict[str, Any]]] = [
    ("kld", {}),
    ("rkl", {}),
    ("jsd", {"beta": 0.3}),
    ("tvd", {}),
    ("skl", {"beta": 0.1}),
    ("srkl", {"beta": 0.1}),
    ("abkd", {"alpha": 0.2, "beta": 0.7}),
    ("taid", {"t": 0.4}),
    ("bdl", {"lam": 0.9}),
    ("pmtd", {"t": 0.35}),
    ("sft", {}),
]


def random_logits(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@pytest.mark.parametrize(("name", "parameters", "expected"), REFERENCE)
def test_the_reference_distributions_give_the_reference_value(
    name: str, parameters: dict[str, Any], expected: float
) -> None:
    value = divergence(name, Q.log(), P.log(), **parameters)
    assert value.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("detach", "expected"),
    [(False, [-0.109958622, 0.036069301, 0.073889320]), (True, [-0.2, 0.05, 0.15])],
)
def test_the_gradient_of_pmtd_is_the_reference_gradient(detach: bool, expected: list[float]) -> None:
    logits = Q.log().requires_grad_()
    divergence("pmtd", logits, P.log(), t=0.5, detach=detach).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_gradient_of_pmtd_follows_a3_in_closed_form(t: float, temperature: float) -> None:
    student = random_logits(5, 17, seed=1).requires_grad_()
    teacher = random_logits(5, 17, seed=2)
    divergence("pmtd", student, teacher, temperature=temperature, t=t).sum().backward()

    q, p = torch.softmax(student.detach() / temperature, -1), torch.softmax(teacher / temperature, -1)
    m = t * q + (1 - t) * p
    kl_qm = (q * (q / m).log()).sum(-1, keepdim=True)
    expected = ((1 - t) * (q - p) - t * q * ((q / m).log() - kl_qm)) / temperature
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(t=st.floats(0, 1), scale=st.floats(0.1, 60), seed=st.integers(0, 2**31), temperature=st.floats(0.3, 5))
def test_the_gradient_of_pmtd_is_bounded_by_one_minus_t_over_tau(
    t: float, scale: float, seed: int, temperature: float
) -> None:
    student = random_logits(4, 9, seed=seed, scale=scale).requires_grad_()
    teacher = random_logits(4, 9, seed=seed + 1, scale=scale)
    divergence("pmtd", student, teacher, temperature=temperature, t=t).sum().backward()
    assert student.grad is not None
    assert student.grad.abs().max().item() <= (1 - t) / temperature + 1e-9


@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_no_divergence_is_negative_and_equal_distributions_have_none_and_no_gradient(
    name: str, parameters: dict[str, Any]
) -> None:
    teacher = random_logits(50, 23, seed=3)
    student = random_logits(50, 23, seed=4)
    assert divergence(name, student, teacher, **parameters).min().item() >= -1e-12

    same = teacher.clone().requires_grad_()
    value = divergence(name, same, teacher, **parameters)
    value.sum().backward()
    assert value.abs().max().item() < 1e-12
    assert same.grad is not None
    assert same.grad.abs().max().item() < 1e-12


F_GENERATORS: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "kld": ({}, lambda r: r * r.log()),
    "rkl": ({}, lambda r: -r.log()),
    "jsd": ({"beta": 0.3}, lambda r: 0.3 * r * (r / (0.3 * r + 0.7)).log() - 0.7 * (0.3 * r + 0.7).log()),
    "tvd": ({}, lambda r: 0.5 * (r - 1).abs()),
    "skl": ({"beta": 0.1}, lambda r: r * (r / (0.1 * r + 0.9)).log()),
    "srkl": ({"beta": 0.1}, lambda r: -(0.9 * r + 0.1).log()),
    "bdl": ({"lam": 0.9}, lambda r: (0.1 * r + 0.9) * ((0.1 * r + 0.9) / (0.9 * r + 0.1)).log()),
    "pmtd": ({"t": 0.35}, lambda r: (0.35 + 0.65 * r) * (0.35 + 0.65 * r).log()),
}


@pytest.mark.parametrize("name", F_GENERATORS)
def test_value_and_gradient_equal_those_of_the_f_divergence_of_p_over_q(name: str) -> None:
    parameters, f = F_GENERATORS[name]
    student, teacher = random_logits(6, 11, seed=5).requires_grad_(), random_logits(6, 11, seed=6)
    value = divergence(name, student, teacher, temperature=1.5, **parameters)
    value.sum().backward()

    reference = student.detach().clone().requires_grad_()
    q, p = torch.softmax(reference / 1.5, -1), torch.softmax(teacher / 1.5, -1)
    expected = (q * f(p / q)).sum(-1)
    expected.sum().backward()
    assert student.grad is not None
    assert reference.grad is not None
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(student.grad, reference.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("limit", "near"),
    [((0.0, 0.7), (2e-4, 0.7)), ((0.7, 0.0), (0.7, 2e-4)), ((0.6, -0.6), (0.6, -0.5998)), ((0.0, 0.0), (2e-4, 2e-4))],
)
def test_abkd_is_continuous_where_its_formula_divides_by_nothing(
    limit: tuple[float, float], near: tuple[float, float]
) -> None:
    student, teacher = random_logits(8, 7, seed=7, scale=1.0), random_logits(8, 7, seed=8, scale=1.0)
    at = divergence("abkd", student, teacher, alpha=limit[0], beta=limit[1])
    beside = divergence("abkd", student, teacher, alpha=near[0], beta=near[1])
    torch.testing.assert_close(at, beside, rtol=5e-3, atol=1e-4)


def test_pmtd_is_kld_at_t_zero_and_nothing_at_t_one() -> None:
    student, teacher = random_logits(9, 13, seed=9).requires_grad_(), random_logits(9, 13, seed=10)
    assert torch.equal(divergence("pmtd", student, teacher, t=0.0), divergence("kld", student, teacher))
    value = divergence("pmtd", student, teacher, t=1.0)
    value.sum().backward()
    assert value.abs().max().item() == 0.0
    assert student.grad is not None
    assert student.grad.abs().max().item() == 0.0


@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_bf16_logits_give_the_float64_value_to_a_thousandth(name: str, parameters: dict[str, Any]) -> None:
    student, teacher = random_logits(20, 301, seed=11).bfloat16(), random_logits(20, 301, seed=12).bfloat16()
    low = divergence(name, student, teacher, **parameters)
    wide = divergence(name, student.double(), teacher.double(), **parameters)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), wide, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["kld", "rkl", "pmtd", "skl", "jsd", "abkd", "taid", "bdl"])
def test_confident_logits_far_apart_stay_finite(name: str) -> None:
    parameters = dict(EVERY)[name]
    student = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    teacher = torch.tensor([[-200.0, 0.0, 200.0]])
    value = divergence(name, student, teacher, **parameters)
    value.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()


def test_bdl_near_one_half_is_refused() -> None:
    with pytest.raises(ValueError, match="identically 0"):
        divergence("bdl", Q.log(), P.log(), lam=0.5)


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(KeyError):
        divergence("wasserstein", Q.log(), P.log())


def test_every_divergence_in_the_table_is_tested_above() -> None:
    assert {name for name, _ in EVERY} == DIVERGENCES.keys() | {"taid"}
