"""What asking the teacher once saves, by arithmetic from sizes alone. Torch-free.

A visit of a sample costs, per token, 2 operations a weight forward and 4 more backward; heads count at supervised tokens only.
With kept states a visit is spared the teacher's body, never its head, which meets the states anew at every temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpd_engine.events import EpochPlan, Planned

# A pass spared must pay for writing and reading the states: under this many times fewer passes `auto` keeps none.
WORTHWHILE = 1.5
_FORWARD = 2
_TRAINING = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Parameters that meet every token (`body`: the layers) and those that meet supervised tokens (`head`: V × D)."""

    body: int
    head: int


def visits(epochs: Sequence[EpochPlan], *, samples: int, distils: bool) -> float:
    """How often a job asks the teacher about a sample, on average over all samples: r · Σ k_e / N over the epochs that need it."""
    return sum(epoch.visits for epoch in epochs if distils and epoch.alpha < 1.0 and not epoch.dead) / samples


def twin_visits(planned: Planned, baselines: Sequence[str]) -> float:
    """The same for the twins: the one that distils goes through all samples for as many steps as the student takes."""
    return planned.total_iterations * planned.batch_size / planned.samples if "kld" in baselines else 0.0


def record_bytes(*, hidden: int, dtype_bytes: int, top_k: int | None = None, temperatures: int = 0) -> int:
    """Bytes kept per supervised token: a hidden state, or k ids and logits, a sum per temperature and a cross-entropy."""
    return hidden * dtype_bytes if top_k is None else 4 * (2 * top_k + temperatures + 1)


def operations_ratio(
    *,
    supervised_fraction: float,
    teacher: Weights,
    student: Weights,
    passes_without: float,
    passes_with: float,
    trained_visits: float,
) -> float:
    """The whole job's floating-point operations without kept states ÷ those with them.

    Passes are those of the teacher's body over a sample; `supervised_fraction`: share of a sample's tokens that heads meet;
    `trained_visits`: how often the student learns from a sample. Validation and evaluation are left out.
    """
    body = _FORWARD * teacher.body
    rest = passes_without * _FORWARD * teacher.head * supervised_fraction
    rest += trained_visits * _TRAINING * (student.body + student.head * supervised_fraction)
    return (passes_without * body + rest) / (passes_with * body + rest)
