"""Divergences together with their slopes, for a loss that knows its own gradient: no autograd, in place, tile by tile. Pure.

With r = p/q, every divergence here but `abkd` is an f-divergence D = Σ q f(r) of teacher p and student q, and by the softmax's
Jacobian (METHOD section 4)

    ∂D/∂z_j = (q_j g(r_j) − q_j Σ_i q_i g(r_i)) / τ,    g = f − r f′.

So each function below gives D and q·g; a constant in g cancels and is left out. `abkd` is no f-divergence of r, but the same holds for
any D = Σ d(p, q) with g = ∂d/∂q. `taid` is `kld` against a target that its caller mixes.

Shapes: R tokens, V ids of the vocabulary (or any buckets that both distributions are summed over). All tensors [R, V], in float32 or
wider; divergences [R], in nats, before τ².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cpd_engine.config import BDL_DEAD_ZONE
from cpd_engine.divergences import ABKD_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Both distributions of some tokens, and two buffers of their shape. A slope may overwrite all but `q`.

    `log_p` is there for the names in `NEEDS_LOG_P` only.
    """

    p: Tensor
    q: Tensor
    log_p: Tensor
    log_q: Tensor
    mixture: Tensor
    scratch: Tensor

    def mix(self, weight: float) -> Tensor:
        """weight·p + (1−weight)·q in `mixture`. Never 0, so that its logarithm times a probability of 0 is 0."""
        torch.lerp(self.q, self.p, weight, out=self.mixture)
        return self.mixture.clamp_min_(torch.finfo(self.mixture.dtype).tiny)


# D [R] and q·g [R, V].
Slope = tuple[Tensor, Tensor]
# The divergences that read log p.
NEEDS_LOG_P = frozenset({"kld", "rkl", "jsd", "skl", "abkd"})


