"""How many samples each epoch trains on, from the easy end or, in `dakd`, from the hard one (paper 3.2). Pure, torch- and numpy-free."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Share of the samples in the first epoch of `cosine`, as in DA-KD's growth ablation (Table 9, CS).
COSINE_START = 0.7
# Stages of `baby_step`, equally long and each with as many samples more (POCL's 25, 50, 75 and 100 %).
STAGES = 4
# Curricula that take the hardest samples and shrink.
HARDEST_FIRST = frozenset({"dakd"})
# How far below its target L̄(k) may lie, relative to L̄(N): so that rounding does not cost a sample.
TOLERANCE = 1e-12


class Profile(Protocol):
    """What a curriculum needs of a difficulty profile."""

    @property
    def cumulative(self) -> NDArray[np.float64]:
        """L̄(1..N), non-decreasing."""


def floor_size(samples: int, batch_size: int, min_fraction: float) -> int:
    """The smallest subset: one global batch or ⌈min_fraction·N⌉, whichever is more, but no more than there is."""
    return min(samples, max(batch_size, math.ceil(min_fraction * samples)))


def targets(profile: Profile, epochs: int, kind: str = "calibrated", *, floor: int = 1) -> list[float] | None:
    """The mean difficulty that each epoch aims at; None for curricula that only count samples.

    `calibrated`: (e/n)·L̄(N). `calibrated_affine`: from L̄(floor) to L̄(N) in equal steps, so that no target lies below the data.
    """
    means = profile.cumulative
    full = float(means[-1])
    match kind:
        case "calibrated":
            return [e / epochs * full for e in range(1, epochs + 1)]
        case "calibrated_affine":
            start = float(means[min(max(floor, 1), len(means)) - 1])
            return [start + (full - start) * (e - 1) / max(epochs - 1, 1) for e in range(1, epochs + 1)]
        case _:
            return None


def counted_sizes(samples: int, epochs: int, kind: str) -> list[int]:
    """k_e of the curricula that only count samples. Raises ValueError for any other.

    `none` N, `linear` ⌈e/n·N⌉, `cosine` from 0.7·N to N, `baby_step` ⌈s/4·N⌉ in stage s = ⌈4e/n⌉, `dakd` ⌈(n−e+1)/n·N⌉ of the hardest.
    """
    match kind:
        case "none":
            return [samples] * epochs
        case "linear":
            return [-(-e * samples // epochs) for e in range(1, epochs + 1)]
        case "baby_step":
            return [-(-_stage(e, epochs) * samples // STAGES) for e in range(1, epochs + 1)]
        case "dakd":
            return [-(-(epochs - e + 1) * samples // epochs) for e in range(1, epochs + 1)]
        case "cosine":
            return [math.ceil(_cosine_fraction(e, epochs) * samples) for e in range(1, epochs + 1)]
        case _:
            raise ValueError(
                f"no curriculum {kind!r}; there are calibrated, calibrated_affine, none, linear, cosine, baby_step and dakd"
            )


def _stage(epoch: int, epochs: int) -> int:
    """1..4, as equally long as whole epochs allow; the last epoch is in the last one."""
    return -(-epoch * STAGES // epochs)


def _cosine_fraction(epoch: int, epochs: int) -> float:
    if epoch == epochs:
        return 1.0
    return COSINE_START + (1.0 - COSINE_START) * (1.0 - math.cos(math.pi * (epoch - 1) / (epochs - 1))) / 2.0


def subset_sizes(profile: Profile, epochs: int, kind: str = "calibrated", *, floor: int = 1) -> list[int]:
    """k_1 ≤ … ≤ k_n = N. `calibrated`: k_e = min{k : L̄(k) ≥ target_e}, at least `floor`. `dakd` shrinks from N instead.

    With equal scores the printed rule gives k = 1 in every epoch, and a target under the smallest score one sample: hence k_n = N
    always, and the floor. Raises ValueError for an empty profile or an unknown kind.
    """
    means: Sequence[float] = profile.cumulative  # type: ignore[assignment]  # bisect reads a numpy array as the sequence it is
    samples = len(means)
    if samples == 0:
        raise ValueError("no sample has a finite difficulty")
    aims = targets(profile, epochs, kind, floor=floor)
    if aims is None:
        return held(counted_sizes(samples, epochs, kind), samples, floor, kind)
    slack = TOLERANCE * abs(float(means[-1]))
    return grown([bisect_left(means, aim - slack) + 1 for aim in aims], samples, floor)


def grown(sizes: Sequence[int], samples: int, floor: int) -> list[int]:
    """The sizes made to start at the floor, never shrink, and end with every sample."""
    result: list[int] = []
    for size in sizes:
        result.append(min(samples, max(size, floor, result[-1] if result else 1)))
    return [*result[:-1], samples]


def held(sizes: Sequence[int], samples: int, floor: int, kind: str) -> list[int]:
    """The sizes of a curriculum within its bounds: `grown`, and where it shrinks no smaller than the floor."""
    if kind in HARDEST_FIRST:
        return [min(samples, max(size, floor)) for size in sizes]
    return grown(sizes, samples, floor)


def iterations(size: int, repeat: int, batch_size: int) -> int:
    """Optimizer steps of an epoch over `size` samples, each taken `repeat` times: ⌈r·k/B⌉."""
    return -(-repeat * size // batch_size)


def fitted(shares: Sequence[float], total: int) -> list[int]:
    """`total` iterations dealt to the epochs in proportion to `shares`, at least one each. Raises ValueError where that is impossible."""
    epochs = len(shares)
    if total < epochs:
        raise ValueError(f"{total} optimizer steps do not give each of {epochs} epochs one")
    whole, done, ends = sum(shares), 0.0, [0]
    for e, share in enumerate(shares, start=1):
        done += share
        ends.append(min(max(round(total * done / whole), ends[-1] + 1), total - (epochs - e)))
    return [after - before for before, after in pairwise(ends)]
