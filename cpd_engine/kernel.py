"""The loss from hidden states: heads applied to supervised positions only, chunk by chunk, so that memory stays flat.

Shapes: B sequences, T positions, N supervised tokens, D hidden size (student's and teacher's differ), V shared vocabulary.
Per token (METHOD section 4; the paper's Eq. 6 with its sign put right):

    total = alpha · CE(tau = 1) + (1 − alpha) · tau² · D(tau)

Everything here is a sum over tokens. Whoever takes the optimizer step divides once, by the supervised tokens of the whole step, so
that no split into micro-batches changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cpd_engine.divergences import divergence
from cpd_engine.models.decoder import Decoder

# Measured as the best GEMM size on a CPU; one chunk of logits is all that ever lives: 128 × 151,665 × 4 B = 78 MB.
CHUNK_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Output projection over the shared vocabulary, with what some families do to its logits (Granite's scale, Gemma's soft cap)."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """[N, V] in float32 or wider."""
        logits_NV = functional.linear(hidden_ND.to(self.weight_VD.dtype), self.weight_VD, self.bias_V)
        logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.soft_cap is not None:
            logits_NV = torch.tanh(logits_NV / self.soft_cap) * self.soft_cap
        return logits_NV


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The loss of one optimizer step: alpha in [0, 1], temperature tau > 0, mixing t in [0, 1] (weight of the student in the target)."""

    divergence: str = "sft"
    alpha: float = 1.0
    temperature: float = 1.0
    mixing: float = 0.0
    detach_target: bool = False
    tau_squared: bool = True

    @property
    def distils(self) -> bool:
        """False where the teacher's part of the loss is identically zero, so that its forward pass can be skipped."""
        if self.divergence == "sft" or self.alpha >= 1.0:
            return False
        return self.divergence != "pmtd" or self.mixing < 1.0

    @property
    def kd_scale(self) -> float:
        """tau², which keeps the gradient's size over temperatures, unless it is switched off."""
        return self.temperature**2 if self.tau_squared else 1.0

    @property
    def parameters(self) -> dict[str, float | bool]:
        """What the divergence takes beside logits and temperature."""
        return {"t": self.mixing, "detach": self.detach_target} if self.divergence == "pmtd" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Over N supervised tokens, in nats: loss = alpha · ce + (1 − alpha) · kd. `kd` has its tau² and is 0 where none is distilled."""

    loss: Tensor
    ce: Tensor
    kd: Tensor
    tokens: int


def supervised_hidden(hidden_BTD: Tensor, supervised_BT: Tensor) -> Tensor:
    """The hidden states [N, D] that predict the supervised tokens: those one position before them."""
    at_N = torch.nonzero(supervised_BT[:, 1:].flatten(), as_tuple=True)[0]
    before_XD = hidden_BTD[:, :-1].reshape(-1, hidden_BTD.shape[-1])
    # index_select and not a boolean mask: its backward pass adds rows in a fixed order.
    return before_XD.index_select(0, at_N)


def supervised_targets(input_ids_BT: Tensor, supervised_BT: Tensor) -> Tensor:
    """The supervised tokens [N], in the order of `supervised_hidden`."""
    return input_ids_BT[:, 1:][supervised_BT[:, 1:]]


def token_losses(
    student_ND: Tensor,
    student_head: Head,
    targets_N: Tensor,
    objective: Objective,
    *,
    teacher_ND: Tensor | None = None,
    teacher_head: Head | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Sums:
    """Loss, cross-entropy and distillation term summed over N tokens.

    Each chunk's logits are made again in the backward pass. Raises ValueError when the objective distils and there is no teacher.
    """
    distils = objective.distils
    if distils and (teacher_ND is None or teacher_head is None):
        raise ValueError(f"divergence {objective.divergence!r} needs the teacher's hidden states and head")
    dtype = torch.float64 if student_ND.dtype == torch.float64 else torch.float32
    ce, kd = student_ND.new_zeros((), dtype=dtype), student_ND.new_zeros((), dtype=dtype)
    for start in range(0, len(targets_N), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        taught = teacher_ND[part] if distils and teacher_ND is not None else None
        ce_chunk, kd_chunk = checkpoint(
            _chunk_sums,
            student_ND[part],
            student_head,
            targets_N[part],
            objective,
            taught,
            teacher_head,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        ce, kd = ce + ce_chunk, kd + kd_chunk
    loss = objective.alpha * ce + (1.0 - objective.alpha) * kd if distils else objective.alpha * ce
    return Sums(loss=loss, ce=ce, kd=kd, tokens=len(targets_N))


def _chunk_sums(
    student_ND: Tensor,
    student_head: Head,
    targets_N: Tensor,
    objective: Objective,
    teacher_ND: Tensor | None,
    teacher_head: Head | None,
) -> tuple[Tensor, Tensor]:
    logits_NV = student_head.logits(student_ND)
    ce = functional.cross_entropy(logits_NV, targets_N, reduction="sum")
    if teacher_ND is None or teacher_head is None:
        return ce, torch.zeros_like(ce)
    with torch.no_grad():
        teacher_NV = teacher_head.logits(teacher_ND).to(logits_NV.dtype)
    kd_N = divergence(
        objective.divergence, logits_NV, teacher_NV, temperature=objective.temperature, **objective.parameters
    )
    return ce, objective.kd_scale * kd_N.sum()


@torch.no_grad()
def token_cross_entropies(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> Tensor:
    """−log q(y) in nats for each of N tokens, float64 [N], without gradients; for scoring."""
    parts = [
        functional.cross_entropy(
            head.logits(hidden_ND[start : start + chunk_tokens]),
            targets_N[start : start + chunk_tokens],
            reduction="none",
        ).double()
        for start in range(0, len(targets_N), chunk_tokens)
    ]
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0, dtype=torch.float64)


def head_of(decoder: Decoder) -> Head:
    """The decoder's output head. Call it anew after every optimizer step: a sliced weight is a view of the trained one."""
    weight_VD, bias_V = decoder.head
    return Head(weight_VD=weight_VD, bias_V=bias_V, scale=decoder.logit_scale, soft_cap=decoder.soft_cap)
