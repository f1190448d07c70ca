"""What the loss of a step is, and what is known of the teacher there. Shapes: N supervised tokens, D the teacher's hidden size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cpd_engine.projection import Head
from cpd_engine.schedules import vanishes


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The loss of one optimizer step: alpha in [0, 1], temperature tau > 0, mixing t in [0, 1] (weight of the student in the target, in
    `taid` that of the teacher).

    `constants` are the divergence's own: beta, alpha, lam (METHOD section 4).
    """

    divergence: str = "sft"
    alpha: float = 1.0
    temperature: float = 1.0
    mixing: float = 0.0
    detach_target: bool = False
    tau_squared: bool = True
    constants: dict[str, float] = field(default_factory=dict)

    @property
    def distils(self) -> bool:
        """False where the teacher's part of the loss is identically zero, so that its forward pass can be skipped."""
        if self.divergence == "sft" or self.alpha >= 1.0:
            return False
        return not vanishes(self.divergence, self.mixing)

    @property
    def kd_scale(self) -> float:
        """tau², which keeps the gradient's size over temperatures, unless it is switched off."""
        return self.temperature**2 if self.tau_squared else 1.0

    @property
    def parameters(self) -> dict[str, Any]:
        """What the divergence takes beside logits and temperature."""
        match self.divergence:
            case "pmtd":
                return {"t": self.mixing, "detach": self.detach_target}
            case "taid":
                return {"t": self.mixing}
            case _:
                return dict(self.constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The teacher's last hidden states [N, D] at the student's N tokens, and its head: exact at every temperature."""

    hidden_ND: Tensor
    head: Head

    def part(self, tokens: slice) -> Taught:
        """Some of the tokens."""
        return Taught(hidden_ND=self.hidden_ND[tokens], head=self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """What is kept of the teacher's distribution at the objective's temperature: its k likeliest ids and the rest in one bucket.

    The divergence is then taken between distributions over k + 1 buckets; of an f-divergence that is never more than the whole one.
    `ids_NK` int64; `log_p_NK` and `log_rest_N` in nats.
    """

    ids_NK: Tensor
    log_p_NK: Tensor
    log_rest_N: Tensor

    def part(self, tokens: slice) -> TopK:
        """Some of the tokens."""
        return TopK(ids_NK=self.ids_NK[tokens], log_p_NK=self.log_p_NK[tokens], log_rest_N=self.log_rest_N[tokens])
