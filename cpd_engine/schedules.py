"""What changes over the epochs or steps: temperature τ, mixing t, CE weight α, learning rate. Pure and torch-free."""

from __future__ import annotations

import math
from typing import assert_never

from cpd_engine.config import MixingSpec, OptimizerSpec


def temperatures(epochs: int, tau_1: float, tau_n: float) -> list[float]:
    """τ_e = τ_1 + (τ_n − τ_1)(e−1)/max(n−1, 1) for e = 1..n (paper 3.3)."""
    return [tau_1 + (tau_n - tau_1) * (e - 1) / max(epochs - 1, 1) for e in range(1, epochs + 1)]


def mixing(kind: str, epochs: int, *, value: float = 0.5, end: float = 1.0) -> list[float]:
    """t_e, the weight of the student in the target, for e = 1..n.

    `linear` e/n (paper 3.3), `open` (e−1)/n, `cosine` (1−cos(πe/n))/2, all times `end`; `fixed` is `value`; `step` moves with every
    optimizer step, and here stands for its value where the epoch begins if all epochs had the same length; `calibrated` follows the
    difficulty of the epoch's subset, L̄(k_e)/L̄(N), which before the profile is taken to grow evenly; `adaptive` follows the loss
    (`cpd_engine.adaptive`), and here stands for what it never falls below, the values of `linear`.
    """
    match kind:
        case "linear" | "calibrated" | "adaptive":
            return [end * (e / epochs) for e in range(1, epochs + 1)]
        case "open" | "step":
            return [end * ((e - 1) / epochs) for e in range(1, epochs + 1)]
        case "cosine":
            return [end * (1.0 - math.cos(math.pi * e / epochs)) / 2.0 for e in range(1, epochs + 1)]
        case "fixed":
            return [value] * epochs
        case _:
            raise ValueError(
                f"no mixing schedule {kind!r}; there are linear, open, cosine, calibrated, fixed, step and adaptive"
            )


def vanishes(divergence: str | None, t: float) -> bool:
    """Whether the mixed target is the student itself, so that loss and gradient are identically 0.

    t is the weight of the student for `pmtd` and of the teacher for `taid`; no other divergence mixes.
    """
    return (divergence == "pmtd" and t >= 1.0) or (divergence == "taid" and t <= 0.0)


def mixing_at(spec: MixingSpec, planned: float, step: int, total_steps: int) -> float:
    """t for optimizer step `step` (from 0) of `total_steps`: its epoch's as planned, or end·step/total for `step`: never 1."""
    return spec.end * step / total_steps if spec.kind == "step" else planned


def alphas(alpha: float | tuple[float, ...], epochs: int) -> list[float]:
    """α_e: a constant, or stages of equal length over the epochs (POCL's .3, .2, .1, 0)."""
    if isinstance(alpha, float | int):
        return [float(alpha)] * epochs
    return [alpha[(e - 1) * len(alpha) // epochs] for e in range(1, epochs + 1)]


def learning_rate(spec: OptimizerSpec, step: int, total_steps: int) -> float:
    """The rate for optimizer step `step` (from 0): linear warm-up, then cosine, linear or constant down to final_fraction."""
    warmup = math.ceil(spec.warmup_fraction * total_steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    match spec.schedule:
        case "constant":
            return spec.learning_rate
        case "linear":
            share = 1.0 - progress
        case "cosine":
            share = (1.0 + math.cos(math.pi * progress)) / 2.0
        case _:
            assert_never(spec.schedule)
    return spec.learning_rate * (spec.final_fraction + (1.0 - spec.final_fraction) * share)
