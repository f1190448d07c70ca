"""What one training goes through: which samples, in which order, under which objective, at every optimizer step.

A pure function of the plan and the seed, so that a training resumed at any step meets the batches an unbroken one meets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from cpd_engine import schedules
from cpd_engine.config import Baseline, MixingSpec, OptimizerSpec
from cpd_engine.data.batches import epoch_batches
from cpd_engine.data.encode import Sample
from cpd_engine.events import EpochPlan, Trained
from cpd_engine.objective import Objective
from cpd_engine.presets import PRESETS
from cpd_engine.repro import derived_seed

_UNMIXED = MixingSpec(kind="fixed", value=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The parts of the loss that stay the same over the run; the defaults are plain cross-entropy."""

    divergence: str = "sft"
    constants: dict[str, float] = field(default_factory=dict)
    mixing: MixingSpec = _UNMIXED
    detach_target: bool = False
    tau_squared: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One optimizer step: its epoch, its place in it (from 0), its samples and their indices, its loss and its learning rate.

    `visits`: the sample indices of the whole epoch in the order of its steps.
    """

    epoch: EpochPlan
    index: int
    samples: Sequence[Sample]
    indices: NDArray[np.int64]
    objective: Objective
    learning_rate: float
    visits: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One training from its first step to its last. `order` holds sample indices in the curriculum's order; an epoch takes its first k_e.

    `evaluations` are the numbers of finished steps after which the model is validated.
    """

    trained: Trained
    samples: Sequence[Sample]
    order: NDArray[np.int64]
    epochs: tuple[EpochPlan, ...]
    repeat: int
    optimizer: OptimizerSpec
    method: Method
    evaluations: frozenset[int]
    seed: int

    @property
    def total_steps(self) -> int:
        """Planned optimizer steps, the horizon of the learning rate."""
        return sum(epoch.iterations for epoch in self.epochs)

    def epoch_after(self, step: int) -> int:
        """The epoch (from 1) that step number `step` (from 1) belongs to."""
        return bisect_right(self._ends(), step - 1) + 1

    def turns(
        self,
        done: int,
        order_for: Callable[[EpochPlan], NDArray[np.int64]] | None = None,
        mixing_from: Callable[[float], float] | None = None,
    ) -> Iterator[Turn]:
        """Every step after the first `done`. `order_for` is asked as an epoch begins, where the order does not stay the first one;
        `mixing_from` makes a step's t of the planned one, as the step begins."""
        for epoch, end in zip(self.epochs, self._ends(), strict=True):
            if end > done:
                first = end - epoch.iterations
                order = self.order if order_for is None else order_for(epoch)
                yield from self._epoch_turns(epoch, order, first, max(done - first, 0), mixing_from)

    def _epoch_turns(
        self,
        epoch: EpochPlan,
        order: NDArray[np.int64],
        first: int,
        done: int,
        mixing_from: Callable[[float], float] | None,
    ) -> Iterator[Turn]:
        subset = order[: epoch.subset_size]
        seed = derived_seed(self.seed, self.trained, "batches")
        size = self.optimizer.batch_size
        batches = epoch_batches(
            subset, repeat=self.repeat, batch_size=size, seed=seed, epoch=epoch.epoch, visits=epoch.visits
        )
        visits = np.concatenate(batches)
        for index, chosen in enumerate(batches):
            if index >= done:
                objective = self._objective(epoch, first + index)
                if mixing_from is not None:
                    objective = replace(objective, mixing=mixing_from(objective.mixing))
                yield Turn(
                    epoch=epoch,
                    index=index,
                    samples=[self.samples[i] for i in chosen],
                    indices=chosen,
                    objective=objective,
                    learning_rate=schedules.learning_rate(self.optimizer, first + index, self.total_steps),
                    visits=visits,
                )

    def _objective(self, epoch: EpochPlan, step: int) -> Objective:
        method = self.method
        return Objective(
            divergence=method.divergence,
            constants=method.constants,
            alpha=epoch.alpha,
            temperature=epoch.temperature,
            mixing=schedules.mixing_at(method.mixing, epoch.mixing, step, self.total_steps),
            detach_target=method.detach_target,
            tau_squared=method.tau_squared,
        )

    def _ends(self) -> list[int]:
        return list(accumulate(epoch.iterations for epoch in self.epochs))


def twin_of(student: Course, kind: Baseline) -> Course:
    """Cross-entropy alone, or with off-policy KL(teacher || student) at τ = 1 (A.4.3), over all samples, with the student's number
    of steps, learning rates and moments of validation.
    """
    alpha = PRESETS[kind]["alpha"]
    return Course(
        trained=kind,
        samples=student.samples,
        order=student.order,
        epochs=plain_epochs(len(student.order), student.optimizer.batch_size, student.total_steps, alpha=alpha),
        repeat=1,
        optimizer=student.optimizer,
        method=Method(divergence=kind),
        evaluations=student.evaluations,
        seed=student.seed,
    )


def plain_epochs(samples: int, batch_size: int, total_steps: int, *, alpha: float = 1.0) -> tuple[EpochPlan, ...]:
    """Epochs at τ = 1 over all samples until `total_steps` are done, the last one cut short where it must be."""
    whole = -(-samples // batch_size)
    return tuple(
        EpochPlan(
            epoch=index + 1,
            subset_size=samples,
            target=None,
            iterations=min(whole, total_steps - index * whole),
            visits=min(samples, (total_steps - index * whole) * batch_size),
            temperature=1.0,
            mixing=0.0,
            alpha=alpha,
            dead=False,
        )
        for index in range(-(-total_steps // whole))
    )


def evaluation_steps(epochs: Sequence[EpochPlan], every_epochs: int) -> frozenset[int]:
    """The numbers of finished steps that end every `every_epochs`th epoch, and the last one."""
    ends = list(accumulate(epoch.iterations for epoch in epochs))
    return frozenset([*ends[every_epochs - 1 :: every_epochs], ends[-1]])
