"""The plan of a run, before anything is spent: epochs, subsets, iterations, and what a user should be warned of. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpd_engine import schedules
from cpd_engine.config import BudgetSpec, MixingSpec, RunConfig
from cpd_engine.curriculum import counted_sizes, fitted, floor_size, held, iterations, subset_sizes, targets
from cpd_engine.errors import ConfigInvalid, NothingToLearn
from cpd_engine.events import EpochPlan, Planned, Warned
from cpd_engine.remarks import CALIBRATED, remarks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cpd_engine.profile import DifficultyProfile

# The difficulties that every step of training measures anyway.
RANKED_IN_TRAINING = frozenset({"ce_mean", "ce_sum"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the presets and the spec decide about each epoch, data or no data; lists by epoch."""

    epochs: int
    temperatures: tuple[float, ...]
    mixing: tuple[float, ...]
    alphas: tuple[float, ...]
    distils: tuple[bool, ...]
    dead: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`planned` is what the run will do. Not `exact` where a calibrated curriculum still waits for the profile: the subsets are
    then those of a difficulty that grows evenly from 0, and the true total lies within `bounds`; under a budget of tokens both are
    an estimate until then."""

    planned: Planned
    floor: int
    exact: bool
    bounds: tuple[int, int]
    warnings: tuple[Warned, ...]


def schedule(config: RunConfig, progress: Sequence[float] | None = None) -> Schedule:
    """The epochs of a resolved config. Raises NothingToLearn when no epoch has any gradient, ConfigInvalid when unresolved.

    `progress`: L̄(k_e)/L̄(N) by epoch, where the profile is known; `calibrated` mixing follows it.
    """
    if config.epochs is None or config.tau_1 is None or config.tau_n is None or config.alpha is None:
        raise ConfigInvalid("the preset must be resolved before the run is planned")
    epochs, spec = config.epochs, config.mixing or MixingSpec()
    mixing = schedules.mixing(spec.kind, epochs, value=spec.value, end=spec.end)
    if spec.kind == "calibrated" and progress is not None:
        mixing = [spec.end * share for share in progress]
    alphas = schedules.alphas(config.alpha, epochs)
    # What moves within an epoch vanishes in none: `taid` has no teacher in the very first step alone.
    still = spec.kind != "step"
    dead = [still and schedules.vanishes(config.divergence, t) and a < 1.0 for t, a in zip(mixing, alphas, strict=True)]
    distils = [config.divergence != "sft" and a < 1.0 and not d for a, d in zip(alphas, dead, strict=True)]
    if not any(d or a > 0.0 for d, a in zip(distils, alphas, strict=True)):
        raise NothingToLearn(
            "no step of this run has a gradient: the CE weight alpha is 0 and the distillation term vanishes in every epoch; "
            "give alpha a positive value, or a divergence other than 'sft' with a mixing schedule that keeps some of the teacher"
        )
    if config.on_policy is not None and not any(distils):
        raise NothingToLearn(
            "policy: of its own text the student learns what the teacher says, and no epoch asks that: alpha is 1 or the distillation "
            "term vanishes in each; lower alpha, change the mixing schedule, or take policy 'off'",
            field="policy",
        )
    return Schedule(
        epochs=epochs,
        temperatures=tuple(schedules.temperatures(epochs, config.tau_1, config.tau_n)),
        mixing=tuple(mixing),
        alphas=tuple(alphas),
        distils=tuple(distils),
        dead=tuple(dead),
    )


def plan(
    config: RunConfig,
    *,
    samples: int,
    profile: DifficultyProfile | None = None,
    supervised_tokens: Sequence[int] | NDArray[np.int64] | None = None,
) -> Plan:
    """Plan `config` (resolved) for `samples` training samples.

    `profile` makes a calibrated curriculum exact; `supervised_tokens` [N], by sample, makes the token count so (else it is 0).
    Raises NothingToLearn and ConfigInvalid.
    """
    if samples < 1:
        raise ConfigInvalid("there is no training sample to plan for")
    _require_rankable(config)
    course, kind = schedule(config), config.curriculum or "none"
    batch, repeat = config.optimizer.batch_size, config.subset_repeat or 1
    usable = samples if profile is None else len(profile.cumulative)
    floor = floor_size(usable, batch, config.min_fraction)
    exact = kind not in CALIBRATED or profile is not None
    sizes, aims = _subsets(kind, course.epochs, usable, floor, profile)
    if profile is not None:
        course = schedule(config, _progress(profile, sizes))
    means = _tokens_per_visit(sizes, profile, supervised_tokens)
    if config.budget is None:
        steps = [iterations(size, repeat, batch) for size in sizes]
    else:
        steps = _within(config.budget, sizes, means, samples=samples, batch=batch, tokens=supervised_tokens)
    visits = [n * batch if config.budget else repeat * size for n, size in zip(steps, sizes, strict=True)]
    epochs = _epochs(course, sizes, aims, steps, visits)
    planned = Planned(
        samples=usable,
        batch_size=batch,
        total_iterations=sum(steps),
        supervised_tokens=round(sum(n * mean for n, mean in zip(visits, means, strict=True))),
        epochs=epochs,
    )
    return Plan(
        planned=planned,
        floor=floor,
        exact=exact,
        bounds=_bounds(planned, floor, repeat, exact or config.budget is not None),
        warnings=tuple(remarks(config, planned, floor, profile)),
    )


def _require_rankable(config: RunConfig) -> None:
    if config.refresh_every is not None and config.difficulty not in RANKED_IN_TRAINING:
        raise ConfigInvalid(
            f"refresh_every: training sees the student's cross-entropy only, so difficulty must be one of "
            f"{', '.join(sorted(RANKED_IN_TRAINING))} and not {config.difficulty!r}",
            field="refresh_every",
        )


def _subsets(
    kind: str, epochs: int, samples: int, floor: int, profile: DifficultyProfile | None
) -> tuple[list[int], list[float] | None]:
    """Subset sizes and the targets they answer to."""
    if profile is None:
        counted = counted_sizes(samples, epochs, "linear" if kind in CALIBRATED else kind)
        return held(counted, samples, floor, kind), None
    return subset_sizes(profile, epochs, kind, floor=floor), targets(profile, epochs, kind, floor=floor)


def _progress(profile: DifficultyProfile, sizes: Sequence[int]) -> list[float]:
    """L̄(k_e)/L̄(N) of each epoch, between 0 and 1; 1 where nothing is difficult."""
    whole = float(profile.cumulative[-1])
    return [float(profile.cumulative[size - 1]) / whole if whole > 0.0 else 1.0 for size in sizes]


def _epochs(
    course: Schedule, sizes: Sequence[int], aims: Sequence[float] | None, steps: Sequence[int], visits: Sequence[int]
) -> tuple[EpochPlan, ...]:
    return tuple(
        EpochPlan(
            epoch=e + 1,
            subset_size=size,
            target=aims[e] if aims else None,
            iterations=steps[e],
            visits=visits[e],
            temperature=course.temperatures[e],
            mixing=course.mixing[e],
            alpha=course.alphas[e],
            dead=course.dead[e],
        )
        for e, size in enumerate(sizes)
    )


def _bounds(planned: Planned, floor: int, repeat: int, exact: bool) -> tuple[int, int]:
    if exact:
        return planned.total_iterations, planned.total_iterations
    full = iterations(planned.samples, repeat, planned.batch_size)
    least = iterations(floor, repeat, planned.batch_size)
    return least * (len(planned.epochs) - 1) + full, full * len(planned.epochs)


def _within(
    budget: BudgetSpec,
    sizes: Sequence[int],
    means: Sequence[float],
    *,
    samples: int,
    batch: int,
    tokens: Sequence[int] | NDArray[np.int64] | None,
) -> list[int]:
    """Iterations by epoch that use up the budget, each epoch's share as large as its subset.

    Until `tokens` are known a sample is taken to have as many as any other, and an amount of them for one pass: that estimate refuses
    nothing. Raises ConfigInvalid where an epoch would get no step.
    """
    if budget.unit == "steps":
        total = budget.amount or round((budget.epochs or 1.0) * iterations(samples, 1, batch))
    elif tokens is None:
        total = max(len(sizes), round((budget.epochs or 1.0) * iterations(samples, 1, batch)))
    else:
        amount = budget.amount or (budget.epochs or 1.0) * sum(map(int, tokens))
        per_step = batch * sum(size * mean for size, mean in zip(sizes, means, strict=True)) / sum(sizes)
        total = round(amount / per_step)
    try:
        return fitted(sizes, total)
    except ValueError as error:
        raise ConfigInvalid(f"budget: {error}; raise the budget or lower epochs", field="budget") from error


def _tokens_per_visit(
    sizes: Sequence[int], profile: DifficultyProfile | None, tokens: Sequence[int] | NDArray[np.int64] | None
) -> list[float]:
    """Supervised tokens of a sample in each epoch, on average; without a profile those of any sample, unknown ones 0."""
    if tokens is None:
        return [0.0] * len(sizes)
    if profile is None:
        return [sum(map(int, tokens)) / len(tokens)] * len(sizes)
    totals = profile.totals(tokens)
    return [float(totals[size - 1]) / size for size in sizes]
