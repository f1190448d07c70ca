"""A mixing weight that rises faster while the distillation loss falls: the rule of TAID (Shing et al., 2025).

After every step that distils, with J its distillation term and t, m as they were:

    δ = (J_before − J) / (J_before + ε),   m ← β·m + (1 − β)·δ,   t ← t + STEP · σ(m) · (1 − t)

and a step takes t no lower than its plan (`linear`) and no higher than `end`. The first J only begins the series.

The number that rises is the schedule's own: in `taid` the teacher's weight, so that a student that learns well meets the whole teacher
sooner; in `pmtd` the student's, so that such a student is taught less sooner. A plan below 1 is never carried to 1, where nothing
would be distilled: what a step adds is less than what is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

BETA = 0.99
STEP = 5e-4
_EPSILON = 1e-15


class AdaptiveMixing:
    """t, its momentum m and the last J, all part of the training's state; `end`: what t never exceeds."""

    def __init__(self, end: float) -> None:
        self._end = end
        self._t = 0.0
        self._momentum = 0.0
        self._loss = math.nan

    def at_least(self, planned: float) -> float:
        """t of the next step, whose plan is `planned`."""
        self._t = min(self._end, max(planned, self._t))
        return self._t

    def note(self, loss: float) -> None:
        """The distillation term of the step that was taken, in nats per supervised token of the whole step."""
        if not math.isnan(self._loss):
            change = (self._loss - loss) / (self._loss + _EPSILON)
            self._momentum = BETA * self._momentum + (1.0 - BETA) * change
            self._t += STEP * _sigmoid(self._momentum) * (1.0 - self._t)
        self._loss = loss

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed training needs, by name."""
        return {"adaptive": torch.tensor([self._t, self._momentum, self._loss], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self._t, self._momentum, self._loss = state["adaptive"].tolist()


def _sigmoid(x: float) -> float:
    """Without overflow on either side."""
    small = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else small) / (1.0 + small)
