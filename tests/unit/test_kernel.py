"""The fused loss against float64 autograd of its definition on whole logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cpd_engine import projection
from cpd_engine.divergences import divergence
from cpd_engine.kernel import token_cross_entropies, token_entropies, token_losses
from cpd_engine.objective import Objective, Taught, TopK
from cpd_engine.projection import Head, Workspace

# Ids beyond two narrow blocks of them; token counts of no chunk, a whole one, and more than two with a rest that is no whole tile either.
STUDENT, TEACHER, VOCABULARY, PADDED = 12, 20, 531, 540
TOKENS = 37
COUNTS = (1, 256, 525)
# Every divergence, abkd with each of its limits.
EVERY: list[tuple[str, dict[str, float]]] = [
    ("kld", {}),
    ("rkl", {}),
    ("jsd", {"beta": 0.3}),
    ("tvd", {}),
    ("skl", {"beta": 0.1}),
    ("srkl", {"beta": 0.1}),
    ("bdl", {"lam": 0.9}),
    ("pmtd", {}),
    ("taid", {}),
    ("abkd", {"alpha": 0.2, "beta": 0.7}),
    ("abkd", {"alpha": 0.0, "beta": 0.7}),
    ("abkd", {"alpha": 0.2, "beta": 0.0}),
    ("abkd", {"alpha": 0.4, "beta": -0.4}),
    ("abkd", {"alpha": 0.0, "beta": 0.0}),
]


@dataclasses.dataclass(frozen=True)
class Problem:
    student_ND: Tensor
    head: Head
    targets_N: Tensor
    teacher: Taught


def _problem(dtype: torch.dtype = torch.float64, *, seed: int = 0, tokens: int = TOKENS, **head: Any) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    student = Head(
        weight_WD=normal(PADDED, STUDENT).requires_grad_(),
        bias_W=normal(PADDED).requires_grad_(),
        vocabulary=VOCABULARY,
        **head,
    )
    return Problem(
        student_ND=normal(tokens, STUDENT).requires_grad_(),
        head=student,
        targets_N=torch.randint(VOCABULARY, (tokens,), generator=generator),
        teacher=Taught(
            hidden_ND=normal(tokens, TEACHER), head=Head(weight_WD=normal(PADDED + 4, TEACHER), vocabulary=VOCABULARY)
        ),
    )


def _logits(hidden_ND: Tensor, head: Head) -> Tensor:
    bias_V = None if head.bias_W is None else head.bias_W[: head.vocabulary]
    logits_NV = head.scale * functional.linear(hidden_ND, head.weight_WD[: head.vocabulary], bias_V)
    return logits_NV if head.soft_cap is None else head.soft_cap * torch.tanh(logits_NV / head.soft_cap)


def _dense(problem: Problem, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, on whole logits: METHOD section 4."""
    student_NV = _logits(problem.student_ND, problem.head)
    ce = functional.cross_entropy(student_NV, problem.targets_N, reduction="sum")
    if not objective.distils:
        return objective.alpha * ce, ce, torch.zeros_like(ce)
    teacher_NV = _logits(problem.teacher.hidden_ND, problem.teacher.head)
    per_token = divergence(
        objective.divergence, student_NV, teacher_NV, temperature=objective.temperature, **objective.parameters
    )
    kd = objective.kd_scale * per_token.sum()
    return objective.alpha * ce + (1 - objective.alpha) * kd, ce, kd


def _leaves(problem: Problem) -> tuple[Tensor, ...]:
    assert problem.head.bias_W is not None
    return problem.student_ND, problem.head.weight_WD, problem.head.bias_W


