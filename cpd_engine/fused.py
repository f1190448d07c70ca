"""One pass over chunks of tokens: cross-entropy, divergence and the loss's gradients, without autograd.

Shapes: N supervised tokens, C of them in a chunk, R of those in a tile, D hidden size, W rows of the head's matrix, V ≤ W the shared
vocabulary, K ids that are kept of a teacher. A chunk takes three products (z = h Wᵀ, then ∂h = ∂z W and ∂W += ∂zᵀ h); in between,
tile by tile, logits turn into their gradient in place:

    ∂loss/∂z = scale · (alpha · (softmax(z) − onehot(y)) + (1 − alpha) · tau² · ∂D/∂z)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cpd_engine.objective import Objective, Taught, TopK
from cpd_engine.projection import Head, Workspace, chunk_tokens, compute_dtype, tile_tokens
from cpd_engine.slopes import NEEDS_LOG_P, SLOPES, Tile

_softmax = torch.ops.aten._softmax.out
_log_softmax = torch.ops.aten._log_softmax.out


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Where ∂loss goes; None where it is not wanted. Of a head's rows beyond the vocabulary it is 0."""

    hidden_ND: Tensor | None = None
    weight_WD: Tensor | None = None
    bias_W: Tensor | None = None

    @property
    def wanted(self) -> bool:
        """Whether any is."""
        return any(tensor is not None for tensor in (self.hidden_ND, self.weight_WD, self.bias_W))


@torch.no_grad()
def losses_and_gradients(
    student_ND: Tensor,
    head: Head,
    targets_N: Tensor,
    objective: Objective,
    teacher: Taught | TopK | None,
    *,
    scale: float,
    gradients: Gradients,
    workspace: Workspace,
) -> tuple[Tensor, Tensor]:
    """CE [N] and tau²·D [N] in nats, in float32 or wider; fills `gradients` with those of scale · (alpha·CE + (1−alpha)·tau²·D)."""
    wide = torch.float64 if student_ND.dtype == torch.float64 else torch.float32
    device, vocabulary = student_ND.device, head.vocabulary
    ce_N, kd_N = (torch.zeros(len(targets_N), dtype=wide, device=device) for _ in range(2))
    _clear(gradients, vocabulary, empty=len(targets_N) == 0)
    chunk = chunk_tokens(device, vocabulary)
    tiles = _Tiles(objective, scale=scale, soft_cap=head.soft_cap, differentiate=gradients.wanted, workspace=workspace)
    # Before autocast is switched off, which asks for it.
    student = head.to(compute_dtype(head.weight_WD))
    taught = teacher.head.to(compute_dtype(teacher.head.weight_WD)) if isinstance(teacher, Taught) else None
    with torch.autocast(device.type, enabled=False):
        for start in range(0, len(targets_N), chunk):
            part = slice(start, min(start + chunk, len(targets_N)))
            shape = (part.stop - start, vocabulary)
            z_CV = workspace.take("student", shape, dtype=wide, device=device)
            student.project(student_ND[part], z_CV)
            known: Tensor | TopK | None = None
            if isinstance(teacher, Taught) and taught is not None:
                known = workspace.take("teacher", shape, dtype=wide, device=device)
                taught.project(teacher.hidden_ND[part], known, factor=1.0 / objective.temperature)
            elif isinstance(teacher, TopK):
                known = teacher.part(part)
            tiles.chunk(z_CV, targets_N[part], known, ce_N[part], kd_N[part])
            if gradients.wanted:
                _propagate(z_CV, student_ND[part], student, gradients, part)
    return ce_N, kd_N.mul_(objective.kd_scale)


def _clear(gradients: Gradients, vocabulary: int, *, empty: bool) -> None:
    """Zeros where no chunk will write: the first one overwrites the rest."""
    for tensor in (gradients.weight_WD, gradients.bias_W):
        if tensor is not None:
            tensor[0 if empty else vocabulary :].zero_()


