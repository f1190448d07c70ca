"""The variants of a comparison by name, and one of them run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.engine.arithmetic import scoring_flops, step_flops
from benchmarks.engine.measure import Meter, gemm_flops_per_cpu_s, sketch
from benchmarks.engine.setting import Setting
from benchmarks.engine.variants import cpd, padded, scoring

Weights = dict[str, Tensor]
Work = Callable[[Setting, Meter], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """`work` gives a fingerprint of the result, to be compared with that of the variant `like`, which computes the same plainly.

    The two flags say what of the teacher is useful arithmetic here.
    """

    work: Work
    like: str | None = None
    scores: bool = False
    teacher_body: bool = True
    teacher_head: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One variant in one setting. `added_bytes` is the peak of memory above the level before the measured steps."""

    variant: str
    pair: str
    order: str
    seed: int
    threads: int
    steps: int
    samples: int
    tokens: int
    supervised: int
    cpu_s: float
    system_s: float
    wall_s: float
    added_bytes: int
    useful_flops: int
    gemm_flops_per_s: float
    fingerprint: Sequence[float]

    @property
    def peak_share(self) -> float:
        """Useful operations a CPU second over those of a bare matrix product in the same process."""
        return self.useful_flops / self.cpu_s / self.gemm_flops_per_s


def _updates(train: Callable[[Setting, Meter], tuple[Weights, Weights]]) -> Work:
    """The work whose fingerprint is a sketch of what training added to the weights."""

    def work(setting: Setting, meter: Meter) -> tuple[float, ...]:
        return sketch(*train(setting, meter))

    return work


def _peer(setting: Setting, meter: Meter) -> tuple[Weights, Weights]:
    # Imported here, since the peer is in no extra but `bench`.
    from benchmarks.engine.variants import peer

    return peer.train(setting, meter)


VARIANTS: dict[str, Variant] = {
    "trl": Variant(work=_updates(_peer)),
    "padded": Variant(work=_updates(padded.train)),
    "cpd_kld": Variant(work=_updates(partial(cpd.train, variant="cpd_kld")), like="trl"),
    "cpd": Variant(work=_updates(partial(cpd.train, variant="cpd")), like="padded"),
    "cpd_cached": Variant(work=_updates(partial(cpd.train, variant="cpd_cached")), like="padded", teacher_body=False),
    "cpd_at_one": Variant(
        work=_updates(partial(cpd.train, variant="cpd_at_one")), teacher_body=False, teacher_head=False
    ),
    "score_padded": Variant(work=scoring.score_padded, scores=True),
    "score_cpd": Variant(work=scoring.score, like="score_padded", scores=True),
}


def measure(name: str, setting: Setting) -> Measured:
    """Run a variant here, once; its process should do nothing else."""
    torch.set_num_threads(setting.threads)
    variant, meter = VARIANTS[name], Meter()
    before = gemm_flops_per_cpu_s()
    fingerprint = variant.work(setting, meter)
    assert meter.cost is not None
    drawn = setting.drawn()
    useful = (
        scoring_flops(setting.pair, drawn)
        if variant.scores
        else step_flops(setting.pair, drawn, teacher_body=variant.teacher_body, teacher_head=variant.teacher_head)
    )
    return Measured(
        variant=name,
        pair=setting.pair.name,
        order=setting.order,
        seed=setting.seed,
        threads=setting.threads,
        steps=setting.steps,
        samples=len(drawn),
        tokens=sum(len(sample.input_ids) for sample in drawn),
        supervised=sum(sample.supervised for sample in drawn),
        cpu_s=meter.cost.cpu_s,
        system_s=meter.cost.system_s,
        wall_s=meter.cost.wall_s,
        added_bytes=meter.cost.added_bytes,
        useful_flops=useful,
        gemm_flops_per_s=max(before, gemm_flops_per_cpu_s()),
        fingerprint=fingerprint,
    )