def _dot(left: Tensor, right: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vecdot(left, right)
    return found


def kld(tile: Tile) -> Slope:
    """f = r log r, g = −r."""
    found = _dot(tile.p, torch.sub(tile.log_p, tile.log_q, out=tile.scratch))
    return found, tile.p.neg_()


def rkl(tile: Tile) -> Slope:
    """f = −log r, g = −log r."""
    slope = torch.sub(tile.log_q, tile.log_p, out=tile.scratch).mul_(tile.q)
    return slope.sum(-1), slope


def jsd(tile: Tile, *, beta: float = 0.5) -> Slope:
    """With m = βp + (1−β)q: g = −(1−β) log(m/q)."""
    log_m = tile.mix(beta).log_()
    of_p = _dot(tile.p, torch.sub(tile.log_p, log_m, out=tile.scratch))
    slope = torch.sub(tile.log_q, log_m, out=tile.scratch).mul_(tile.q)
    of_q = slope.sum(-1)
    return beta * of_p + (1.0 - beta) * of_q, slope.mul_(1.0 - beta)


def tvd(tile: Tile) -> Slope:
    """f = ½|r−1|, g = −½ sign(r−1)."""
    apart = torch.sub(tile.p, tile.q, out=tile.scratch)
    found = 0.5 * torch.abs(apart, out=tile.mixture).sum(-1)
    return found, apart.sign_().mul_(tile.q).mul_(-0.5)


def skl(tile: Tile, *, beta: float = 0.5) -> Slope:
    """With m = βp + (1−β)q: f = r log(p/m), g = −(1−β) p/m."""
    m = tile.mix(beta)
    log_m = torch.log(m, out=tile.scratch)
    found = _dot(tile.p, torch.sub(tile.log_p, log_m, out=tile.scratch))
    return found, torch.div(tile.p, m, out=tile.scratch).mul_(tile.q).mul_(beta - 1.0)


def srkl(tile: Tile, *, beta: float = 0.5) -> Slope:
    """With m = (1−β)p + βq: f = −log(m/q), g = −log(m/q) + (1−β) p/m."""
    m = tile.mix(1.0 - beta)
    log_m = torch.log(m, out=tile.scratch)
    slope = torch.sub(tile.log_q, log_m, out=tile.scratch)
    found = _dot(tile.q, slope)
    return found, slope.add_(tile.p.div_(m), alpha=1.0 - beta).mul_(tile.q)


def bdl(tile: Tile, *, lam: float = 0.9) -> Slope:
    """With a = (1−λ)p + λq, b = λp + (1−λ)q: f = (a/q) log(a/b), g = λ log(a/b) − (1−λ)p/q + λ(p/q)(a/b)."""
    if abs(lam - 0.5) < BDL_DEAD_ZONE:
        raise ValueError(f"bdl with lam = {lam} is identically 0; take lam away from 0.5 (the paper has 0.9)")
    a = torch.lerp(tile.q, tile.p, 1.0 - lam, out=tile.scratch).clamp_min_(torch.finfo(tile.q.dtype).tiny)
    ratio = torch.div(a, tile.mix(lam), out=tile.mixture)
    log_ratio = torch.log(ratio, out=tile.log_q)
    found = _dot(a, log_ratio)
    slope = log_ratio.mul_(tile.q).addcmul_(tile.p, ratio).mul_(lam)
    return found, slope.sub_(tile.p, alpha=1.0 - lam)


def pmtd(tile: Tile, *, t: float, detach: bool = False) -> Slope:
    """With m = tq + (1−t)p: f = (m/q) log(m/q), g = t log(m/q) − (1−t)r; with the target detached g = −(1−t)r."""
    m = tile.mix(1.0 - t)
    log_ratio = torch.log(m, out=tile.scratch).sub_(tile.log_q)
    found = _dot(m, log_ratio)
    if detach:
        return found, tile.p.mul_(t - 1.0)
    return found, log_ratio.mul_(tile.q).mul_(t).sub_(tile.p, alpha=1.0 - t)


def abkd(tile: Tile, *, alpha: float = 0.2, beta: float = 0.7) -> Slope:
    """g = (q^(α+β−1) − p^α q^(β−1)) / α, and its limits at α = 0, β = 0 and α + β = 0."""
    if abs(alpha) < ABKD_LIMIT or abs(beta) < ABKD_LIMIT or abs(alpha + beta) < ABKD_LIMIT:
        return _abkd_limit(tile, alpha, beta)
    total = alpha + beta
    cross = torch.mul(tile.log_p, alpha, out=tile.scratch).add_(tile.log_q, alpha=beta).exp_()
    of_p = tile.log_p.mul_(total).exp_().sum(-1)
    power_q = tile.log_q.mul_(total).exp_()
    own = (alpha * of_p + beta * power_q.sum(-1)) / total
    return (own - cross.sum(-1)) / (alpha * beta), power_q.sub_(cross).div_(alpha)


def _abkd_limit(tile: Tile, alpha: float, beta: float) -> Slope:
    """A number below the limit counts as 0."""
    apart = torch.sub(tile.log_q, tile.log_p, out=tile.scratch)
    if abs(alpha) < ABKD_LIMIT and abs(beta) < ABKD_LIMIT:
        return 0.5 * apart.square().sum(-1), apart
    if abs(alpha) < ABKD_LIMIT:
        power_q = tile.log_q.mul_(beta).exp_()
        slope = apart.mul_(power_q)
        power_p = tile.log_p.mul_(beta).exp_()
        return (power_p.sub_(power_q).sum(-1) + beta * slope.sum(-1)) / beta**2, slope
    if abs(beta) < ABKD_LIMIT:
        power_p = tile.log_p.mul_(alpha).exp_()
        slope = tile.log_q.mul_(alpha).exp_().sub_(power_p)
        return (slope.sum(-1) - alpha * _dot(power_p, apart)) / alpha**2, slope.div_(alpha)
    ratio = apart.mul_(alpha)
    falling = torch.neg(ratio, out=tile.mixture).exp_()
    found = (ratio.sum(-1) + falling.sub_(1.0).sum(-1)) / alpha**2
    return found, falling.div_(-alpha)


SLOPES: dict[str, Callable[..., Slope]] = {
    "kld": kld,
    "rkl": rkl,
    "jsd": jsd,
    "tvd": tvd,
    "skl": skl,
    "srkl": srkl,
    "bdl": bdl,
    "pmtd": pmtd,
    "abkd": abkd,
}