def _propagate(z_CV: Tensor, hidden_CD: Tensor, head: Head, gradients: Gradients, part: slice) -> None:
    """∂h and ∂W of a chunk from ∂z."""
    weight_VD = head.weight_WD[: head.vocabulary]
    z_CV = z_CV.to(weight_VD.dtype)
    first = part.start == 0
    if gradients.hidden_ND is not None:
        found_CD = torch.mm(z_CV, weight_VD)
        gradients.hidden_ND[part] = found_CD.mul_(head.scale) if head.scale != 1.0 else found_CD
    if gradients.weight_WD is not None:
        inner_CD = hidden_CD.to(weight_VD.dtype) * head.scale if head.scale != 1.0 else hidden_CD.to(weight_VD.dtype)
        into_VD = gradients.weight_WD[: head.vocabulary]
        if into_VD.dtype == z_CV.dtype:
            into_VD.addmm_(z_CV.T, inner_CD, beta=0.0 if first else 1.0)
        else:
            found_VD = torch.mm(z_CV.T, inner_CD)
            into_VD.copy_(found_VD) if first else into_VD.add_(found_VD)
    if gradients.bias_W is not None:
        into_V, found_V = gradients.bias_W[: head.vocabulary], z_CV.sum(0).mul_(head.scale)
        into_V.copy_(found_V) if first else into_V.add_(found_V)


