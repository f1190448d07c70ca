"""The loss from hidden states, at supervised positions only: cross-entropy and divergence in one pass, with gradients in forward.

Shapes: N supervised tokens, D hidden size (student's and teacher's differ), W rows of the head's matrix. Per token (METHOD section 4;
the paper's Eq. 6 with its sign put right):

    total = alpha · CE(tau = 1) + (1 − alpha) · tau² · D(tau)

Nothing that comes after the loss enters its gradient but a factor, so `fused` takes it together with the loss, chunk by chunk: no
[N, V] tensor ever lives, nothing is computed twice, memory does not grow with the vocabulary times the tokens, and the backward pass
only multiplies by what arrives from above.

Everything here is a sum over tokens. Whoever takes the optimizer step divides once, by the supervised tokens of the whole step, so
that no split into micro-batches changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpd_engine.fused import Gradients, losses_and_gradients
from cpd_engine.objective import Objective, Taught, TopK
from cpd_engine.projection import Head, Workspace, chunk_tokens, compute_dtype, tile_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Over N supervised tokens, in nats: loss = scale · (alpha · ce + (1 − alpha) · kd).

    `kd` has its tau² and is 0 where none is distilled. Only `loss` has a gradient. `ce_N`: the cross-entropy token by token.
    """

    loss: Tensor
    ce: Tensor
    kd: Tensor
    ce_N: Tensor


def token_losses(
    student_ND: Tensor,
    head: Head,
    targets_N: Tensor,
    objective: Objective,
    *,
    teacher: Taught | TopK | None = None,
    scale: float = 1.0,
    workspace: Workspace | None = None,
) -> Sums:
    """Loss, cross-entropy and distillation term summed over N tokens; the loss times `scale`, such as 1 / tokens of the step.

    `workspace` keeps buffers from call to call. Raises ValueError where the objective distils and there is no teacher, and for a
    divergence of whole logits (`taid`) of which only the top k are there.
    """
    if objective.distils:
        if teacher is None:
            raise ValueError(f"divergence {objective.divergence!r} needs the teacher's hidden states and head")
        if objective.divergence == "taid" and isinstance(teacher, TopK):
            raise ValueError("taid mixes whole logits; the teacher's top k do not suffice")
    known = teacher if objective.distils else None
    loss, ce, kd, ce_N = _Fused.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        student_ND, head.weight_WD, head.bias_W, head, targets_N, objective, known, scale, workspace or Workspace()
    )
    return Sums(loss=loss, ce=ce, kd=kd, ce_N=ce_N)


@torch.no_grad()
def token_cross_entropies(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, *, workspace: Workspace | None = None
) -> Tensor:
    """−log q(y) in nats for each of N tokens, float64 [N], without gradients; for scoring."""
    ce_N, _ = losses_and_gradients(
        hidden_ND,
        head,
        targets_N,
        Objective(),
        None,
        scale=1.0,
        gradients=Gradients(),
        workspace=workspace or Workspace(),
    )
    return ce_N.double()


@torch.no_grad()
def token_entropies(hidden_ND: Tensor, head: Head, *, workspace: Workspace | None = None) -> Tensor:
    """−Σ q log q in nats for each of N positions, float64 [N], without gradients; chunk by chunk, so that no [N, V] tensor lives."""
    workspace, device = workspace or Workspace(), hidden_ND.device
    wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
    found_N = torch.empty(len(hidden_ND), dtype=torch.float64, device=device)
    narrow, chunk = head.to(compute_dtype(head.weight_WD)), chunk_tokens(device, head.vocabulary)
    with torch.autocast(device.type, enabled=False):
        for hidden_CD, found_C in zip(hidden_ND.split(chunk), found_N.split(chunk), strict=True):
            z_CV = workspace.take("student", (len(hidden_CD), head.vocabulary), dtype=wide, device=device)
            narrow.project(hidden_CD, z_CV)
            tile = tile_tokens(device, head.vocabulary, len(z_CV))
            for z_RV, found_R in zip(z_CV.split(tile), found_C.split(tile), strict=True):
                log_q_RV = torch.log_softmax(z_RV, dim=-1)
                found_R.copy_(torch.linalg.vecdot(log_q_RV.exp(), log_q_RV)).neg_()
    return found_N


class _Fused(torch.autograd.Function):
    """Loss, CE, tau²·D and CE by token; of the loss's gradients only a factor is left to the backward pass, which may run once."""

    @staticmethod
    def forward(
        ctx: Any,
        student_ND: Tensor,
        weight_WD: Tensor,
        bias_W: Tensor | None,
        head: Head,
        targets_N: Tensor,
        objective: Objective,
        teacher: Taught | TopK | None,
        scale: float,
        workspace: Workspace,
    ) -> tuple[Tensor, ...]:
        of_hidden, of_weight, of_bias, *_ = ctx.needs_input_grad
        gradients = Gradients(
            hidden_ND=torch.empty_like(student_ND) if of_hidden else None,
            weight_WD=workspace.away(weight_WD) if of_weight else None,
            bias_W=torch.empty_like(bias_W) if of_bias and bias_W is not None else None,
        )
        ce_N, kd_N = losses_and_gradients(
            student_ND, head, targets_N, objective, teacher, scale=scale, gradients=gradients, workspace=workspace
        )
        ce, kd, alpha = ce_N.sum(), kd_N.sum(), objective.alpha
        loss = scale * (alpha * ce + (1.0 - alpha) * kd) if teacher is not None else scale * alpha * ce
        ctx.gradients = gradients
        ctx.mark_non_differentiable(ce, kd, ce_N)
        return loss, ce, kd, ce_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradients of a fused loss are given once; compute the loss again")
        found = (gradients.hidden_ND, gradients.weight_WD, gradients.bias_W)
        factor = above[0]
        # Looking at it would wait for an accelerator; on a CPU it saves a pass over the head's gradient.
        if factor.device.type != "cpu" or factor.item() != 1.0:
            for tensor in found:
                if tensor is not None:
                    tensor.mul_(factor)
        return *found, None, None, None, None, None, None
