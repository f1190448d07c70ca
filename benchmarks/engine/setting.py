"""What every variant of a benchmark shares: pair, batches, loss, optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.engine.models import Pair
from benchmarks.engine.workload import Order, batches, samples, warm_up
from cpd_engine.config import OptimizerSpec
from cpd_engine.data.encode import Sample
from cpd_engine.objective import Objective

BATCH_SIZE = 8
MAX_GRAD_NORM = 1.0
OPTIMIZER = OptimizerSpec(
    learning_rate=5e-4,
    schedule="constant",
    warmup_fraction=0.0,
    weight_decay=0.01,
    max_grad_norm=MAX_GRAD_NORM,
    batch_size=BATCH_SIZE,
)
# CPD in the middle of a run: alpha .3, t ½, tau 1.5.
CPD = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.5)
# An epoch with t = 1, in which the mixed target is the student itself.
CPD_AT_ONE = Objective(divergence="pmtd", alpha=0.3, temperature=2.0, mixing=1.0)
# What GKDTrainer minimises with lmbda 0 and beta 0: KL(teacher || student) alone.
KLD = Objective(divergence="kld", alpha=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One comparison: all its variants see the same weights and the same batches."""

    pair: Pair
    order: Order
    steps: int
    threads: int
    # Of weights, lengths and ids.
    seed: int = 1

    def drawn(self) -> list[Sample]:
        """The samples of all measured steps, in random order."""
        return samples(
            self.steps * BATCH_SIZE, vocabulary=self.pair.vocabulary, max_length=self.pair.max_length, seed=self.seed
        )

    def batches(self) -> list[list[Sample]]:
        """The measured optimizer steps."""
        return batches(self.drawn(), self.order, BATCH_SIZE)

    def warm_up(self) -> list[Sample]:
        """The step before them, which is not measured."""
        return warm_up(BATCH_SIZE, first_row=self.steps * BATCH_SIZE, vocabulary=self.pair.vocabulary, seed=self.seed)
