"""Divergences between teacher p and student q, per token, in nats, before the factor τ². Pure.

Shapes: logits [..., T, V] → [..., T]. Both distributions are softmaxes at `temperature` over the same V ids, computed in float32 or wider.
Notation as in docs/method.md: p teacher, q student, t the weight of the student in the mixed target.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cpd_engine.config import BDL_DEAD_ZONE

# Below this, α, β and α + β of `abkd` take their continuous limits instead of dividing by almost nothing.
ABKD_LIMIT = 1e-4


def _log_mix(weight: float, log_a: Tensor, log_b: Tensor) -> Tensor:
    """log(weight·a + (1−weight)·b), exact at weight 0 and 1."""
    if weight <= 0.0:
        return log_b
    if weight >= 1.0:
        return log_a
    weights = torch.tensor([weight, 1.0 - weight], dtype=torch.float64).log().to(log_a)
    return torch.logaddexp(log_a + weights[0], log_b + weights[1])


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a || b) = Σ a log(a/b)."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _nothing(log_q: Tensor) -> Tensor:
    """Zero with a zero gradient, where a divergence vanishes identically."""
    return log_q.exp().sum(-1) * 0.0


def kld(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), Eq. 14."""
    return _kl(log_p, log_q)


def rkl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q || p). Eq. 15 prints the expectation over p, which would be −KL(p || q)."""
    return _kl(log_q, log_p)


def jsd(log_p: Tensor, log_q: Tensor, *, beta: float = 0.5) -> Tensor:
    """β KL(p || m) + (1−β) KL(q || m), m = βp + (1−β)q; β = ½ is Eq. 16, the rest GKD's convention."""
    log_m = _log_mix(beta, log_p, log_q)
    return beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_q, log_m)


def tvd(log_p: Tensor, log_q: Tensor) -> Tensor:
    """½ Σ |p − q|, Eq. 17."""
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


def skl(log_p: Tensor, log_q: Tensor, *, beta: float = 0.5) -> Tensor:
    """KL(p || βp + (1−β)q), Eq. 18."""
    return _kl(log_p, _log_mix(beta, log_p, log_q))


def srkl(log_p: Tensor, log_q: Tensor, *, beta: float = 0.5) -> Tensor:
    """KL(q || (1−β)p + βq), Eq. 19."""
    return _kl(log_q, _log_mix(beta, log_q, log_p))


def abkd(log_p: Tensor, log_q: Tensor, *, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """The α-β-divergence, Eq. 20, continued at α = 0, β = 0 and α + β = 0 by its limits (Cichocki et al. 2011)."""
    if abs(alpha) < ABKD_LIMIT and abs(beta) < ABKD_LIMIT:
        return 0.5 * (log_p - log_q).square().sum(-1)
    if abs(alpha) < ABKD_LIMIT:
        q_b = (beta * log_q).exp()
        return ((beta * log_p).exp() - q_b + q_b * beta * (log_q - log_p)).sum(-1) / beta**2
    if abs(beta) < ABKD_LIMIT:
        p_a = (alpha * log_p).exp()
        return ((alpha * log_q).exp() - p_a + p_a * alpha * (log_p - log_q)).sum(-1) / alpha**2
    total = alpha + beta
    if abs(total) < ABKD_LIMIT:
        ratio = alpha * (log_q - log_p)
        return (ratio + (-ratio).exp() - 1.0).sum(-1) / alpha**2
    cross = (alpha * log_p + beta * log_q).exp()
    own = alpha / total * (total * log_p).exp() + beta / total * (total * log_q).exp()
    return (own - cross).sum(-1) / (alpha * beta)


def bdl(log_p: Tensor, log_q: Tensor, *, lam: float = 0.9) -> Tensor:
    """KL((1−λ)p + λq || λp + (1−λ)q), Eq. 22. Raises ValueError near λ = ½, where it is identically 0."""
    if abs(lam - 0.5) < BDL_DEAD_ZONE:
        raise ValueError(f"bdl with lam = {lam} is identically 0; take lam away from 0.5 (the paper has 0.9)")
    return _kl(_log_mix(lam, log_q, log_p), _log_mix(lam, log_p, log_q))


def pmtd(log_p: Tensor, log_q: Tensor, *, t: float, detach: bool = False) -> Tensor:
    """KL(m || q), m = t·q + (1−t)·p, Eq. 2. The gradient flows through m (A.3) unless `detach`."""
    if t >= 1.0:
        return _nothing(log_q)
    log_m = _log_mix(t, log_q.detach() if detach else log_q, log_p)
    return _kl(log_m, log_q)


def sft(log_p: Tensor, log_q: Tensor) -> Tensor:  # noqa: ARG001 - every divergence takes both
    """No distillation term."""
    return _nothing(log_q)


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "kld": kld,
    "rkl": rkl,
    "jsd": jsd,
    "tvd": tvd,
    "skl": skl,
    "srkl": srkl,
    "abkd": abkd,
    "bdl": bdl,
    "pmtd": pmtd,
    "sft": sft,
}


def log_probabilities(logits_TV: Tensor, temperature: float) -> Tensor:
    """log softmax(logits/τ) over the last dimension, in float32 or wider."""
    return torch.log_softmax(_widened(logits_TV) / temperature, dim=-1)


def _widened(logits_TV: Tensor) -> Tensor:
    return logits_TV if logits_TV.dtype == torch.float64 else logits_TV.float()


def taid(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float, t: float) -> Tensor:
    """KL(softmax(((1−t)·sg(z_s) + t·z_t)/τ) || q), Eq. 21: logits are mixed and t is the weight of the *teacher*."""
    mixed = (1.0 - t) * _widened(student_logits.detach()) + t * _widened(teacher_logits)
    return _kl(log_probabilities(mixed, temperature), log_probabilities(student_logits, temperature))


def divergence(
    name: str, student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, **parameters: float | bool
) -> Tensor:
    """The divergence `name` per token [..., T], before τ². `parameters`: t, detach, beta, alpha, lam, as the function's own.

    Raises KeyError for an unknown name and ValueError for parameters at which the divergence is identically 0.
    """
    if name == "taid":
        return taid(student_logits, teacher_logits, temperature=temperature, t=parameters["t"])
    log_p = log_probabilities(teacher_logits, temperature)
    log_q = log_probabilities(student_logits, temperature)
    return DIVERGENCES[name](log_p, log_q, **parameters)