def _assert_fused_equals_dense(problem: Problem, objective: Objective) -> None:
    found = token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher)
    wanted = _dense(problem, objective)
    for value, reference in zip((found.loss, found.ce, found.kd), wanted, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(found.loss, _leaves(problem))
    expected = torch.autograd.grad(wanted[0], _leaves(problem))
    for gradient, reference in zip(gradients, expected, strict=True):
        # Of the divergences only abkd's limits without bound have gradients above 1.
        largest = max(1.0, float(reference.abs().max()))
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-10 * largest)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and tiles of any processor, small enough that there are several."""
    monkeypatch.setattr(projection, "_BLOCK_IDS", 256)
    monkeypatch.setattr(projection, "_TILE_NUMBERS", 8 * VOCABULARY)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("tokens", COUNTS)
@pytest.mark.parametrize(("case", "alpha", "tau"), [*product(EVERY, (0.0, 0.3), (1.0, 1.7))])
def test_losses_and_gradients_equal_the_dense_ones(
    case: tuple[str, dict[str, float]], alpha: float, tau: float, tokens: int
) -> None:
    name, constants = case
    objective = Objective(divergence=name, alpha=alpha, temperature=tau, mixing=0.4, constants=constants)
    _assert_fused_equals_dense(_problem(tokens=tokens), objective)


@pytest.mark.parametrize("head", [{"scale": 0.25}, {"soft_cap": 3.0}, {"scale": 0.5, "soft_cap": 2.0}])
@pytest.mark.parametrize("name", ["pmtd", "kld", "sft"])
def test_a_heads_scale_and_soft_cap_reach_loss_and_gradient(head: dict[str, Any], name: str) -> None:
    objective = Objective(divergence=name, alpha=0.3, temperature=1.7, mixing=0.4)
    _assert_fused_equals_dense(_problem(**head), objective)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective(divergence="pmtd", alpha=0.3, mixing=1.0),
        Objective(divergence="pmtd", alpha=0.3, mixing=0.0),
        Objective(divergence="pmtd", alpha=0.3, mixing=0.5, detach_target=True),
        Objective(divergence="kld", alpha=0.3, temperature=2.0, tau_squared=False),
    ],
    ids=["cross-entropy", "dead", "unmixed", "detached", "without tau²"],
)
def test_the_special_cases_equal_the_dense_loss(objective: Objective) -> None:
    _assert_fused_equals_dense(_problem(), objective)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(EVERY),
    tokens=st.integers(1, 20),
    spread=st.floats(0.1, 20.0),
    mixing=st.floats(0.0, 0.99),
    tau=st.floats(0.5, 4.0),
    seed=st.integers(0, 99),
)
def test_any_logits_give_the_dense_gradient(
    case: tuple[str, dict[str, float]], tokens: int, spread: float, mixing: float, tau: float, seed: int
) -> None:
    problem = _problem(seed=seed, tokens=tokens)
    with torch.no_grad():
        problem.head.weight_WD.mul_(spread)
    objective = Objective(divergence=case[0], alpha=0.3, temperature=tau, mixing=mixing, constants=case[1])
    found = token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher)
    wanted = _dense(problem, objective)[0]
    torch.testing.assert_close(found.loss, wanted, rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(found.loss, problem.student_ND)
    (reference,) = torch.autograd.grad(wanted, problem.student_ND)
    torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-8 * float(reference.abs().max()) + 1e-10)


def test_extreme_logits_give_finite_gradients_in_float32() -> None:
    problem = _problem(torch.float32)
    with torch.no_grad():
        problem.head.weight_WD.mul_(60.0)
        problem.teacher.head.weight_WD.mul_(60.0)
    for name, constants in EVERY:
        if constants.get("beta", 1.0) < 0.0 or constants.get("alpha") == constants.get("beta") == 0.0:
            continue  # those limits grow without bound by definition
        objective = Objective(divergence=name, alpha=0.3, temperature=1.3, mixing=0.4, constants=constants)
        found = token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher)
        gradients = torch.autograd.grad(found.loss, _leaves(problem))
        assert all(torch.isfinite(tensor).all() for tensor in (found.loss, *gradients)), name


def test_float32_is_near_float64() -> None:
    objective = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.5)
    narrow, exact = _problem(torch.float32), _problem()
    found = token_losses(narrow.student_ND, narrow.head, narrow.targets_N, objective, teacher=narrow.teacher)
    wanted = token_losses(exact.student_ND, exact.head, exact.targets_N, objective, teacher=exact.teacher)
    torch.testing.assert_close(found.loss.double(), wanted.loss, rtol=1e-5, atol=0)
    for gradient, reference in zip(
        torch.autograd.grad(found.loss, _leaves(narrow)), torch.autograd.grad(wanted.loss, _leaves(exact)), strict=True
    ):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-4)


def test_under_autocast_products_are_bf16_and_the_gradient_keeps_its_parameters_dtype() -> None:
    objective = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.5)
    mixed, exact = _problem(torch.float32), _problem()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_losses(mixed.student_ND.bfloat16(), mixed.head, mixed.targets_N, objective, teacher=mixed.teacher)
    assert found.loss.dtype == found.ce_N.dtype == torch.float32
    rounded = mixed.student_ND.bfloat16().float()
    wide = token_losses(rounded, mixed.head, mixed.targets_N, objective, teacher=mixed.teacher)
    assert float((found.ce_N - wide.ce_N).abs().max()) > 1e-3
    wanted = token_losses(exact.student_ND, exact.head, exact.targets_N, objective, teacher=exact.teacher)
    torch.testing.assert_close(found.loss.double(), wanted.loss, rtol=2e-2, atol=0)
    gradients = torch.autograd.grad(found.loss, _leaves(mixed))
    for gradient, reference in zip(gradients, torch.autograd.grad(wanted.loss, _leaves(exact)), strict=True):
        assert gradient.dtype == torch.float32
        assert float((gradient.double() - reference).norm() / reference.norm()) < 0.03


def test_rows_of_the_head_beyond_the_vocabulary_change_nothing_and_get_no_gradient() -> None:
    problem = _problem()
    plain = token_losses(problem.student_ND, problem.head, problem.targets_N, Objective()).loss
    (gradient,) = torch.autograd.grad(plain, problem.head.weight_WD)
    assert torch.equal(gradient[VOCABULARY:], torch.zeros_like(gradient[VOCABULARY:]))
    with torch.no_grad():
        problem.head.weight_WD[VOCABULARY:] = 3.0
    assert torch.equal(token_losses(problem.student_ND, problem.head, problem.targets_N, Objective()).loss, plain)


def test_the_loss_is_scaled_before_and_behind() -> None:
    problem = _problem()
    objective = Objective(divergence="kld", alpha=0.3)

    def gradients(scale: float, factor: float) -> tuple[Tensor, ...]:
        found = token_losses(
            problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher, scale=scale
        )
        return torch.autograd.grad(found.loss * factor, _leaves(problem))

    for inside, outside in zip(gradients(0.25, 1.0), gradients(1.0, 0.25), strict=True):
        torch.testing.assert_close(inside, outside, rtol=1e-12, atol=1e-15)


def test_a_frozen_head_gets_no_gradient_and_leaves_that_of_the_states_alone() -> None:
    problem = _problem()
    (wanted,) = torch.autograd.grad(
        token_losses(problem.student_ND, problem.head, problem.targets_N, Objective()).loss, problem.student_ND
    )
    assert problem.head.bias_W is not None
    frozen = dataclasses.replace(
        problem.head, weight_WD=problem.head.weight_WD.detach(), bias_W=problem.head.bias_W.detach()
    )
    (found,) = torch.autograd.grad(
        token_losses(problem.student_ND, frozen, problem.targets_N, Objective()).loss, problem.student_ND
    )
    assert torch.equal(found, wanted)


def test_no_token_is_no_loss_and_a_gradient_of_zero() -> None:
    problem = _problem(tokens=0)
    found = token_losses(
        problem.student_ND,
        problem.head,
        problem.targets_N,
        Objective(divergence="kld", alpha=0.3),
        teacher=problem.teacher,
    )
    assert found.loss == 0.0
    assert all(not gradient.any() for gradient in torch.autograd.grad(found.loss, _leaves(problem)))


def test_buffers_kept_from_another_call_change_nothing() -> None:
    kept = Workspace()
    for seed, tokens in ((1, 50), (0, TOKENS)):
        problem = _problem(seed=seed, tokens=tokens)
        objective = Objective(divergence="pmtd", alpha=0.3, temperature=1.2, mixing=0.4)
        with_kept, fresh = (
            token_losses(
                problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher, workspace=space
            )
            for space in (kept, None)
        )
        assert torch.equal(with_kept.loss, fresh.loss)
        for one, other in zip(
            torch.autograd.grad(with_kept.loss, _leaves(problem)),
            torch.autograd.grad(fresh.loss, _leaves(problem)),
            strict=True,
        ):
            assert torch.equal(one, other)


def test_gradients_are_given_once() -> None:
    problem = _problem()
    loss = token_losses(problem.student_ND, problem.head, problem.targets_N, Objective()).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="given once"):
        loss.backward()


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


def test_a_missing_teacher_is_refused() -> None:
    problem = _problem()
    with pytest.raises(ValueError, match="needs the teacher"):
        token_losses(problem.student_ND, problem.head, problem.targets_N, Objective(divergence="kld", alpha=0.3))


def test_cross_entropies_for_scoring_are_those_of_the_loss() -> None:
    problem = _problem()
    found = token_cross_entropies(problem.student_ND, problem.head, problem.targets_N)
    logits_NV = _logits(problem.student_ND, problem.head)
    torch.testing.assert_close(found, functional.cross_entropy(logits_NV, problem.targets_N, reduction="none"))


@pytest.mark.parametrize("tokens", COUNTS)
@pytest.mark.parametrize("head", [{}, {"scale": 0.5, "soft_cap": 2.0}])
def test_entropies_are_those_of_whole_distributions(tokens: int, head: dict[str, Any]) -> None:
    problem = _problem(tokens=tokens, **head)
    found = token_entropies(problem.student_ND, problem.head)
    wanted = torch.distributions.Categorical(logits=_logits(problem.student_ND, problem.head)).entropy()
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-10, atol=1e-12)


def _top(problem: Problem, k: int, tau: float) -> TopK:
    log_p_NV = torch.log_softmax(_logits(problem.teacher.hidden_ND, problem.teacher.head) / tau, dim=-1)
    log_p_NK, ids_NK = log_p_NV.topk(k, dim=-1)
    rest_NV = log_p_NV.scatter(1, ids_NK, -torch.inf)
    return TopK(ids_NK=ids_NK, log_p_NK=log_p_NK, log_rest_N=rest_NV.logsumexp(-1))


def _bucketed(of: Callable[..., Tensor], problem: Problem, top: TopK, objective: Objective) -> Tensor:
    """The divergence between distributions over k + 1 buckets, by autograd through the sum of the last one."""
    log_q_NV = torch.log_softmax(_logits(problem.student_ND, problem.head) / objective.temperature, dim=-1)
    log_q_NK = log_q_NV.gather(1, top.ids_NK)
    rest_N = torch.log1p(-log_q_NK.exp().sum(-1))
    log_p_NB = torch.cat([top.log_p_NK, top.log_rest_N[:, None]], dim=-1)
    return of(log_p_NB, torch.cat([log_q_NK, rest_N[:, None]], dim=-1), **objective.parameters).sum()


@pytest.mark.parametrize(("name", "constants"), [case for case in EVERY if case[0] != "taid"])
@pytest.mark.parametrize("tau", [1.0, 1.6])
def test_the_teachers_top_k_give_the_divergence_between_buckets(
    name: str, constants: dict[str, float], tau: float
) -> None:
    from cpd_engine.divergences import DIVERGENCES

    problem = _problem()
    objective = Objective(divergence=name, alpha=0.0, temperature=tau, mixing=0.4, constants=constants)
    top = _top(problem, 5, tau)
    found = token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=top)
    wanted = objective.kd_scale * _bucketed(DIVERGENCES[name], problem, top, objective)
    torch.testing.assert_close(found.kd, wanted, rtol=1e-9, atol=1e-10)
    for gradient, reference in zip(
        torch.autograd.grad(found.loss, _leaves(problem)), torch.autograd.grad(wanted, _leaves(problem)), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["kld", "rkl", "jsd", "pmtd", "tvd"])
def test_buckets_never_exceed_the_whole_divergence_and_reach_it_with_all_ids(name: str) -> None:
    problem = _problem()
    objective = Objective(divergence=name, alpha=0.0, mixing=0.4)
    whole = token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=problem.teacher).kd
    values = [
        token_losses(
            problem.student_ND, problem.head, problem.targets_N, objective, teacher=_top(problem, k, 1.0)
        ).kd.item()
        for k in (1, 4, 16, VOCABULARY - 1)
    ]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(whole.item(), rel=1e-9)


def test_taid_refuses_a_teacher_of_whom_only_the_top_is_known() -> None:
    problem = _problem()
    objective = Objective(divergence="taid", alpha=0.3, mixing=0.4)
    with pytest.raises(ValueError, match="whole logits"):
        token_losses(problem.student_ND, problem.head, problem.targets_N, objective, teacher=_top(problem, 5, 1.0))


def test_a_spent_gradient_is_written_anew_and_becomes_the_next_one() -> None:
    problem, workspace = _problem(), Workspace()
    weight_WD, objective = problem.head.weight_WD, Objective(divergence="pmtd", alpha=0.3, mixing=0.4)

    def gradient() -> Tensor:
        weight_WD.grad = None
        found = token_losses(
            problem.student_ND,
            problem.head,
            problem.targets_N,
            objective,
            teacher=problem.teacher,
            workspace=workspace,
        )
        found.loss.backward()
        assert weight_WD.grad is not None
        return weight_WD.grad

    fresh = gradient().clone()
    spent = torch.full_like(weight_WD, torch.nan, requires_grad=False)
    place = spent.data_ptr()
    workspace.keep(spent)
    del spent
    written = gradient()

    assert written.data_ptr() == place
    assert torch.equal(written, fresh)
    workspace.keep(torch.empty(3, 3))
    assert torch.equal(gradient(), fresh)


@pytest.mark.parametrize("name", ["kld", "rkl", "pmtd", "srkl"])
def test_buckets_of_a_student_that_is_sure_have_gradients_of_the_size_of_probabilities(name: str) -> None:
    """In float32 the kept ids' q sum to 1 there; 1 − Σ would leave nothing of a tail whose ids have q of 10⁻¹¹ each all the same."""
    top = _top(_problem(), 8, 1.0)
    kept_N = top.ids_NK[:, :1]

    def gradient(dtype: torch.dtype) -> Tensor:
        # The states are the logits: the head is the identity.
        states_NV = torch.zeros(TOKENS, VOCABULARY, dtype=dtype).scatter_(1, kept_N, 25.0).requires_grad_()
        head = Head(weight_WD=torch.eye(VOCABULARY, dtype=dtype), vocabulary=VOCABULARY)
        objective = Objective(divergence=name, alpha=0.0, mixing=0.4)
        loss = token_losses(states_NV, head, kept_N[:, 0], objective, teacher=top).loss
        (found,) = torch.autograd.grad(loss, states_NV)
        return found.double()

    found, exact = gradient(torch.float32), gradient(torch.float64)
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)
    assert float(found.abs().max()) < 30.0