class _Tiles:
    """The element-wise part. Buffers are reused from tile to tile and from pass to pass."""

    def __init__(
        self, objective: Objective, *, scale: float, soft_cap: float | None, differentiate: bool, workspace: Workspace
    ) -> None:
        self._objective = objective
        self._scale = scale
        self._soft_cap = soft_cap
        self._differentiate = differentiate
        self._workspace = workspace

    def chunk(self, z_CV: Tensor, targets_C: Tensor, known: Tensor | TopK | None, ce_C: Tensor, kd_C: Tensor) -> None:
        """Turn the student's logits into ∂loss/∂(logits before a soft cap), where wanted. Fills CE and D of each token.

        `known` of the teacher: its logits over tau [C, V], which are overwritten, or its top k.
        """
        rows = tile_tokens(z_CV.device, z_CV.shape[1], len(z_CV))
        for start in range(0, len(z_CV), rows):
            tile = slice(start, start + rows)
            part = known.part(tile) if isinstance(known, TopK) else known[tile] if known is not None else None
            self._tile(z_CV[tile], targets_C[tile], part, ce_C[tile], kd_C[tile])

    def _tile(self, z_RV: Tensor, targets_R: Tensor, known: Tensor | TopK | None, ce_R: Tensor, kd_R: Tensor) -> None:
        tau = self._objective.temperature
        q_RV = self._buffer("q", z_RV)
        slope_RV = None
        if known is not None:
            scaled_RV = z_RV if tau == 1.0 else torch.mul(z_RV, 1.0 / tau, out=self._buffer("scratch", z_RV))
            log_q_RV = _log_softmax(scaled_RV, -1, False, out=self._buffer("log_q", z_RV))
            torch.exp(log_q_RV, out=q_RV)
            if tau == 1.0:
                ce_R.copy_(log_q_RV.gather(1, targets_R[:, None])[:, 0]).neg_()
            if isinstance(known, TopK):
                found_R, slope_RV = self._slope_of_top(known, q_RV, log_q_RV)
            else:
                found_R, slope_RV = self._slope(known, scaled_RV, q_RV, log_q_RV)
            kd_R.copy_(found_R)
        if known is None or tau != 1.0:
            log_q_RV = _log_softmax(z_RV, -1, False, out=q_RV)
            ce_R.copy_(log_q_RV.gather(1, targets_R[:, None])[:, 0]).neg_()
            if self._differentiate:
                q_RV.exp_()
        if self._differentiate:
            self._gradient(z_RV, targets_R, q_RV, slope_RV)

    def _slope(self, teacher_RV: Tensor, scaled_RV: Tensor, q_RV: Tensor, log_q_RV: Tensor) -> tuple[Tensor, Tensor]:
        """D [R] and tau·∂D/∂z [R, V]."""
        objective = self._objective
        name, parameters = objective.divergence, objective.parameters
        if name == "taid":
            # Eq. 21: t is the teacher's weight, and what the student puts into the mixture is a constant.
            teacher_RV.mul_(objective.mixing).add_(scaled_RV, alpha=1.0 - objective.mixing)
            name, parameters = "kld", {}
        known_RV = self._buffer("p", q_RV)
        if name in NEEDS_LOG_P:
            log_p_RV = _log_softmax(teacher_RV, -1, False, out=known_RV)
            p_RV = torch.exp(log_p_RV, out=teacher_RV)
        else:
            p_RV = log_p_RV = _softmax(teacher_RV, -1, False, out=known_RV)
        tile = Tile(
            p=p_RV,
            q=q_RV,
            log_p=log_p_RV,
            log_q=log_q_RV,
            mixture=self._buffer("mixture", q_RV),
            scratch=self._buffer("scratch", q_RV),
        )
        found_R, slope_RV = SLOPES[name](tile, **parameters)
        return found_R, slope_RV.addcmul_(q_RV, slope_RV.sum(-1, keepdim=True), value=-1.0)

    def _slope_of_top(self, top: TopK, q_RV: Tensor, log_q_RV: Tensor) -> tuple[Tensor, Tensor]:
        """The same between buckets: what is not kept shares one g, that of the last bucket."""
        q_RK, log_q_RK = q_RV.gather(1, top.ids_NK), log_q_RV.gather(1, top.ids_NK)
        tiny = torch.finfo(q_RV.dtype).tiny
        # Summed and not taken as 1 − Σ, of which nothing would be left where the student is sure, while the tail's own q still counts.
        tail_RV = self._buffer("mixture", q_RV).copy_(q_RV).scatter_(1, top.ids_NK, 0.0)
        rest_R1 = tail_RV.sum(-1, keepdim=True).clamp_min_(tiny)
        log_p_RB = torch.cat([top.log_p_NK, top.log_rest_N[:, None]], dim=-1).to(q_RV.dtype)
        buckets = Tile(
            p=log_p_RB.exp(),
            q=torch.cat([q_RK, rest_R1], dim=-1),
            log_p=log_p_RB,
            log_q=torch.cat([log_q_RK, rest_R1.log()], dim=-1),
            mixture=torch.empty_like(log_p_RB),
            scratch=torch.empty_like(log_p_RB),
        )
        found_R, slope_RB = SLOPES[self._objective.divergence](buckets, **self._objective.parameters)
        mean_R1 = slope_RB.sum(-1, keepdim=True)
        slope_RV = torch.mul(q_RV, slope_RB[:, -1:] / rest_R1 - mean_R1, out=log_q_RV)
        return found_R, slope_RV.scatter_(1, top.ids_NK, slope_RB[:, :-1] - q_RK * mean_R1)

    def _gradient(self, z_RV: Tensor, targets_R: Tensor, q_RV: Tensor, slope_RV: Tensor | None) -> None:
        """∂loss/∂z in place of z, from softmax(z) and tau·∂D/∂z."""
        objective, of_ce = self._objective, self._scale * self._objective.alpha
        if self._soft_cap is not None:
            damping_RV = torch.div(z_RV, self._soft_cap, out=self._buffer("damping", z_RV)).square_().neg_().add_(1.0)
        if slope_RV is None:
            torch.mul(q_RV, of_ce, out=z_RV)
        else:
            of_kd = self._scale * (1.0 - objective.alpha) * objective.kd_scale / objective.temperature
            torch.mul(slope_RV, of_kd, out=z_RV).add_(q_RV, alpha=of_ce)
        z_RV.scatter_add_(1, targets_R[:, None], torch.full_like(targets_R[:, None], -of_ce, dtype=z_RV.dtype))
        if self._soft_cap is not None:
            z_RV.mul_(damping_RV)

    def _buffer(self, name: str, like_RV: Tensor) -> Tensor:
        return self._workspace.take(name, tuple(like_RV.shape), dtype=like_RV.dtype, device=like_RV.device)
