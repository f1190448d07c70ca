"""The plan of a run, before anything is spent: epochs, subsets, iterations, and what a user should be warned of. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpd_engine import schedules
from cpd_engine.config import MixingSpec, RunConfig
from cpd_engine.curriculum import counted_sizes, floor_size, grown, iterations, subset_sizes, targets
from cpd_engine.errors import ConfigInvalid, NothingToLearn
from cpd_engine.events import EpochPlan, Planned, Warned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cpd_engine.profile import DifficultyProfile

CALIBRATED = frozenset({"calibrated", "calibrated_affine"})
# The difficulties that every step of training measures anyway.
RANKED_IN_TRAINING = frozenset({"ce_mean", "ce_sum"})
# Scores that differ by less than this share of their mean tell the samples apart by noise alone.
DEGENERATE = 1e-6


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
    then those of a difficulty that grows evenly from 0, and the true total lies within `bounds`."""

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
    dead = [schedules.vanishes(config.divergence, t) and a < 1.0 for t, a in zip(mixing, alphas, strict=True)]
    distils = [config.divergence != "sft" and a < 1.0 and not d for a, d in zip(alphas, dead, strict=True)]
    if not any(d or a > 0.0 for d, a in zip(distils, alphas, strict=True)):
        raise NothingToLearn(
            "no step of this run has a gradient: the CE weight alpha is 0 and the distillation term vanishes in every epoch; "
            "give alpha a positive value, or a divergence other than 'sft' with a mixing schedule that keeps some of the teacher"
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
    if config.refresh_every is not None and config.difficulty not in RANKED_IN_TRAINING:
        raise ConfigInvalid(
            f"refresh_every: training sees the student's cross-entropy only, so difficulty must be one of "
            f"{', '.join(sorted(RANKED_IN_TRAINING))} and not {config.difficulty!r}"
        )
    course, kind = schedule(config), config.curriculum or "none"
    batch, repeat = config.optimizer.batch_size, config.subset_repeat or 1
    usable = samples if profile is None else len(profile.cumulative)
    floor = floor_size(usable, batch, config.min_fraction)
    exact = kind not in CALIBRATED or profile is not None
    sizes, aims = _subsets(kind, course.epochs, usable, floor, profile)
    if profile is not None:
        course = schedule(config, _progress(profile, sizes))
    epochs = _epochs(course, sizes, aims, repeat, batch)
    planned = Planned(
        samples=usable,
        batch_size=batch,
        total_iterations=sum(epoch.iterations for epoch in epochs),
        supervised_tokens=_tokens(sizes, repeat, profile, supervised_tokens),
        epochs=epochs,
    )
    return Plan(
        planned=planned,
        floor=floor,
        exact=exact,
        bounds=_bounds(planned, floor, repeat, exact),
        warnings=tuple(_warnings(config, planned, course, floor, profile)),
    )


def _subsets(
    kind: str, epochs: int, samples: int, floor: int, profile: DifficultyProfile | None
) -> tuple[list[int], list[float] | None]:
    """Subset sizes and the targets they answer to."""
    if profile is None:
        return grown(counted_sizes(samples, epochs, "linear" if kind in CALIBRATED else kind), samples, floor), None
    return subset_sizes(profile, epochs, kind, floor=floor), targets(profile, epochs, kind, floor=floor)


def _progress(profile: DifficultyProfile, sizes: Sequence[int]) -> list[float]:
    """L̄(k_e)/L̄(N) of each epoch, between 0 and 1; 1 where nothing is difficult."""
    whole = float(profile.cumulative[-1])
    return [float(profile.cumulative[size - 1]) / whole if whole > 0.0 else 1.0 for size in sizes]


def _epochs(
    course: Schedule, sizes: Sequence[int], aims: Sequence[float] | None, repeat: int, batch: int
) -> tuple[EpochPlan, ...]:
    return tuple(
        EpochPlan(
            epoch=e + 1,
            subset_size=size,
            target=aims[e] if aims else None,
            iterations=iterations(size, repeat, batch),
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


def _tokens(
    sizes: Sequence[int],
    repeat: int,
    profile: DifficultyProfile | None,
    supervised_tokens: Sequence[int] | NDArray[np.int64] | None,
) -> int:
    """Supervised tokens of the whole run; without a profile those of an average subset of each size."""
    if supervised_tokens is None:
        return 0
    if profile is None:
        return round(repeat * sum(sizes) * sum(map(int, supervised_tokens)) / len(supervised_tokens))
    totals = profile.totals(supervised_tokens)
    return repeat * sum(int(totals[size - 1]) for size in sizes)


def _warnings(
    config: RunConfig, planned: Planned, course: Schedule, floor: int, profile: DifficultyProfile | None
) -> list[Warned]:
    found: list[Warned] = []
    dead = [e + 1 for e, is_dead in enumerate(course.dead) if is_dead]
    if dead:
        listed, living = ", ".join(map(str, dead)), "linear" if config.divergence == "taid" else "open"
        found.append(
            Warned(
                code="dead_epoch",
                message=f"the mixed target equals the student in epoch {listed} of {course.epochs}: its distillation term "
                f"is identically 0, so the teacher is skipped there; mixing '{living}' has no such epoch",
            )
        )
    if planned.samples < planned.batch_size:
        found.append(
            Warned(
                code="small_dataset",
                message=f"{planned.samples} training samples do not fill one batch of {planned.batch_size}",
            )
        )
    if profile is not None and config.curriculum in CALIBRATED:
        found.extend(_profile_warnings(config, planned, floor, profile))
    return found


def _profile_warnings(config: RunConfig, planned: Planned, floor: int, profile: DifficultyProfile) -> list[Warned]:
    found: list[Warned] = []
    mean = float(profile.cumulative[-1])
    if float(profile.scores[-1]) - float(profile.scores[0]) <= DEGENERATE * abs(mean):
        found.append(
            Warned(
                code="degenerate_profile",
                message=f"every sample has the same {config.difficulty} of {mean:.4g}: the order is that of the sample ids "
                "and the curriculum has nothing to calibrate; curriculum 'none' or 'linear' says what happens",
            )
        )
    floored = sum(epoch.subset_size == floor < planned.samples for epoch in planned.epochs[:-1])
    if config.curriculum == "calibrated" and floored:
        found.append(
            Warned(
                code="floored_subset",
                message=f"{floored} of {len(planned.epochs)} epochs train on no more than the floor of {floor} samples, because "
                "their target lies at or under the easiest samples; raise min_fraction or take 'calibrated_affine'",
            )
        )
    return found
