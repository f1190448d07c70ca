"""What a training carries beside its weights and moments, and seals with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.adaptive import AdaptiveMixing
from cpd_engine.course import Turn
from cpd_engine.events import EpochPlan
from cpd_engine.learner import StepValues
from cpd_engine.policy import OnPolicy
from cpd_engine.ranking import Ranking


class Stateful(Protocol):
    """Something whose state a resumed training needs."""

    def state(self) -> dict[str, Tensor]:
        """All of it, by name."""

    def load_state(self, state: Mapping[str, Tensor], /) -> None:
        """Inverse of `state`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Each part None where a training has none of it."""

    ranking: Ranking | None = None
    policy: OnPolicy | None = None
    mixing: AdaptiveMixing | None = None

    @property
    def parts(self) -> dict[str, Stateful]:
        """Those that are there, by the name of their file."""
        found: dict[str, Stateful | None] = {
            "ranking": self.ranking,
            "answers": self.policy,
            "mixing": self.mixing,
        }
        return {name: part for name, part in found.items() if part is not None}

    @property
    def order_for(self) -> Callable[[EpochPlan], NDArray[np.int64]] | None:
        """The order of the samples, where it does not stay the first one."""
        return self.ranking.order_for if self.ranking is not None else None

    @property
    def mixing_from(self) -> Callable[[float], float] | None:
        """A step's t from its planned one, where it is not that."""
        return self.mixing.at_least if self.mixing is not None else None

    def note(self, turn: Turn, values: StepValues) -> None:
        """What a step has seen: of the samples with the data's own responses, and of its distillation."""
        if self.ranking is not None:
            own = [place for place, sample in enumerate(turn.samples) if not sample.generated]
            self.ranking.note(turn.indices[own], [values.sample_ce[place] for place in own])
        if self.mixing is not None and turn.objective.distils:
            self.mixing.note(values.kd)
